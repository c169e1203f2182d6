package policy

import (
	"slices"
	"strings"
	"testing"
)

const listed = `
[[allow]]
id = "listed"
who.roles = ["operator"]
actions = ["exec"]
commands = [
  ["/usr/bin/systemctl", "restart", "nginx"],
  ["/usr/bin/lsblk", "-o", "..."],
  ["/usr/bin/env", "LC_ALL=C", "date"],
  ["/opt/tool", "", "..."],
]
`

func TestCommandsMatchExactly(t *testing.T) {
	r := load(t, listed)
	for _, good := range [][]string{
		{"/usr/bin/systemctl", "restart", "nginx"},
		{"/usr/bin/lsblk", "-o"},
		{"/usr/bin/lsblk", "-o", "NAME", "-b"},
		{"/usr/bin/env", "LC_ALL=C", "date"},
		{"/opt/tool", ""},
		{"/opt/tool", "", "x"},
	} {
		expectEffect(t, r, ask(exec(good...)), noon, Allow)
	}
	// E4: joined, split, added, empty.
	for _, bad := range [][]string{
		{"/usr/bin/systemctl"},
		{"/usr/bin/systemctl", "restart nginx"},
		{"/usr/bin/systemctl", "restart", "nginx", ""},
		{"/usr/bin/systemctl", "", "restart", "nginx"},
		{"/usr/bin/systemctl", "restart", "nginx", "sshd"},
		{"/usr/bin/systemctl", "restart", "nginx\n"},
		{"/usr/bin/systemctl", "restart", "NGINX"},
		{"/usr/bin/systemctl", "restart", "..."},
		{"/usr/bin/lsblk"},
		{"/usr/bin/env", "LC_ALL=C", "date", "x"},
		{"/usr/bin/env", "date"},
		{"/opt/tool"},
		{"/opt/tool", "x"},
		{"/usr/local/bin/systemctl", "restart", "nginx"},
	} {
		expectEffect(t, r, ask(exec(bad...)), noon, Deny)
	}
}

func TestE5ShellLineEqualToAListedCommandIsAnotherAction(t *testing.T) {
	r := load(t, listed)
	expectEffect(t, r, ask(func(q *Request) { q.Argv = [][]byte{[]byte("/usr/bin/systemctl restart nginx")} }), noon, Deny)
}

// E6: what runs is the file, and what a multi-call file does is its name.
func TestE6FileAndNameMustBothBeTheListedOnes(t *testing.T) {
	r := load(t, listed)
	run := func(file, name string) *Request {
		return ask(exec(name, "restart", "nginx"), func(q *Request) { q.File = file })
	}
	expectEffect(t, r, run("/usr/bin/systemctl", "systemctl"), noon, Allow)
	expectEffect(t, r, run("/usr/bin/systemctl", "/bin/systemctl"), noon, Allow)
	expectEffect(t, r, run("/usr/bin/systemctl", "/sbin/reboot"), noon, Deny)
	expectEffect(t, r, run("/usr/bin/busybox", "systemctl"), noon, Deny)
	expectEffect(t, r, run("/tmp/systemctl", "/usr/bin/systemctl"), noon, Deny)
}

func TestE6BlockedCommandByAnotherPath(t *testing.T) {
	r := load(t, team+"[[block]]\nid='no-rm'\nactions=['exec']\ncommands=[['/bin/rm', '...']]\n")
	for file, name := range map[string]string{
		"/usr/bin/rm": "rm", "/bin/rm": "/bin/../bin/rm", "/usr/bin/busybox": "rm", "/opt/rm": "/opt/x", "/opt/y": `C:\rm`,
	} {
		expectEffect(t, r, ask(exec(name, "-r"), func(q *Request) { q.File = file }), noon, Deny)
	}
	expectEffect(t, r, ask(exec("/usr/bin/rmdir")), noon, Allow)
}

func TestWrappersAreListedOnlyWithExactArguments(t *testing.T) {
	for _, path := range []string{
		"/usr/bin/env", "/usr/bin/sudo", "/bin/sh", "/usr/bin/bash", "/usr/bin/busybox", "/usr/bin/xargs", "/usr/bin/find", "/usr/bin/nohup",
		"/usr/bin/timeout", "/usr/bin/setsid", "/usr/bin/python3.11", "/usr/bin/perl5.36.0", "/usr/bin/lua5.4", "/usr/bin/ssh", "/usr/bin/systemd-run",
		"/usr/bin/docker", "/usr/bin/systemctl", "/usr/sbin/ip", "/usr/bin/java", "/lib64/ld-linux-x86-64.so.2", `C:\Windows\System32\cmd.exe`, `C:\x\PowerShell.EXE`, "/usr/bin/vim.tiny", "/usr/bin/python3", "/usr/bin/nice",
	} {
		if !RunsOthers(path) {
			t.Errorf("%s is not known to run other programs", path)
		}
		rule := "[[allow]]\nid='w'\nwho.roles=['operator']\nactions=['exec']\ncommands=[['" + path + "', 'a', '...']]\n"
		if _, err := Parse([]byte(head + rule)); err == nil || !strings.Contains(err.Error(), "exact arguments") {
			t.Errorf("%s with any arguments: %v", path, err)
		}
		load(t, strings.Replace(rule, ", '...'", "", 1))
		load(t, strings.NewReplacer("allow", "block", "who.roles=['operator']", "").Replace(rule))
	}
	for _, path := range []string{"/usr/bin/uptime", "/usr/bin/df", "/usr/bin/environment", "/sh/x", "/usr/bin/time-sync"} {
		if RunsOthers(path) {
			t.Errorf("%s is called a wrapper", path)
		}
	}
}

// No example may show what an option opens: a listed journalctl that took any further
// arguments deleted journals on a gated host, without the approval that the gate asks for.
func TestE1NoExampleListsACommandThatFurtherArgumentsMakeHarmful(t *testing.T) {
	all := samples(t)
	all["the package doc"], all["default, without #"] = []byte(docExample(t)), []byte(uncommented())
	for name, data := range all {
		r, err := Parse(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, f := range r.Check() {
			if strings.Contains(f.Text, "further arguments") {
				t.Errorf("%s: %s", name, f)
			}
		}
		if name == "default, without #" {
			expectEffect(t, r, ask(exec("/usr/bin/journalctl", "--unit", "nginx", "--directory=/var/log/journal", "--vacuum-size=1")), noon, NeedApproval)
		}
	}
}

func TestCheckWarnsOfProgramsThatFurtherArgumentsMakeHarmful(t *testing.T) {
	for argv, want := range map[string]bool{
		"'/usr/bin/journalctl', '-u', '...'": true, "'/usr/bin/cat', '...'": true, "'/usr/bin/sort', '...'": true, "'/usr/sbin/nginx', '...'": true,
		"'/usr/bin/journalctl', '-u', 'nginx'": false, "'/usr/bin/cat', '/etc/issue'": false,
		"'/usr/bin/df', '...'": false, "'/usr/bin/uptime', '...'": false, "'/opt/deploy', '...'": false, "'/usr/bin/catalogue', '...'": false,
	} {
		rule := "[[allow]]\nid='w'\nwho.roles=['operator']\nactions=['exec']\ncommands=[[" + argv + "]]\n"
		if got := warned(t, rule); got != want {
			t.Errorf("%s: warned %v", argv, got)
		}
		if warned(t, team+strings.NewReplacer("allow", "block", "who.roles=['operator']", "").Replace(rule)) {
			t.Errorf("%s: warned of a block", argv)
		}
	}
}

func warned(t *testing.T, rule string) bool {
	return slices.ContainsFunc(load(t, rule).Check(), func(f Finding) bool { return strings.Contains(f.Text, "further arguments") })
}

// The rendezvous cannot see the host's files: it goes by what is written, and
// the agent decides again with the real file.
func TestUnresolvedCommandGoesByItsSpelling(t *testing.T) {
	r := load(t, listed)
	try := func(name string, want Effect) {
		t.Helper()
		q := ask(exec(name, "restart", "nginx"), func(q *Request) { q.File, q.Unresolved = "", true })
		expectEffect(t, r, q, noon, want)
	}
	try("systemctl", Allow)
	try("/usr/bin/systemctl", Allow)
	try("/bin/systemctl", Deny)
	try("./systemctl", Deny)
	try("reboot", Deny)
}

func TestWindowsPaths(t *testing.T) {
	r := load(t, "[[allow]]\nid='w'\nwho.roles=['operator']\nactions=['exec']\ncommands=[['C:\\Windows\\System32\\whoami.exe']]\n")
	expectEffect(t, r, ask(exec(`C:\Windows\System32\whoami.exe`)), noon, Allow)
	expectEffect(t, r, ask(exec(`D:\Windows\System32\whoami.exe`)), noon, Deny)
	for path, want := range map[string]bool{
		`C:\`: true, `C:\a\b`: true, `C:\a\..\b`: false, `C:a`: false, `1:\a`: false, `\a`: false, "/": true, "/a/": false, "//a": false,
		"": false, "a": false, "/a/./b": false, "/a/../b": false, "/..a": true,
	} {
		if absolute(path) != want {
			t.Errorf("absolute(%q) is %v", path, !want)
		}
	}
}

func TestCwdRestrictsARule(t *testing.T) {
	r := load(t, "[[allow]]\nid='c'\nwho.roles=['operator']\nactions=['exec']\ncwd=['/srv/app']\ncommands=[['/usr/bin/id']]\n")
	in := func(dir string) *Request { return ask(exec("/usr/bin/id"), func(q *Request) { q.Cwd = dir }) }
	expectEffect(t, r, in("/srv/app"), noon, Allow)
	for _, dir := range []string{"", "/srv/app/", "/srv/app/..", "/tmp", "/srv/APP"} {
		expectEffect(t, r, in(dir), noon, Deny)
	}
}

// Only a last "..." is a pattern; everything else is bytes.
func TestE4EdgesOfPatterns(t *testing.T) {
	const any = "..."
	for _, c := range []struct {
		pattern string
		args    []string
		want    Effect
	}{
		{`"a", "...", "z"`, []string{"a", any, "z"}, Allow},
		{`"a", "...", "z"`, []string{"a", "b", "z"}, Deny},
		{`"a", "...", "z"`, []string{"a", "z"}, Deny},
		{`"a", "...", "z"`, []string{"a", any, "y"}, Deny},
		{`"...", "..."`, []string{any}, Allow},
		{`"...", "..."`, []string{any, "x", "y"}, Allow},
		{`"...", "..."`, []string{"x"}, Deny},
		{`"a..."`, []string{"ab"}, Deny},
		{`"a", "... "`, []string{"a", "b"}, Deny},
		{`"*"`, []string{"a"}, Deny},
		{`""`, []string{}, Deny},
		{`""`, []string{"", ""}, Deny},
		{`"", ""`, []string{"", ""}, Allow},
		{`"a", ""`, []string{"a"}, Deny},
		{`"", "..."`, []string{"x", ""}, Deny},
		{`"\uFFFD"`, []string{"\xff"}, Deny},
		{`"\uFFFD"`, []string{"\uFFFD"}, Allow},
		{`"\u00e9"`, []string{"\xe9"}, Deny},
		{`"\u00e9"`, []string{"e\u0301"}, Deny},
		{`"\u00e9"`, []string{"\xc3\xa9"}, Allow},
		{`"a", "..."`, []string{"a", "\xff\xfe"}, Allow},
		{`"a\nb"`, []string{"a", "b"}, Deny},
	} {
		r := load(t, "[[allow]]\nid='p'\nwho.roles=['operator']\nactions=['exec']\ncommands=[[\"/opt/t\", "+c.pattern+"]]\n")
		if d := r.Decide(ask(exec(append([]string{"/opt/t"}, c.args...)...)), noon); d.Effect != c.want {
			t.Errorf("[%s] and %q: %s", c.pattern, c.args, d.Effect)
		}
	}
}

// A block rule must hold at the rendezvous as well, which knows only the spelling.
func TestE6BlockedCommandBeforeItIsResolved(t *testing.T) {
	r := load(t, team+"[[block]]\nid='no-rm'\nactions=['exec']\ncommands=[['/bin/rm', '-r', '...']]\n")
	for _, c := range []struct {
		argv []string
		want Effect
	}{
		{[]string{"rm", "-r"}, Deny},
		{[]string{"./rm", "-r", "/"}, Deny},
		{[]string{"/opt/rm", "-r", "x"}, Deny},
		{[]string{"rm", "x", "-r"}, Allow},
		{[]string{"rm"}, Allow},
		{[]string{"rmdir", "-r"}, Allow},
	} {
		q := ask(exec(c.argv...), func(q *Request) { q.File, q.Unresolved = "", true })
		expectEffect(t, r, q, noon, c.want)
	}
}
