package conformance

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
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
// that sends them and at the same time one here that sends others, $SOCK the machine's
// as a socket, $THERE and $HERE the sums of what they send, $P1 and $P2 free ports, $ROOTS
// the folder where the policy names sockets, $PLAIN one of nobody's, $PASSWORD nobody's on "plain", $SMALL a disk of two
// megabytes.
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
whose() { case $(sha256sum) in "$THERE") echo there ;; "$HERE") echo here ;; *) echo neither ;; esac }
get() { whose </dev/tcp/127.0.0.1/$1; }
socks() {
  exec 3<>/dev/tcp/127.0.0.1/$1
  port=$(printf '\\x%02x\\x%02x' $(($2/256)) $(($2%256)))
  if test $3 = 5; then printf '\5\1\0' >&3; dd bs=1 count=2 <&3 >/dev/null 2>&1; printf "\\5\\1\\0\\1\\x7f\\0\\0\\1$port" >&3; dd bs=1 count=10 <&3 >/dev/null 2>&1
  else printf "\\4\\1$port\\x7f\\0\\0\\1\\0" >&3; dd bs=1 count=8 <&3 >/dev/null 2>&1; fi
  whose <&3
  exec 3>&-
}
there() { { declare -p HERE THERE; declare -f whose get socks; echo "$*"; } | ssh -S "$D/m" $H bash; }
listens() { grep -q "/${1##*/}\$" /proc/net/unix && echo here; there "grep -q '/${1##*/}\$' /proc/net/unix && echo there"; }
`

func TestStockToolsWorkUnchanged(t *testing.T) {
	needs(t, "ssh", "scp", "sftp", "rsync", "git", "ssh-agent", "script", "bash", "openssl")
	r := newRig(t)
	t.Run("cases", func(t *testing.T) {
		for _, c := range cases {
			t.Run(c.area+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				needs(t, c.programs()...)
				r.check(t, c)
			})
		}
		r.ours(t)
	})
	if *update && !t.Failed() {
		if err := os.WriteFile(table, []byte(document()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// check runs one case. Its streams are files: what it leaves in the background must
// not hold us up.
func (r *rig) check(t *testing.T, c testCase) {
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
	cmd.Env = append(slices.Clone(r.env), "CONF="+r.path("config"), "H=web.tucdesk", "D="+dir, "ROOTS="+r.dir, "PLAIN="+r.plain)
	if c.area == full {
		cmd.Env = append(cmd.Env, "SMALL="+smallDisk(t))
	}
	for i := range 2 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("P%d=%s", i+1, programtest.Port(t)))
	}
	cmd.Stdout, cmd.Stderr = files[0], files[1]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.here.Do(cmd.Start); err != nil {
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
	for words, name := range map[string]string{"play ": "ansible", "sshfs ": "sshfs", "--become-method sudo ": "sudo", "'sudo ": "sudo", "mosh ": "mosh", "/usr/sbin/sshd ": "/usr/sbin/sshd", "behind;": "/usr/sbin/sshd"} {
		if strings.HasPrefix(c.script, words) || strings.Contains(c.script, " "+words) || strings.Contains(c.script, "\t"+words) {
			names = append(names, name)
		}
	}
	return names
}

func clip(b []byte) []byte { return b[:min(len(b), 2000)] }

// heading says how to read the table.
const heading = `# What works over ` + "`tucdesk proxy`" + `

Made by ` + "`go test ./internal/conformance -update`" + ` from the cases that the test runs with the machine's own OpenSSH, rsync, git,
Ansible, sshfs and mosh; do not edit. Each ends as the last column says, and prints what internal/conformance has beside it.

The person is on one network host, the machines of the team on another: localhost is not the same here and there. In the cases:

* "$H" is a machine as "tucdesk ssh-config" names it ("web.tucdesk"). "ro", "closed", "walled", "plain" and "prod" are others, with less in their rules.
* "$D" is the case's own empty folder, where it begins, "$BIG" a file of 5 MB, "$SMALL" a disk of 2 MB, "$ROOTS" and "$PLAIN" folders, "$PASSWORD" that of the user of "plain". Here and there share the disk.
* "$PORT" is a server at 127.0.0.1 there, "$SOCK" the same as a socket, and another one at the same port here. "$P1" and "$P2" are free ports.
* ssh, scp, sftp, rsync, git and "play" (ansible) have "-F $CONF -o BatchMode=yes"; $CONF includes what "tucdesk ssh-config --install" wrote.
* "master" is "ssh -M -S m -o ExitOnForwardFailure=yes -fN", and "there" runs the rest of its line in a bash on $H.
* "get" connects to a port at 127.0.0.1, "socks" through the SOCKS proxy at a port, and both tell who has answered: "here" or "there". "whose" tells the same of its input, and "listens" where a socket is listened at.
`

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
	b.WriteString(heading)
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
