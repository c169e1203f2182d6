package bench

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// masterIdle is how long the client's own master stays behind: longer than between
// two commands, and no longer than a seat is in use.
const masterIdle = "3s"

// execs measures what a script pays that calls the client again and again.
func (r *run) execs() error {
	s := r.newStage()
	ssh, ours := s.ssh("ssh"), s.tucdesk("tucdesk", "never")
	for i, place := range []struct {
		name string
		link netlab.WAN
	}{{"no delay", netlab.WAN{}}, {"50 ms", wan()}} {
		seat, port := s.seat("master", place.link), sshPort+1+i
		master := s.sshAt(port, fmt.Sprint("master", i), "-o", "ControlPath="+filepath.Join(s.dir, fmt.Sprint("control", i)))
		if master.missing == nil {
			master.missing = s.hold(seat, master, port)
		}
		for _, w := range []way{
			{"ssh", s.seat("ssh", place.link), ssh.missing, func(h *netlab.Host) *exec.Cmd { return ssh.exec(h, "true") }},
			{"ssh with ControlMaster", seat, master.missing, func(h *netlab.Host) *exec.Cmd { return master.exec(h, "true") }},
			{"tucdesk exec", s.seat("tucdesk", place.link), nil, func(h *netlab.Host) *exec.Cmd { return ours.exec(h, "true") }},
			{"tucdesk exec --persist", s.seat("persist", place.link), nil, func(h *netlab.Host) *exec.Cmd {
				return s.team.client(h, "exec", "--persist", masterIdle, machineName, "--", "true")
			}},
		} {
			took, err := s.inARow(w)
			s.add(w.name, fmt.Sprintf("time of %d, %s", s.cfg.Execs, place.name), "ms", took, err)
			if s.Err() != nil {
				return s.Err()
			}
		}
	}
	return nil
}

// hold starts the process that the others go through, and ends it with the row.
func (s *stage) hold(h *netlab.Host, master subject, port int) error {
	client, err := find("ssh", "openssh-client")
	if err != nil {
		return err
	}
	cmd := h.Command(s, client, append(master.login[:len(master.login):len(master.login)], "-p", fmt.Sprint(port), "-l", "root", "-M", "-N", s.target.IPv4().String())...)
	cmd.Env, cmd.WaitDelay = clean(), grace
	if err := cmd.Start(); err != nil {
		return err
	}
	s.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 200 {
		check := h.Command(s, client, append(master.login[:len(master.login):len(master.login)], "-O", "check", s.target.IPv4().String())...)
		check.Env = clean()
		if check.Run() == nil {
			return nil
		}
		if err := s.pause(50 * time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the master does not stand")
}

// inARow runs a command so many times, one after another, after a first one that
// warms up what each of them has.
func (s *stage) inARow(w way) ([]float64, error) {
	if w.missing != nil {
		return nil, w.missing
	}
	if _, err := s.limited(w.command(w.seat)); err != nil {
		return nil, err
	}
	start := time.Now()
	for range s.cfg.Execs {
		if _, err := s.limited(w.command(w.seat)); err != nil {
			return nil, err
		}
	}
	return []float64{milliseconds(time.Since(start))}, nil
}
