package agent

import (
	"errors"
	"io"
	"os/exec"
	"time"

	"github.com/tucdesk/tucdesk/agent/cgroup"
	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// child is a process that serves operators: of a session, or the holder of a kept
// shell. Both are taken for hostile.
type child struct {
	pair  *pair.Conn
	cmd   *exec.Cmd
	group *cgroup.Group // nil without
}

// start starts one in a control group of that name.
func (a *Agent) start(name string, spawn func() (*exec.Cmd, io.ReadWriteCloser, error)) (child, error) {
	cmd, rw, err := spawn()
	if err != nil {
		return child{}, err
	}
	return child{pair: pair.Supervisor(rw), cmd: cmd, group: a.group(name, cmd.Process.Pid)}, nil
}

// group makes a control group for a process that has done nothing yet. A session
// that cannot get one goes on without: whoever comes to mend the host must be able to.
func (a *Agent) group(name string, pid int) *cgroup.Group {
	if a.groups == nil {
		return nil
	}
	g, err := a.groups.Make(name)
	if err == nil {
		if err = g.Add(pid); err == nil {
			return g
		}
		err = errors.Join(err, g.End())
	}
	a.log.Error("a session has no control group", "session", name, "err", err)
	return nil
}

// read passes the child's frames on until the pair ends. A frame that cannot be ends
// it with ProtocolError.
func (c *child) read(frames chan<- pair.Frame, end func(refusal.Code)) {
	defer close(frames)
	for {
		t, body, err := c.pair.Receive()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				end(refusal.ProtocolError)
			}
			return
		}
		frames <- pair.Frame{Type: t, Body: body}
	}
}

// stop ends the child: it is asked, and killed when it does not listen. Its program
// then dies with it (package process); what it left is the group's. late gets the
// frames that still come. Not orderly: it had to be killed.
func (c *child) stop(code refusal.Code, frames <-chan pair.Frame, late func(pair.Frame)) (orderly bool) {
	kill := time.AfterFunc(endLimit, func() { // from now: a child that does not read holds up Send as well
		_ = c.cmd.Process.Kill()
		c.pair.Close()
	})
	_ = c.pair.Send(pair.FrameEnd, []byte(code))
	for f := range frames {
		late(f)
	}
	c.pair.Close()
	_ = c.cmd.Wait()
	return kill.Stop()
}
