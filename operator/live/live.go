// Package live lets the sessions that run on this machine be listed. Each process
// that holds one answers on a socket in the state folder of its person:
//
//	STATE/live/PID-ID.sock     folder 0700, socket 0600
//
// ID is the beginning of the session's own, since one process may have many: exec on
// many machines, a proxy of ssh, forwards beside a shell. Whoever connects is sent one
// JSON value, a Session, and the connection is closed; nothing is read. A socket that
// nobody answers on belonged to a process that was killed, and is removed by whoever
// notices.
//
// Only the person's own processes can get at the folder. What they are told is no
// secret of the session: no key, no content.
package live

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tucdesk/tucdesk/internal/keyfile"
)

// Limits; our choice.
const (
	answerWithin = time.Second // one answer, on either side
	maxAnswer    = 64 << 10    // bytes of one answer
	maxSessions  = 512         // sockets that are asked
	maxPath      = 100         // bytes of a socket's path: the shortest limit of a system is 104, with a zero
	answering    = 4           // callers that are answered at once, of one session
	asking       = 64          // sockets that are asked at once: a process that is suspended keeps them all waiting
	idLetters    = 8           // of the session's id, in a socket's name
)

// Session is what a process says of one of its sessions. The JSON names stay.
type Session struct {
	PID     int       `json:"pid"`     // of the process that answers
	Host    string    `json:"host"`    // name of the machine
	Action  string    `json:"action"`  // of its request: "shell", "exec", "copy", "forward", "ping"
	User    string    `json:"user"`    // login user at the host; "" is the agent's own
	Session string    `json:"session"` // its id, in hex, as the logs have it
	Since   time.Time `json:"since"`   // when it stood

	Lost      bool      `json:"lost"`        // nothing gets through: what is sent waits
	PathSince time.Time `json:"pathSince"`   // the present path, or none
	Kind      string    `json:"kind"`        // "direct", "relay-udp", …; "" while lost
	Name      string    `json:"name"`        // of the relay, or the host's address
	RTTMillis float64   `json:"rttMillis"`   // 0: not measured yet
	Heard     time.Time `json:"lastHeard"`   // zero is never
	BytesIn   uint64    `json:"bytesIn"`     // received in datagrams, sealed, by all paths
	BytesOut  uint64    `json:"bytesOut"`    // sent, likewise
	Changes   int       `json:"pathChanges"` // of the path, losses among them
	Paths     []Path    `json:"paths"`       // all that are known, the chosen one first

	// Datagrams that came and did not open, and whether they are so many under one key
	// that somebody sends them on purpose (attack A14). None of them got in.
	OpenFailed uint64 `json:"openFailed"`
	Alarm      bool   `json:"alarm"`
}

// Path is one way to the other end, in use or not.
type Path struct {
	Kind      string    `json:"kind"`      // as Session.Kind
	Name      string    `json:"name"`      // as Session.Name
	Chosen    bool      `json:"chosen"`    // data goes here
	Live      bool      `json:"live"`      // data could go here now
	RTTMillis float64   `json:"rttMillis"` // 0: not measured yet
	Heard     time.Time `json:"lastHeard"` // zero is never
	BytesIn   uint64    `json:"bytesIn"`   // received in datagrams, sealed
	BytesOut  uint64    `json:"bytesOut"`  // sent, likewise
	Why       string    `json:"why"`       // the decision in words, for people

	// Challenges that went out on it, and those that were not answered before a
	// younger one was: an estimate of its losses, both ways together.
	Challenges uint64 `json:"challenges"`
	Unanswered uint64 `json:"unanswered"`
}

// Millis is d as the fields in milliseconds have it.
func Millis(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// folder is where the sockets of a state folder are. Paths of sockets have a
// limit; where it is too low, they are in a folder of the temporary ones that is
// named after the state folder. That one is made and checked to be ours alone, so
// nobody who makes it first gains more than that there is no answer.
func folder(state string) (string, error) {
	abs, err := filepath.Abs(state)
	if err != nil {
		return "", fmt.Errorf("finding folder %q: %v", state, err)
	}
	dir := filepath.Join(abs, "live")
	if len(dir)+len("/0000000000-.sock")+idLetters > maxPath {
		sum := sha256.Sum256([]byte(abs))
		dir = filepath.Join(os.TempDir(), "tucdesk-live-"+base64.RawURLEncoding.EncodeToString(sum[:9]))
	}
	return dir, nil
}

// check wants a folder that is ours and no link to another one, which somebody may
// have put among the temporary folders.
func check(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("opening folder %q: %w", dir, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("opening folder %q: not a folder", dir)
	}
	return keyfile.CheckDir(dir)
}

// Serve answers for the session with that id, in hex, until stop is called, which
// waits and removes the socket. describe is called from other goroutines. A process
// calls it once for each session that it has.
func Serve(state, id string, describe func() Session) (stop func(), err error) {
	dir, err := folder(state)
	if err != nil {
		return nil, err
	}
	l, err := listen(dir, fmt.Sprintf("%d-%.*s.sock", os.Getpid(), idLetters, id))
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { serve(l, describe) })
	return sync.OnceFunc(func() {
		_ = l.Close() // removes the socket
		wg.Wait()
		if filepath.Base(dir) != "live" {
			_ = os.Remove(dir) // no litter among the temporary folders; while others have sockets in it, it stays
		}
	}), nil
}

// listen makes the folder and the socket in it. Another session that ends may take
// away the folder in between, where it is a temporary one.
func listen(dir, name string) (l net.Listener, err error) {
	for range 3 {
		if err := keyfile.CreateDir(dir); err != nil {
			return nil, err
		}
		if err := check(dir); err != nil {
			return nil, err
		}
		if l, err = net.Listen("unix", filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening socket %q in %q: %v", name, dir, err)
	}
	if err := os.Chmod(filepath.Join(dir, name), 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("opening socket %q in %q: %v", name, dir, err)
	}
	return l, nil
}

func serve(l net.Listener, describe func() Session) {
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, answering)
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(answerWithin))
			_ = json.NewEncoder(conn).Encode(describe())
		})
	}
}

// List asks every process for its sessions, at most 512 in all, and returns them oldest
// first. What does not answer within a second is left out. It removes the sockets of
// processes that are no more.
func List(ctx context.Context, state string) ([]Session, error) {
	dir, err := folder(state)
	if err != nil {
		return nil, err
	}
	if err := check(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading folder %q: %v", dir, err)
	}
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		list   []Session // guarded by mu
		places = make(chan struct{}, asking)
	)
	for _, e := range entries[:min(len(entries), maxSessions)] {
		name, is := strings.CutSuffix(e.Name(), ".sock")
		pid, _, _ := strings.Cut(name, "-")
		if _, err := strconv.ParseUint(pid, 10, 32); !is || err != nil || e.Type() != fs.ModeSocket {
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if s, err := ask(ctx, filepath.Join(dir, e.Name())); err == nil {
				mu.Lock()
				defer mu.Unlock()
				list = append(list, s)
			}
		})
	}
	wg.Wait()
	slices.SortFunc(list, func(a, b Session) int { return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Session, b.Session)) })
	return list, nil
}

func ask(ctx context.Context, path string) (Session, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(path)
	}
	if err != nil {
		return Session{}, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerWithin))
	var s Session
	err = json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&s)
	return s, err
}
