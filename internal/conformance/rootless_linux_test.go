package conformance

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// nobody is the user, and the group, of an agent that is not root; every system has it.
const nobody = 65534

// asNobody runs the words behind the folder $1 as nobody, who has the password that is
// there and may become root with it: in mounts of their own, so that the rest of this
// machine keeps its passwords and its rules for sudo.
const asNobody = `
mount --bind "$1/shadow" /etc/shadow || exit
test ! -e /etc/sudoers || mount --bind "$1/sudoers" /etc/sudoers || exit
shift
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
`

// sudoers asks each time and leaves nothing behind on this machine.
const sudoers = `Defaults !syslog, !lecture, timestamp_timeout=0
nobody ALL=(ALL:ALL) ALL
`

// rootless starts the machine "plain", whose agent is nobody's, in a folder of nobody's
// own with a program that it may run.
func (r *rig) rootless() {
	dir, err := os.MkdirTemp("", "tucdesk-plain-")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r.plain = dir
	own := filepath.Join(dir, "tucdesk-agent")
	program, err := os.ReadFile(programs.Path(r.t, "tucdesk-agent"))
	if err := errors.Join(err, os.WriteFile(own, program, 0o755), os.Chown(dir, nobody, nobody)); err != nil {
		r.t.Fatal(err)
	}
	r.giveNobodyAPassword()
	r.agent("plain", "plain", filepath.Join(dir, "state"), "/usr/bin/unshare", "--mount", "sh", "-c", asNobody, "sh", r.dir, own)
}

// giveNobodyAPassword writes the files that asNobody takes.
func (r *rig) giveNobodyAPassword() {
	password := rand.Text()
	hash := exec.Command("openssl", "passwd", "-6", "-stdin")
	hash.Stdin = strings.NewReader(password)
	out, err := hash.Output()
	if err != nil {
		r.t.Fatalf("hashing a password: %v", err)
	}
	r.write("shadow", fmt.Sprintf("root:*:19000:0:99999:7:::\nnobody:%s:19000:0:99999:7:::\n", strings.TrimSpace(string(out))))
	r.write("sudoers", sudoers)
	r.env = append(r.env, "PASSWORD="+password)
}
