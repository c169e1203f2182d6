package conformance

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/programtest"
)

var update = flag.Bool("update", false, "write docs/SSH-COMPAT.md")

const table = "../../docs/SSH-COMPAT.md"

// prelude is what every case begins with. $H is the machine that lets everything
// through, $D an empty folder, $BIG five megabytes, $PORT a server on the machine
// that sends them, $SOCK the same as a socket, $P1 and $P2 free ports, $ROOTS the
// folder where the policy names sockets, $PLAIN one of nobody's, $SMALL a disk of two megabytes.
const prelude = `set -u
cd "$D"
ssh() { command ssh -F "$CONF" -o BatchMode=yes "$@"; }
scp() { command scp -q -F "$CONF" -o BatchMode=yes "$@"; }
sftp() { command sftp -q -F "$CONF" -o BatchMode=yes "$@"; }
export RSYNC_RSH="ssh -F $CONF -o BatchMode=yes" GIT_SSH_COMMAND="ssh -F $CONF -o BatchMode=yes"
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example
play() { HOME="$D" ANSIBLE_SSH_ARGS="-F $CONF -o BatchMode=yes -o ControlMaster=auto -o ControlPersist=5s" ANSIBLE_SSH_CONTROL_PATH="$D/c" ansible -i "$H," -e ansible_python_interpreter=/usr/bin/python3 all "$@"; }
master() { ssh -M -S "$D/m" -o ExitOnForwardFailure=yes -fN "$@"; }
trap 'test -S "$D/m" && command ssh -F "$CONF" -S "$D/m" -O exit x >/dev/null 2>&1' EXIT
get() { cat </dev/tcp/127.0.0.1/$1 | cmp - "$BIG" && echo same; }
socks() {
  exec 3<>/dev/tcp/127.0.0.1/$1
  port=$(printf '\\x%02x\\x%02x' $(($2/256)) $(($2%256)))
  if test $3 = 5; then printf '\5\1\0' >&3; dd bs=1 count=2 <&3 >/dev/null 2>&1; printf "\\5\\1\\0\\1\\x7f\\0\\0\\1$port" >&3; dd bs=1 count=10 <&3 >/dev/null 2>&1
  else printf "\\4\\1$port\\x7f\\0\\0\\1\\0" >&3; dd bs=1 count=8 <&3 >/dev/null 2>&1; fi
  cat <&3 | cmp - "$BIG" && echo same
  exec 3>&-
}
`

func TestStockToolsWorkUnchanged(t *testing.T) {
	needs(t, "ssh", "scp", "sftp", "rsync", "git", "ssh-agent", "script", "bash")
	r := newRig(t)
	port := r.sender()
	t.Run("cases", func(t *testing.T) {
		for _, c := range cases {
			t.Run(c.area+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				needs(t, c.programs()...)
				r.check(t, c, port)
			})
		}
		r.ours(t, port)
	})
	if *update && !t.Failed() {
		if err := os.WriteFile(table, []byte(document()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// check runs one case. Its streams are files: what it leaves in the background must
// not hold us up.
func (r *rig) check(t *testing.T, c testCase, port string) {
	dir := t.TempDir()
	files := make([]*os.File, 2)
	for i := range files {
		f, err := os.CreateTemp(r.dir, "stream")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	cmd := exec.Command("bash", "-c", prelude+c.script)
	cmd.Env = append(r.env, "CONF="+r.path("config"), "BIG="+r.path("big"), "SOCK="+r.path("sender.sock"), "PORT="+port, "H=web.tucdesk", "D="+dir, "ROOTS="+r.dir, "PLAIN="+r.plain)
	if c.area == rootless {
		needsRoot(t)
	}
	if c.area == full {
		cmd.Env = append(cmd.Env, "SMALL="+smallDisk(t))
	}
	for i := range 2 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("P%d=%s", i+1, programtest.Port(t)))
	}
	cmd.Stdout, cmd.Stderr = files[0], files[1]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	_ = cmd.Wait()
	late.Stop()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	out, _ := os.ReadFile(files[0].Name())
	errs, _ := os.ReadFile(files[1].Name())
	if got := cmd.ProcessState.ExitCode(); got != c.status || string(out) != c.out || !bytes.Contains(errs, []byte(c.says)) {
		t.Errorf("%s\nexits %d, want %d\nprints %q, want %q\nsays %q, want %q in it", c.script, got, c.status, clip(out), c.out, clip(errs), c.says)
	}
}

// programs are those of single cases.
func (c *testCase) programs() (names []string) {
	for words, name := range map[string]string{"play ": "ansible", "sshfs ": "sshfs", "mosh ": "mosh", "/usr/sbin/sshd ": "/usr/sbin/sshd"} {
		if strings.HasPrefix(c.script, words) || strings.Contains(c.script, " "+words) || strings.Contains(c.script, "\t"+words) {
			names = append(names, name)
		}
	}
	return names
}

func clip(b []byte) []byte { return b[:min(len(b), 2000)] }

// inPlace is what no case can show by its name: the protocol's own limits.
const inPlace = `
## What sftp and scp can tear, and tucdesk cp cannot

sftp, scp and sshfs write a file where it is, in pieces, because their protocol has no other way: the file is emptied first, and until the last piece is
written whoever opens it sees half of it. A break, a full disk or a killed client leaves that half under the file's name. "put -f" says when all of it is on the disk, and
"reput" goes on with it. "tucdesk cp" writes beside the target, compares, and renames: the name is the old file or the new one. rsync does
the same on its own, but for --inplace and --append. With sftp, put under another name and rename (posix-rename replaces what is there in one step).
`

// document is docs/SSH-COMPAT.md.
func document() string {
	var b strings.Builder
	b.WriteString("# What works over `tucdesk proxy`\n\nMade by `go test ./internal/conformance -update` from the cases that the test runs with the machine's own OpenSSH, rsync, git,\nAnsible and sshfs; do not edit. `$H` is a machine as `tucdesk ssh-config` names it (`web.tucdesk`).\n")
	b.WriteString(inPlace)
	area := ""
	for _, c := range cases {
		if c.area != area {
			area = c.area
			fmt.Fprintf(&b, "\n## %s\n\n| What | As it is typed | Ends with |\n|---|---|---|\n", area)
		}
		fmt.Fprintf(&b, "| %s | %s | %d%s |\n", c.name, code(c.script), c.status, quoted(c.says))
	}
	return b.String()
}

// code is a script as one cell of a table.
func code(script string) string {
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(script)) {
		lines = append(lines, "<code>"+strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "|", "&#124;", "*", "&#42;", "_", "&#95;", "`", "&#96;").Replace(strings.TrimSpace(line))+"</code>")
	}
	return strings.Join(lines, "<br>")
}

func quoted(says string) string {
	if says == "" {
		return ""
	}
	return ", says “" + says + "”"
}

func TestTheTableIsThatOfTheTest(t *testing.T) {
	if *update {
		t.Skip("it is being written")
	}
	got, err := os.ReadFile(table)
	if err != nil || string(got) != document() {
		t.Errorf("docs/SSH-COMPAT.md is not what the cases make: run go test ./internal/conformance -update (%v)", err)
	}
}

// They wait for each other's processes, not for a core.
func TestMain(m *testing.M) { os.Exit(programs.Main(m, 5)) }
