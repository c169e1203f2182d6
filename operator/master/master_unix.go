//go:build unix

package master

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Limits; our choice, the path's but for the shortest of our systems.
const (
	maxJob     = 256 << 10        // bytes: arguments and environment of one command
	maxJobs    = 64               // at once
	maxPath    = 100              // bytes of the socket's path
	helloLimit = 10 * time.Second // for a client to say what it wants
	files      = 3
)

type reply struct {
	Status int  `json:"status"`
	No     bool `json:"no"`
}

// errNone says that no master does it; the caller does it itself.
var errNone = errors.New("no master does this")

// IsNone reports an error of Run that means: nothing was begun, do it yourself.
func IsNone(err error) bool { return errors.Is(err, errNone) }

func socket(dir string) (string, error) {
	path, err := filepath.Abs(filepath.Join(dir, "master.sock"))
	if err == nil && len(path) > maxPath {
		err = refusal.New(refusal.TooLarge, "the path %q is too long for a socket", path)
	}
	return path, err
}

// Run hands a job to the master of a state folder and waits for its exit status.
// in is copied to the job from here, since nobody can call a read of a terminal
// back; a read of it may be left behind.
func Run(ctx context.Context, dir string, job any, in io.Reader, out, errs *os.File) (status int, err error) {
	path, err := socket(dir)
	if err != nil {
		return 0, errNone
	}
	body, err := json.Marshal(job)
	if err != nil || len(body) > maxJob {
		return 0, errNone
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return 0, errNone
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	r, w, err := os.Pipe()
	if err != nil {
		return 0, errNone
	}
	defer w.Close()
	frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	n, _, err := conn.WriteMsgUnix(frame, syscall.UnixRights(int(r.Fd()), int(out.Fd()), int(errs.Fd())), nil)
	_ = r.Close()
	if err == nil && n < len(frame) {
		_, err = conn.Write(frame[n:])
	}
	if err != nil {
		return 0, errNone
	}
	go func() { // left behind: see above
		_, _ = io.Copy(w, in)
		_ = w.Close()
	}()
	var answer reply
	if err := readJSON(conn, &answer); err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, refusal.New(refusal.Unavailable, "the master has ended before the command did")
	}
	if answer.No {
		return 0, errNone
	}
	return answer.Status, nil
}

func readJSON(r io.Reader, v any) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	return readBody(r, binary.BigEndian.Uint32(size[:]), nil, v)
}

// readBody reads n bytes, of which some are here already.
func readBody(r io.Reader, n uint32, have []byte, v any) error {
	if n > maxJob || len(have) > int(n) {
		return fmt.Errorf("a message of %d bytes", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body[copy(body, have):]); err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

// Handler does a job with the client's streams, which it closes, and returns the
// exit status; no means that it has not begun and will not.
type Handler func(ctx context.Context, job json.RawMessage, in, out, errs *os.File) (status int, no bool)

// Serve does jobs for a state folder until none has come for so long, or ctx ends.
// ready is called when clients can come; it is not when another process serves.
func Serve(ctx context.Context, dir string, idle time.Duration, ready func(), do Handler) error {
	path, err := socket(dir)
	if err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "master.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("locking the master's place: %v", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return refusal.New(refusal.TooMany, "another master serves %q", dir)
	}
	_ = os.Remove(path) // of one that was killed: the lock is ours
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("opening socket %q: %v", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil { // the folder is 0700 besides
		_ = l.Close()
		return fmt.Errorf("opening socket %q: %v", path, err)
	}
	ready()
	s := &server{listener: l, idle: idle, do: do, places: make(chan struct{}, maxJobs)}
	return s.serve(ctx)
}

type server struct {
	listener *net.UnixListener
	idle     time.Duration
	do       Handler
	places   chan struct{}
	jobs     sync.WaitGroup

	mu      sync.Mutex
	running int // guarded by mu
}

// serve ends when it was idle for long enough. Then nobody new can connect, and what
// runs is waited for.
func (s *server) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.listener.Close() })
	defer stop()
	defer s.jobs.Wait()
	defer s.listener.Close() // removes the socket
	for {
		_ = s.listener.SetDeadline(time.Now().Add(s.idle))
		conn, err := s.listener.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if s.busy(0) {
				continue
			}
			return nil
		case err != nil:
			return fmt.Errorf("waiting for jobs: %v", err)
		}
		s.places <- struct{}{}
		s.busy(1)
		s.jobs.Go(func() {
			defer func() { s.busy(-1); <-s.places }()
			defer conn.Close()
			s.job(ctx, conn)
		})
	}
}

func (s *server) busy(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running += n
	return s.running > 0
}

func (s *server) job(ctx context.Context, conn *net.UnixConn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_ = conn.SetReadDeadline(time.Now().Add(helloLimit))
	job, streams, err := receive(conn)
	if err != nil {
		closeAll(streams)
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	var watch sync.WaitGroup
	watch.Go(func() { // the client says no more; it can only go
		_, _ = conn.Read(make([]byte, 1))
		cancel()
	})
	status, no := s.do(ctx, job, streams[0], streams[1], streams[2])
	body, _ := json.Marshal(reply{Status: status, No: no})
	_, _ = conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	_ = conn.CloseRead()
	watch.Wait()
}

// receive reads a job with its descriptors. Those that came are returned with an
// error too.
func receive(conn *net.UnixConn) (json.RawMessage, []*os.File, error) {
	first, space := make([]byte, 4096), make([]byte, syscall.CmsgSpace(files*4))
	n, rights, _, _, err := conn.ReadMsgUnix(first, space)
	if err != nil {
		return nil, nil, err
	}
	streams, err := filesOf(space[:rights])
	if err != nil || len(streams) != files || n < 4 {
		return nil, streams, errors.New("a job without its streams")
	}
	var job json.RawMessage
	return job, streams, readBody(conn, binary.BigEndian.Uint32(first), first[4:n], &job)
}

func filesOf(control []byte) (list []*os.File, err error) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return list, err
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			if len(list) == 0 { // the pipe for input: nobody else has this end, and Close has to wake a read
				_ = syscall.SetNonblock(fd, true)
			}
			list = append(list, os.NewFile(uintptr(fd), "stream"))
		}
	}
	return list, nil
}

func closeAll(list []*os.File) {
	for _, f := range list {
		_ = f.Close()
	}
}
