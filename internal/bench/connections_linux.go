package bench

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Open forwarded connections: how many, how quickly they are opened, below the rate
// at which a machine judges them, and what then goes through one of them. Both ends of
// all of them are open files of this process, and 20,000 is what many systems allow.
const (
	connections     = 9_900
	connectionRate  = 350 // in a second
	connectionBytes = 64 << 20
	openFiles       = 20_000
)

// manyConnections opens connections through one forward, has each carry one byte both
// ways and keeps them open.
func (r *run) manyConnections() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Max < openFiles {
		return fmt.Errorf("%d open files are needed: ulimit -Hn %d", openFiles, openFiles)
	}
	s := r.newMachine()
	there, here := "127.0.0.1:7001", "127.0.0.1:7002"
	e, err := s.echoing(there)
	if err != nil {
		return err
	}
	defer e.close()
	s.serve(s.target, here, clean("XDG_STATE_HOME="+s.team.path("operator")), s.team.program("tucdesk"), "forward", machineName, here+":"+there)
	if err := e.dial(s, here); err != nil { // it opens the session
		return err
	}
	before := s.largest()
	start := time.Now()
	for n := range connections - 1 {
		if err := s.pause(time.Until(start.Add(time.Duration(n) * time.Second / connectionRate))); err != nil {
			return err
		}
		if err := e.dial(s, here); err != nil {
			return fmt.Errorf("connection %d: %w", n+2, err)
		}
		if (n+1)%2_000 == 0 {
			s.say("%d connections, %d MiB", n+1, s.largest()>>20)
		}
	}
	if err := s.pause(settleTime); err != nil {
		return err
	}
	s.add("session process, one connection", "memory", "MiB", []float64{float64(before) / (1 << 20)}, nil)
	s.add(fmt.Sprintf("session process, %d open connections", connections), "memory", "MiB", []float64{float64(s.largest()) / (1 << 20)}, nil)
	rate, err := e.pour()
	s.add("through one of them", "rate", "Mbit/s", []float64{rate}, err)
	return nil
}

// largest is how many bytes the largest process of the agent's program occupies.
func (s *stage) largest() (most int64) {
	for _, pid := range s.agents() {
		text, _ := os.ReadFile(filepath.Join("/proc", pid, "status"))
		for line := range strings.Lines(string(text)) {
			var kib int64
			if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
				most = max(most, kib<<10)
			}
		}
	}
	return most
}

// echo sends what comes back, over any number of connections.
type echo struct {
	l                net.Listener
	wg               sync.WaitGroup
	dialed, accepted []net.Conn
	answered         chan net.Conn
}

// echoing listens at the target.
func (s *stage) echoing(addr string) (*echo, error) {
	e := &echo{answered: make(chan net.Conn, 1)}
	err := s.target.Do(func() (err error) { e.l, err = net.Listen("tcp", addr); return err })
	if err != nil {
		return nil, err
	}
	e.wg.Go(func() {
		for {
			c, err := e.l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1)
			_ = c.SetDeadline(time.Now().Add(readyTime))
			if _, err := io.ReadFull(c, b); err == nil {
				_, _ = c.Write(b)
			}
			_ = c.SetDeadline(time.Time{})
			e.answered <- c
		}
	})
	return e, nil
}

// dial opens one connection and sees it answered.
func (e *echo) dial(s *stage, addr string) error {
	err := s.target.Do(func() error {
		c, err := net.DialTimeout("tcp", addr, readyTime)
		if err == nil {
			e.dialed = append(e.dialed, c)
		}
		return err
	})
	if err != nil {
		return err
	}
	c, b := e.dialed[len(e.dialed)-1], make([]byte, 1)
	_ = c.SetDeadline(time.Now().Add(readyTime))
	if _, err := c.Write(b); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	e.accepted = append(e.accepted, <-e.answered)
	return c.SetDeadline(time.Time{})
}

// pour sends through the last connection and returns its rate.
func (e *echo) pour() (float64, error) {
	from, to := e.accepted[len(e.accepted)-1], e.dialed[len(e.dialed)-1]
	e.wg.Go(func() {
		_, _ = io.CopyN(from, zeros{}, connectionBytes)
	})
	start := time.Now()
	_ = to.SetDeadline(start.Add(copyTime))
	n, err := io.CopyN(io.Discard, to, connectionBytes)
	return mbits(n, time.Since(start)), err
}

// zeros is an endless source.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func (e *echo) close() {
	_ = e.l.Close()
	for _, c := range e.dialed {
		_ = c.Close()
	}
	for _, c := range e.accepted {
		_ = c.Close()
	}
	select {
	case c := <-e.answered:
		_ = c.Close()
	default:
	}
	e.wg.Wait()
}
