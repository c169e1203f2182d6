package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// The emulated link of the project's measurements; our choice.
const (
	halfTrip = 25 * time.Millisecond
	wanRate  = 200e6 // bits per second
)

// readyTime is how long a server may take to be up; our choice.
const readyTime = 30 * time.Second

// grace is how long we wait for what a killed process's children still say: those
// of sshd outlive it; our choice.
const grace = time.Second

// wan is a seat's link without loss and limit.
func wan() netlab.WAN { return netlab.WAN{Delay: halfTrip} }

// stage is what all subjects of a row share.
type stage struct {
	*run
	lab    *netlab.Lab
	inet   *netlab.Network
	target *netlab.Host // where sshd, mosh-server and the agent are
	team   *team
}

// newStage makes a target on the internet, with a TucDesk team around it.
func (r *run) newStage() *stage {
	s := r.newInternet()
	s.target = s.inet.Host("target")
	s.team = r.found(s.inet.Host("hub"), nil)
	s.team.join(s.target)
	return s
}

func (r *run) newInternet() *stage {
	s := &stage{run: r, lab: netlab.New(r)}
	s.inet = s.lab.Internet()
	r.Cleanup(func() { r.late = max(r.late, s.lab.Cost().Late99) })
	return s
}

// seat is where one client sits.
func (s *stage) seat(name string, w netlab.WAN) *netlab.Host {
	h := s.inet.Host(name)
	h.Set(w)
	return h
}

// clean is an environment without anything of the machine the run takes place on.
func clean(more ...string) []string {
	return append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "TERM=xterm-256color", "LC_ALL=C.UTF-8"}, more...)
}

// words collects what a process says, at most maxWords of it.
type words struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

const maxWords = 1 << 20

// Write never fails: a server must not end because it is talkative.
func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(p[:max(0, min(len(p), maxWords-w.b.Len()))])
	return len(p), nil
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// serve starts a server on a host and returns once a line of what it prints or
// logs has the word that says it is ready.
func (r *run) serve(h *netlab.Host, ready string, env []string, name string, args ...string) (cmd *exec.Cmd, out string) {
	ctx, cancel := context.WithCancel(r)
	cmd = h.Command(ctx, name, args...)
	cmd.Env = env
	var said, printed words
	cmd.Stderr, cmd.Stdout = &said, &printed
	cmd.WaitDelay = grace
	if err := cmd.Start(); err != nil {
		cancel()
		r.Fatalf("starting %q: %v", name, err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	r.Cleanup(func() { cancel(); <-ended })
	deadline := time.After(readyTime)
	for !says(said.String(), ready) && !says(printed.String(), ready) {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ended:
			r.Fatalf("%s ended: %s", filepath.Base(name), said.String())
		case <-deadline:
			r.Fatalf("%s is not ready: %s", filepath.Base(name), said.String())
		case <-r.Done():
			r.Fatalf("%v", r.Err())
		}
	}
	return cmd, printed.String()
}

// says reports whether a whole line holds a word.
func says(text, word string) bool {
	_, after, found := strings.Cut(text, word)
	return found && strings.Contains(after, "\n")
}

// command runs a program to its end and returns its output.
func command(cmd *exec.Cmd) (string, error) {
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &said, grace
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%v: %s", err, firstLine(said.String()))
	}
	return out.String(), nil
}

// must is command for what a row cannot go on without.
func (r *run) must(cmd *exec.Cmd) string {
	out, err := command(cmd)
	if err != nil {
		r.Fatalf("%s: %v", strings.Join(cmd.Args, " "), err)
	}
	return out
}

func (r *run) write(path, text string) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		r.Fatalf("%v", err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.Fatalf("%v", err)
	}
}

// file makes a file of so many bytes, which takes no room on the disk.
func (r *run) file(size int64) string {
	path := filepath.Join(r.dir, "bulk")
	r.write(path, "")
	if err := os.Truncate(path, size); err != nil {
		r.Fatalf("%v", err)
	}
	// Once through the page cache, so that no subject pays for it.
	f, err := os.Open(path)
	if err != nil {
		r.Fatalf("%v", err)
	}
	defer f.Close()
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{f}); err != nil {
		r.Fatalf("%v", err)
	}
	return path
}
