package sshfront

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// program is one SSH channel of type "session".
type program struct {
	front *front
	ch    ssh.Channel

	// Asked for before the program starts; of serve's goroutine until then.
	env   []wire.EnvVar
	agent bool // the client's SSH agent is to be lent

	copying sync.WaitGroup // of the client's input; it ends with the SSH channel

	mu      sync.Mutex
	pty     *session.PTY     // guarded by mu
	running *session.Channel // guarded by mu; nil before
}

// subsystem is the only one that a machine serves.
const subsystem = "sftp"

// serve reads the client's requests for as long as the channel lives. The channel
// may go while the program still waits for an approval, and takes it along.
func (p *program) serve(ctx context.Context, requests <-chan *ssh.Request) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer p.copying.Wait()
	defer p.ch.Close()
	defer wg.Wait()
	defer cancel()
	started := false
	for {
		var r *ssh.Request
		var ok bool
		select {
		case r, ok = <-requests:
			if !ok {
				return
			}
		case <-ctx.Done():
			return
		}
		if ask, is := p.start(r); is {
			_ = r.Reply(!started, nil)
			if !started {
				started = true
				wg.Go(func() { p.run(ctx, ask) })
			}
			continue
		}
		_ = r.Reply(p.requested(r, started), nil)
	}
}

// start reports whether r asks for a program, and what for.
func (p *program) start(r *ssh.Request) (Ask, bool) {
	a := Ask{Action: wire.Shell, Params: wire.Params{User: p.front.user, Argv: []wire.Bytes{}, Env: []wire.EnvVar{}}}
	switch r.Type {
	case "shell":
	case "exec":
		var body struct{ Line string }
		if ssh.Unmarshal(r.Payload, &body) != nil {
			return a, false
		}
		if body.Line != "" { // sshd takes an empty line for a shell
			a.Params.Argv = append(a.Params.Argv, wire.Bytes(body.Line))
		}
	case "subsystem":
		var body struct{ Name string }
		a.Action = wire.Copy
		if ssh.Unmarshal(r.Payload, &body) != nil {
			return a, false
		}
		a.subsystem = body.Name
		return a, true
	default:
		return a, false
	}
	a.Params.Env = append(a.Params.Env, p.env...)
	a.Params.TTY, a.agent = p.terminal() != nil, p.agent
	return a, true
}

func (p *program) terminal() *session.PTY {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pty
}

// requested handles what is no start, and reports whether it was understood.
func (p *program) requested(r *ssh.Request, started bool) bool {
	switch r.Type {
	case "pty-req":
		return !started && p.setTerminal(r.Payload)
	case "env":
		return !started && p.setEnv(r.Payload)
	case "auth-agent-req@openssh.com":
		p.agent = p.agent || !started
		return !started
	case "window-change":
		return p.resize(r.Payload)
	case "signal":
		return p.signal(r.Payload)
	case "eow@openssh.com": // nobody reads the output any more
		return p.abandon()
	}
	return false
}

func (p *program) setTerminal(payload []byte) bool {
	var body struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if ssh.Unmarshal(payload, &body) != nil {
		return false
	}
	modes, ok := parseModes([]byte(body.Modes))
	if !ok {
		return false
	}
	p.front.talk.becomeRaw()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pty = &session.PTY{Term: body.Term, Size: sizeOf(body.Columns, body.Rows, body.Width, body.Height), Modes: modes}
	return true
}

// parseModes reads the modes of RFC 4254, section 8: an opcode and four bytes each,
// up to opcode 0 or one from 160 up.
func parseModes(b []byte) (modes []session.Mode, ok bool) {
	for len(b) > 0 && b[0] != 0 && b[0] < 160 {
		if len(b) < 5 {
			return nil, false
		}
		modes = append(modes, session.Mode{Op: b[0], Value: uint32(b[1])<<24 | uint32(b[2])<<16 | uint32(b[3])<<8 | uint32(b[4])})
		b = b[5:]
	}
	return modes, true
}

func sizeOf(columns, rows, width, height uint32) session.Size {
	cut := func(v uint32) uint16 { return uint16(min(v, 1<<16-1)) }
	return session.Size{Columns: cut(columns), Rows: cut(rows), Width: cut(width), Height: cut(height)}
}

// setEnv keeps what the policy lets through and refuses the rest silently, as
// sshd's AcceptEnv: clients send a dozen variables unasked, and a session that is
// refused for one of them would be of no use.
func (p *program) setEnv(payload []byte) bool {
	var body struct{ Name, Value string }
	if ssh.Unmarshal(payload, &body) != nil || len(p.env) >= maxEnv || !p.front.cfg.Env(body.Name) {
		return false
	}
	p.env = append(p.env, wire.EnvVar{Name: body.Name, Value: wire.Bytes(body.Value)})
	return true
}

func (p *program) resize(payload []byte) bool {
	var body struct{ Columns, Rows, Width, Height uint32 }
	if ssh.Unmarshal(payload, &body) != nil {
		return false
	}
	size := sizeOf(body.Columns, body.Rows, body.Width, body.Height)
	ch, pty := p.resized(size)
	return pty && (ch == nil || ch.WindowChange(size) == nil)
}

// resized notes the size until the program runs, and returns it from then on.
func (p *program) resized(size session.Size) (ch *session.Channel, pty bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pty != nil && p.running == nil {
		p.pty.Size = size
	}
	return p.running, p.pty != nil
}

func (p *program) signal(payload []byte) bool {
	var body struct{ Name string }
	if ssh.Unmarshal(payload, &body) != nil || !session.Signal(body.Name).Valid() {
		return false
	}
	p.mu.Lock()
	ch := p.running
	p.mu.Unlock()
	return ch != nil && ch.Signal(session.Signal(body.Name)) == nil
}

// lend hands the machine's connections to the agent over to the client, which
// connects them to the person's own.
func (p *program) lend(ctx context.Context, s *Session, program uint64) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		a, err := s.AcceptPipe(ctx)
		if err != nil {
			return
		}
		if a.Kind != session.AgentSocket || a.Of != program {
			a.Refuse(refusal.New(refusal.BadRequest, "nothing of that kind was lent"))
			continue
		}
		wg.Go(func() { handOver(p.front.tunnels.conn, a, string(a.Kind), nil) })
	}
}

// abandon ends the program, as a broken pipe would.
func (p *program) abandon() bool {
	p.mu.Lock()
	ch := p.running
	p.mu.Unlock()
	if ch != nil {
		_ = ch.Close()
	}
	return ch != nil
}

// run opens the session, runs the program in it and reports its end.
func (p *program) run(ctx context.Context, a Ask) {
	defer p.ch.Close()
	defer p.ch.CloseWrite()
	exit, err := p.play(ctx, a)
	if exit.Refusal != nil {
		err = exit.Refusal
	}
	if err != nil && ctx.Err() != nil {
		return // the client is gone
	}
	switch {
	case err != nil:
		p.exitStatus(uint32(p.front.cfg.Report(p.talk(), err)))
	case exit.Signal != "":
		_, _ = p.ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name string
			Core bool
			Text string
			Lang string
		}{Name: string(exit.Signal), Core: exit.CoreDumped}))
	default:
		p.exitStatus(p.fitting(runtime.GOOS, exit.Status))
	}
}

// fitting is what ssh here can end with in place of status: 8 bits where this is not
// Windows. ssh would cut one of a program on Windows, 256 to success.
func (p *program) fitting(system string, status uint32) uint32 {
	if system == "windows" || status <= 255 {
		return status
	}
	_, _ = fmt.Fprintf(p.talk(), "tucdesk: the program ended with status %d (0x%08X), more than a status of this system holds\n", status, status)
	return 1
}

func (p *program) exitStatus(code uint32) {
	_, _ = p.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{code}))
}

func (p *program) play(ctx context.Context, a Ask) (session.Exit, error) {
	if startsMosh(a) {
		return session.Exit{}, refusal.New(refusal.BadArgument, "mosh needs a port of its own at the machine, and machines here have none that is open; ssh through tucdesk, and tucdesk ssh, survive sleep and a change of network without it")
	}
	// Refused as everything else is, not by the answer to the request: with that ssh
	// ends before it has shown a reason.
	if a.Action == wire.Copy && a.subsystem != subsystem {
		return session.Exit{}, refusal.New(refusal.BadArgument, "there is no subsystem %q here: %s is the only one", a.subsystem, subsystem)
	}
	s, err := p.front.cfg.Open(ctx, a, p.talk())
	if err != nil {
		return session.Exit{}, err
	}
	defer s.Close()
	ch, err := s.OpenSession(ctx)
	if err != nil {
		return session.Exit{}, err
	}
	defer ch.Close()
	if a.agent {
		p.copying.Go(func() { p.lend(ctx, s, ch.ID()) })
	}
	if err := p.begin(ctx, ch, a); err != nil {
		return session.Exit{}, err
	}
	return p.join(ctx, ch)
}

// startsMosh recognises the line by which mosh starts its server, without and with the
// question for the address in front of it.
func startsMosh(a Ask) bool {
	if a.Action != wire.Shell || len(a.Params.Argv) == 0 {
		return false
	}
	line := a.Params.Argv[0]
	return bytes.HasPrefix(line, []byte("mosh-server new ")) || bytes.Contains(line, []byte(`printf "\nMOSH SSH_CONNECTION %s\n"`))
}

func (p *program) begin(ctx context.Context, ch *session.Channel, a Ask) error {
	if a.Action == wire.Copy {
		return ch.Subsystem(ctx, subsystem)
	}
	if err := p.prepare(ch, a); err != nil {
		return err
	}
	if a.agent {
		if err := ch.LendAgent(); err != nil {
			return err
		}
	}
	return ch.Shell(ctx)
}

// prepare says again in the channel what was signed. From here on changes of the
// window go to the machine.
func (p *program) prepare(ch *session.Channel, a Ask) error {
	if pty := p.take(ch); pty != nil {
		if err := ch.RequestPTY(*pty); err != nil {
			return err
		}
	}
	for _, e := range a.Params.Env {
		if err := ch.Setenv(e.Name, string(e.Value)); err != nil {
			return err
		}
	}
	return nil
}

// take makes ch the one that requests go to and returns the terminal as it is now.
func (p *program) take(ch *session.Channel) *session.PTY {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = ch
	if p.pty == nil {
		return nil
	}
	pty := *p.pty
	return &pty
}

// join copies until the program has ended and all of its output is the client's.
// The windows of both sides are the only buffers.
func (p *program) join(ctx context.Context, ch *session.Channel) (session.Exit, error) {
	stop := context.AfterFunc(ctx, func() { _ = ch.Close() })
	defer stop()
	var output sync.WaitGroup
	p.copying.Go(func() {
		in := ch.Stdin()
		if _, err := io.Copy(in, p.ch); err == nil {
			_ = in.Close()
		}
	})
	lost := func(err error) {
		if err != nil { // nobody takes the output: the program would wait for ever
			_ = ch.Close()
		}
	}
	output.Go(func() { lost(forward(p.ch, ch.Stdout())) })
	output.Go(func() { lost(forward(p.ch.Stderr(), ch.Stderr())) })
	output.Wait()
	return ch.Wait()
}

// errSink marks a write that failed, which tells which end has gone.
var errSink = errors.New("the client takes no more")

// forward copies and returns errSink when it is w that failed.
func forward(w io.Writer, r io.Reader) error {
	_, err := io.Copy(sink{w}, onlyReader{r})
	if errors.Is(err, errSink) {
		return err
	}
	return nil
}

type sink struct{ w io.Writer }

// Write marks an error as that of the client, so that forward can tell which end has gone.
func (s sink) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if err != nil {
		err = errSink
	}
	return n, err
}

type onlyReader struct{ io.Reader }

// talk is where the person reads what we say.
func (p *program) talk() io.Writer {
	if p.terminal() != nil {
		return rawLines{p.ch.Stderr()}
	}
	return p.ch.Stderr()
}

// rawLines ends lines as a terminal in raw mode needs it.
type rawLines struct{ w io.Writer }

// Write takes all of b or says why not; lines end with a carriage return too.
func (r rawLines) Write(b []byte) (int, error) {
	if _, err := r.w.Write(bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(b), nil
}
