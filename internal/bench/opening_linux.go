package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// openings is how many sessions are opened per repetition; our choice.
const openings = 5

func (r *run) prompt() error {
	s := r.newStage()
	ssh, ours := s.ssh("ssh"), s.tucdesk("tucdesk", "never")
	return s.opening(
		way{ssh.name, s.seat("ssh", wan()), ssh.missing, func(h *netlab.Host) *exec.Cmd { return ssh.exec(h, "true") }},
		way{"tucdesk exec", s.seat("exec", wan()), nil, func(h *netlab.Host) *exec.Cmd { return ours.exec(h, "true") }},
		way{"tucdesk ssh", s.seat("tucdesk", wan()), nil, func(h *netlab.Host) *exec.Cmd { return s.team.client(h, "ssh", machineName, "true") }},
	)
}

func (r *run) blocked() error {
	s := r.newStage()
	ours := s.tucdesk("tucdesk", "never")
	open := func(h *netlab.Host) *exec.Cmd { return ours.exec(h, "true") }
	var ways []way
	for _, x := range []struct {
		name string
		wall netlab.Firewall
	}{{"open", netlab.Anything}, {"UDP blocked", netlab.NoUDP}, {"only TCP 443", netlab.OnlyTCP443}} {
		h := s.seat(x.name, wan())
		h.Allow(x.wall)
		ways = append(ways, way{x.name, h, nil, open})
	}
	return s.opening(ways...)
}

// way is one way to have `true` run on the target.
type way struct {
	name    string
	seat    *netlab.Host
	missing error
	command func(*netlab.Host) *exec.Cmd
}

// opening measures all ways in turn.
func (s *stage) opening(ways ...way) error {
	took, failed := make([][]float64, len(ways)), make([]error, len(ways))
	for i, w := range ways {
		failed[i] = w.missing
		if failed[i] == nil { // the first time is not warm: pages of the program, remembered networks
			_, failed[i] = s.limited(w.command(w.seat))
		}
	}
	for range openings * s.cfg.Repeat {
		for i, w := range ways {
			if failed[i] != nil {
				continue
			}
			d, err := s.limited(w.command(w.seat))
			if failed[i] = err; err == nil {
				took[i] = append(took[i], milliseconds(d))
			}
		}
	}
	for i, w := range ways {
		s.add(w.name, "time", "ms", took[i], failed[i])
	}
	return s.Err()
}

// limited runs a command to its end, at most for openTime.
func (s *stage) limited(cmd *exec.Cmd) (time.Duration, error) {
	var said bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &said, grace
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	watchdog := time.AfterFunc(openTime, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	took := time.Since(start)
	if !watchdog.Stop() {
		return took, fmt.Errorf("not done within %v", openTime)
	}
	if err != nil {
		return took, fmt.Errorf("%v: %s", err, firstLine(said.String()))
	}
	return took, nil
}

// direct puts both ends behind NATs and looks at the packets that arrive.
func (r *run) direct() error {
	var took []float64
	for range r.cfg.Repeat {
		var d time.Duration
		err := r.apart(func(r *run) (err error) { d, err = r.punch(); return err })
		if err != nil {
			r.add("tucdesk", "time", "ms", took, err)
			return r.Err()
		}
		took = append(took, milliseconds(d))
	}
	r.add("tucdesk", "time", "ms", took, nil)
	return r.Err()
}

// directTime is how long a session may stay on the relay; our choice.
const directTime = 10 * time.Second

// punch opens a session between two homes and returns how long after its first
// output the client's router got the first packet from the other router, 0 if
// before.
func (r *run) punch() (time.Duration, error) {
	s := r.newInternet()
	here, there := s.inet.NAT(netlab.PortRestricted), s.inet.NAT(netlab.PortRestricted)
	s.target = there.Host("target")
	s.team = r.found(s.inet.Host("hub"), nil)
	s.team.join(s.target)
	here.Set(wan())
	h := here.Host("seat")
	var first atomic.Int64
	far := there.IPv4()
	here.Allow(func(up bool, p netlab.Packet) bool {
		if !up && p.Src.Addr() == far {
			first.CompareAndSwap(0, time.Now().UnixNano())
		}
		return true
	})
	cmd := s.team.client(h, "exec", machineName, "--", "sh", "-c", "echo ready; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return 0, errors.New("the session did not open")
	}
	prompt := time.Now()
	for first.Load() == 0 {
		if time.Since(prompt) > directTime {
			return 0, fmt.Errorf("still on the relay after %v", directTime)
		}
		if err := s.pause(time.Millisecond); err != nil {
			return 0, err
		}
	}
	return max(0, time.Unix(0, first.Load()).Sub(prompt)), nil
}
