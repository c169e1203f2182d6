// Package sshconfig makes OpenSSH use us: it writes what belongs into
// ~/.ssh/config so that "ssh web.tucdesk", scp, rsync and git work as they are.
//
// What is written stays small and can be taken back: one file of our own,
// ~/.ssh/config.d/tucdesk, and one Include line at the top of ~/.ssh/config, since
// an Include further down would belong to the Host block above it. Everything else
// in that file stays as it is, byte for byte.
//
// By default only names that end in ".tucdesk" are ours. The bare names of machines
// are taken only when asked for, and never one with a dot: who may enrol machines
// chooses their names, and a machine that is called like somebody else's host must
// not get the connections that are meant for that one.
package sshconfig

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/operator/sshfront"
)

// block is what the drop-in says.
type block struct {
	program string   // absolute path of this program
	state   string   // folder given with --state, "" for the usual one
	names   []string // bare names of machines
}

// String is the text for ssh's configuration.
func (b block) String() string {
	hosts := append([]string{"*" + sshfront.Suffix}, b.names...)
	null := "/dev/null"
	if runtime.GOOS == "windows" {
		null = "NUL"
	}
	var s strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&s, format+"\n", args...) }
	line("# Written by \"tucdesk ssh-config\", which writes it anew or removes it.")
	if len(b.names) > 0 {
		// For -J: the ssh in front hands the name on as it stands here, and without the
		// suffix the machine in front looks it up in its own DNS, whose web may be anybody's.
		// That the front takes bare names for the team's instead would be worse: a machine
		// enrolled under the name of a host behind another one would get the sessions that
		// are meant for that host. Here only names are ours that this block lists.
		line("Host %s", strings.Join(b.names, " "))
		line("    HostName %%h%s", sshfront.Suffix)
	}
	line("Host %s", strings.Join(hosts, " "))
	line("    ProxyCommand %s -- %%h", b.command("proxy"))
	line("    KnownHostsCommand %s --known-hosts %%H", b.command("ssh-config"))
	line("    # The user that the agent runs as; ssh USER@HOST asks for another one.")
	line("    User %s", sshfront.SelfUser)
	line("    # tucdesk has checked the machine's key before ssh sees a byte; the key that")
	line("    # ssh sees is this computer's own, and nothing is asked for or stored.")
	line("    StrictHostKeyChecking yes")
	line("    UserKnownHostsFile %s", null)
	line("    GlobalKnownHostsFile %s", null)
	line("    UpdateHostKeys no")
	line("    CheckHostIP no")
	line("    CanonicalizeHostname no")
	line("    PreferredAuthentications none")
	return s.String()
}

// command is a call of ours as ssh's configuration writes it.
func (b block) command(verb string) string {
	words := []string{quote(b.program), verb}
	if b.state != "" {
		words = append(words, "--state", quote(b.state))
	}
	return strings.Join(words, " ")
}

// quotable reports whether quote can write a path so that both ssh, which splits
// KnownHostsCommand itself, and the shell, which gets ProxyCommand, read it back.
func quotable(path string) bool {
	return !strings.ContainsAny(path, "\"'\\$`\n\r") || runtime.GOOS == "windows"
}

// quote writes a path; "%" begins a token of ssh's.
func quote(path string) string {
	return `"` + strings.ReplaceAll(path, "%", "%%") + `"`
}

// bare are the names that may stand alone, sorted.
func bare(names []string) []string {
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return strings.Contains(n, ".") })
	slices.Sort(names)
	return slices.Compact(names)
}
