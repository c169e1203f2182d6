package policy

import (
	"fmt"
	"strings"
)

// refusedEnv are the environment names that no policy can allow: through each of
// them a variable chooses code that the allowed program then runs (protocol 4.3,
// attack E8). A name ending in "*" stands for all with that beginning.
var refusedEnv = [...]string{
	"LD_*", "DYLD_*", "_RLD*", "LIBPATH", "SHLIB_PATH", "GCONV_PATH", "LOCPATH", "NLSPATH", "MALLOC_*", "GLIBC_TUNABLES",
	"PATH", "IFS", "ENV", "CDPATH", "SHELL", "SHELLOPTS", "BASHOPTS", "BASH_*", "PS4", "PROMPT_COMMAND", "ZDOTDIR", "FPATH",
	"PYTHON*", "PERL*", "RUBY*", "GEM_*", "BUNDLE_*", "NODE_*", "NPM_*", "LUA_*", "PHP_*", "PHPRC", "JAVA_*", "JDK_*", "_JAVA_*",
	"CLASSPATH", "DOTNET_*", "CORECLR_*", "GIT_*", "EDITOR", "VISUAL", "PAGER", "MANPAGER", "LESS*", "BROWSER", "SUDO_*",
	"SSH_*", "RSYNC_*", "MAKEFLAGS", "MAKEFILES", "TAR_OPTIONS", "GREP_OPTIONS", "TERMINFO*", "TERMCAP", "TERMPATH", "HOME", "USER",
	"LOGNAME", "HOSTALIASES", "RES_OPTIONS", "LOCALDOMAIN", "OPENSSL_*", "SSL_*", "KRB5*", "PSMODULEPATH", "COMSPEC", "PATHEXT",
	"SYSTEMROOT", "WINDIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
}

// RefusedEnv reports whether an environment name is one of those that are
// refused whatever a policy says. Case does not matter: on Windows "Path" is PATH.
func RefusedEnv(name string) bool {
	name = strings.ToUpper(name)
	for _, refused := range refusedEnv {
		prefix, all := strings.CutSuffix(refused, "*")
		if name == refused || all && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// standardEnv may be sent when the file has no [environment]: what SSH clients
// send unasked. It says how to show text and nothing else.
var standardEnv = [...]string{
	"TERM", "COLORTERM", "NO_COLOR", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_COLLATE", "LC_MESSAGES", "LC_MONETARY",
	"LC_NUMERIC", "LC_TIME", "LC_ADDRESS", "LC_IDENTIFICATION", "LC_MEASUREMENT", "LC_NAME", "LC_PAPER", "LC_TELEPHONE",
}

// envName is a name that the file may allow.
type envName string

// UnmarshalText takes a name that no RefusedEnv covers.
func (e *envName) UnmarshalText(text []byte) error {
	s := string(text)
	switch {
	case s == "" || len(s) > maxName || !only(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"+alphabet[:26]) || s[0] >= '0' && s[0] <= '9':
		return fmt.Errorf("%q is not the name of an environment variable: write the exact name, there are no patterns", text)
	case RefusedEnv(s):
		return fmt.Errorf("%q can never be allowed: through it a variable chooses the code that runs", text)
	}
	*e = envName(s)
	return nil
}

// wrappers are programs whose purpose or common use is to run other programs or
// code given as an argument, so that allowing them with any arguments allows
// everything. The list cannot be complete, which is why a gated host asks for
// approval of every command that is not listed; it only keeps an allow-list from
// being opened by accident.
var wrappers = [...]string{
	// shells
	"sh", "bash", "rbash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "csh", "tcsh", "busybox", "toybox", "cmd", "powershell", "pwsh",
	// run a program with something changed: user, priority, terminal, namespace
	"env", "sudo", "sudoedit", "doas", "su", "runuser", "pkexec", "run0", "runas", "setpriv", "capsh", "nice", "ionice", "chrt", "taskset",
	"nohup", "timeout", "setsid", "stdbuf", "time", "watch", "flock", "script", "screen", "tmux", "unbuffer", "expect", "xargs",
	"parallel", "find", "chroot", "unshare", "nsenter", "setarch", "linux32", "linux64", "strace", "ltrace", "gdb", "start-stop-daemon",
	"systemctl", "systemd-run", "systemd-inhibit", "systemd-nspawn", "busctl", "machinectl", "sg", "newgrp", "prlimit", "choom", "bwrap", "fakeroot",
	"ip", "valgrind", "perf", "ssh-agent", "dbus-run-session", "xvfb-run", "logrotate", "visudo", "vipw", "at", "batch", "crontab", "run-parts", "ld.so", "ld-linux-x86-64.so", "ld-linux-aarch64.so",
	// interpreters with inline code
	"python", "pypy", "perl", "ruby", "node", "nodejs", "deno", "bun", "php", "lua", "luajit", "tclsh", "wish", "awk", "gawk", "mawk", "nawk", "sed",
	"ed", "ex", "vi", "vim", "view", "vimdiff", "nvim", "nano", "emacs", "less", "more", "man", "make", "gmake", "dc", "r", "rscript", "erl", "java", "mono", "dotnet", "nix", "osascript", "wscript", "cscript", "mshta", "rundll32",
	// other hosts, containers, package tools, and tools with hooks
	"ssh", "scp", "sftp", "rsync", "git", "docker", "podman", "nerdctl", "ctr", "crictl", "runc", "kubectl", "lxc", "lxc-attach", "tar", "zip",
	"socat", "nc", "ncat", "nmap", "telnet", "ftp", "tcpdump", "openvpn", "wget", "ansible", "ansible-playbook", "helm", "snap", "flatpak", "apk",
	"yum", "dnf", "zypper", "pacman", "gcc", "cc", "rpm", "dpkg", "apt", "apt-get", "pip", "npm", "npx", "cargo", "go", "psql", "mysql", "mariadb", "sqlite",
}

// harmful are well known programs that run no others, so "..." after them loads, and of
// which an option or a further argument does what nobody who lists them has in mind: each
// with what that is. The list cannot be complete either; Check warns by it.
var harmful = [...]struct{ name, does string }{
	{"journalctl", "deletes journals (--vacuum-size, --rotate) and reads any file as one (--file)"},
	{"dmesg", "empties the kernel's log (--clear)"},
	{"date", "sets the clock (--set)"}, {"hostname", "renames the machine"},
	{"sysctl", "sets what the kernel runs as root (--write kernel.core_pattern)"},
	{"ss", "closes connections of others (--kill)"},
	{"cat", "reads any file"}, {"head", "reads any file"}, {"tail", "reads any file"}, {"zcat", "reads any file"}, {"grep", "reads any file"},
	{"sort", "runs a program (--compress-program) and writes any file (--output)"}, {"split", "runs a program (--filter)"},
	{"curl", "reads, writes and sends any file (--output, --upload-file, --config)"},
	{"openssl", "loads code (-engine, -provider) and reads and writes any file"},
	{"nginx", "loads code (-g load_module, -c)"}, {"httpd", "loads code (-C LoadModule, -f)"}, {"apache2", "loads code (-C LoadModule, -f)"},
	{"mount", "mounts anything anywhere, by helpers that run others"},
	{"cp", "writes any file"}, {"mv", "replaces any file"}, {"ln", "makes links to any file"}, {"install", "writes any file"}, {"tee", "writes any file"}, {"dd", "writes any file"},
	{"rm", "deletes any file"}, {"truncate", "empties any file"}, {"chmod", "opens any file to others"}, {"chown", "gives away any file"},
}

// harm is what the program at a path does with further arguments that is on no one's
// mind, or "". It goes by the name alone, as RunsOthers does.
func harm(path string) string {
	for _, h := range harmful {
		if base(path) == h.name {
			return h.does
		}
	}
	return ""
}

// RunsOthers reports whether a path or name is that of a wrapper (protocol 4.3):
// a program that runs other programs or code from its arguments. A version or
// variant at the end ("python3.11", "ld-linux-x86-64.so.2", "vim.tiny") and ".exe"
// do not hide it.
func RunsOthers(path string) bool {
	name := strings.TrimSuffix(strings.ToLower(base(path)), ".exe")
	bare := strings.TrimRight(name, "0123456789.-")
	stem, _, _ := strings.Cut(name, ".")
	stem = strings.TrimRight(stem, "0123456789-")
	for _, w := range wrappers {
		if name == w || bare == w || stem == w {
			return true
		}
	}
	return false
}

// base returns the last element of a path of either system.
func base(path string) string {
	if i := strings.LastIndexAny(path, `/\`); i >= 0 {
		return path[i+1:]
	}
	return path
}
