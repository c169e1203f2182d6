package sshfront

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Limits; our choice.
const (
	// handshakeLimit is for two programs of one machine.
	handshakeLimit = 30 * time.Second
	// aliveEvery is below what people write as ServerAliveInterval.
	aliveEvery = time.Second
	// maxPrograms bounds the sessions of one connection; sshd has 10.
	maxPrograms = 64
	// maxEnv bounds the variables of one program; the policy looks at no more.
	maxEnv = 128
)

// version makes OpenSSH speak its own extensions with us, which it does only with
// what calls itself by that name. Without "eow" a program whose reader has left, as
// in "ssh web yes | head -n 1", would never learn of it.
const version = "SSH-2.0-OpenSSH_extensions_TucDesk"

// SelfUser is the SSH user name that stands for the user the agent runs as. ssh
// always sends a name, so "nobody in particular" needs one; it is that of policies.
const SelfUser = "@agent"

// sshPort is where ssh expects a server behind a jump.
const sshPort = 22

const (
	// Suffix marks the names of machines that ssh hands to us.
	Suffix = ".tucdesk"
	// HostKeyFile is the host key's name in the state folder.
	HostKeyFile = "ssh_host_key"
)

// Ask is what a session is wanted for.
type Ask struct {
	Action wire.Action
	Params wire.Params

	agent     bool   // the program is to be lent the client's SSH agent
	subsystem string // that the client has named; "" is none
}

// Session is an open session. Close ends it and waits for all that belongs to it.
type Session struct {
	*session.Conn
	Close func()
}

// Config is what a front needs of the client around it.
type Config struct {
	Key  ssh.Signer // host key
	Host string     // the machine's name, for what is told about it
	// Open asks for a session, waits for approvals and opens it. It says on say
	// what it waits for. It may be called from several goroutines at once.
	Open func(ctx context.Context, a Ask, say io.Writer) (*Session, error)
	// Passing reports that what Open failed with may be gone in a while.
	Passing func(error) bool
	// Env reports whether a variable may be asked for.
	Env func(name string) bool
	// Report writes why something failed, for people, and returns the exit status.
	Report func(w io.Writer, err error) int
	// Talk is where the person reads what belongs to no channel, if anywhere.
	Talk io.Writer
	// Other is the Config for another machine of the team, by its name without Suffix.
	// It is asked when somebody jumps through this machine to that one (ssh -J).
	Other func(machine string) Config
}

// front is one SSH connection.
type front struct {
	cfg  Config
	user string // of the machine; "" is the agent's own

	conn    ssh.Conn
	tunnels *tunnels
	talk    *lockedWriter // cfg.Talk

	mu       sync.Mutex
	programs int // guarded by mu
}

// ErrHandshake is in the error of Serve when the program at the other end of the pipes
// is no ssh, has ended, or did not take the host key.
var ErrHandshake = errors.New("speaking SSH with the program that started us")

// Serve speaks the SSH server's side on in and out until the client goes or ctx
// ends, and returns when its sessions have ended. A read of in may be left behind;
// it ends with in.
func Serve(ctx context.Context, cfg Config, in io.ReadCloser, out io.WriteCloser) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pipe := &pipes{in: in, out: out}
	defer pipe.Close()
	conn, channels, requests, err := handshake(ctx, cfg, pipe)
	if err != nil {
		return err
	}
	talk := &lockedWriter{w: cfg.Talk}
	cfg.Talk = talk
	f := &front{cfg: cfg, user: conn.User(), conn: conn, talk: talk}
	f.tunnels = &tunnels{front: f, conn: conn, listeners: map[string]*listener{}, byID: map[place]*listener{}}
	if f.user == SelfUser {
		f.user = ""
	}
	var wg sync.WaitGroup
	defer f.tunnels.close() // when nobody is left who could have its session opened again
	defer wg.Wait()
	defer cancel()
	defer conn.Close()
	wg.Go(func() { f.global(ctx, requests) })
	for {
		select {
		case c, ok := <-channels:
			if !ok {
				return nil
			}
			wg.Go(func() { f.channel(ctx, c) })
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// handshake takes whoever is at the other end of the pipes: see the package
// comment.
func handshake(ctx context.Context, cfg Config, pipe *pipes) (*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	server := &ssh.ServerConfig{NoClientAuth: true, ServerVersion: version}
	server.AddHostKey(cfg.Key)
	ctx, stop := context.WithTimeout(ctx, handshakeLimit)
	defer stop()
	cut := context.AfterFunc(ctx, func() { _ = pipe.Close() })
	defer cut()
	conn, channels, requests, err := ssh.NewServerConn(pipe, server)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %v", ErrHandshake, err)
	}
	return conn, channels, requests, nil
}

// global answers requests that belong to no channel. An unknown one is refused,
// which is also the answer that a keep-alive wants.
func (f *front) global(ctx context.Context, requests <-chan *ssh.Request) {
	for {
		select {
		case r, ok := <-requests:
			if !ok {
				return
			}
			if isListen(r) {
				f.alive(ctx, r, f.tunnels.asked)
			} else {
				_ = r.Reply(false, nil)
			}
		case <-ctx.Done():
			return
		}
	}
}

// alive answers a request that may have to wait for people, as -R does for an
// approval. What comes behind it has to wait as well, because answers go by their
// order, keep-alives among it. So ssh hears something from us meanwhile: any packet
// counts for it.
func (f *front) alive(ctx context.Context, r *ssh.Request, answer func(context.Context, *ssh.Request)) {
	answered := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(answered)
	wg.Go(func() {
		tick := time.NewTicker(aliveEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _, _ = f.conn.SendRequest("keepalive@openssh.com", false, nil)
			case <-answered:
				return
			}
		}
	})
	answer(ctx, r)
}

func (f *front) channel(ctx context.Context, c ssh.NewChannel) {
	switch c.ChannelType() {
	case "session":
		f.session(ctx, c)
	case string(session.DirectTCP), string(session.DirectSocket):
		f.tunnels.direct(ctx, c)
	default:
		_ = c.Reject(ssh.UnknownChannelType, "tucdesk has no channels of this type")
	}
}

// session takes a place for a program and serves it.
func (f *front) session(ctx context.Context, c ssh.NewChannel) {
	if !f.place(1) {
		_ = c.Reject(ssh.ResourceShortage, fmt.Sprintf("at most %d sessions in one connection", maxPrograms))
		return
	}
	defer f.place(-1)
	ch, requests, err := c.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	p := &program{front: f, ch: ch}
	p.serve(ctx, requests)
}

func (f *front) place(n int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n > 0 && f.programs >= maxPrograms {
		return false
	}
	f.programs += n
	return true
}

// pipes are our standard input and output as one connection.
type pipes struct {
	in   io.ReadCloser
	out  io.WriteCloser
	once sync.Once
}

// Read reads what ssh sends.
func (p *pipes) Read(b []byte) (int, error) { return p.in.Read(b) }

// Write sends to ssh.
func (p *pipes) Write(b []byte) (int, error) { return p.out.Write(b) }

// Close closes both once; a read of a pipe may go on.
func (p *pipes) Close() error {
	p.once.Do(func() {
		_ = p.out.Close()
		_ = p.in.Close()
	})
	return nil
}

// LocalAddr has a name only because connections have one.
func (p *pipes) LocalAddr() net.Addr { return pipeAddr{} }

// RemoteAddr is the same: the ssh at the other end runs here.
func (p *pipes) RemoteAddr() net.Addr { return pipeAddr{} }

// SetDeadline does nothing: the handshake is bounded by Close, and ssh watches the rest.
func (p *pipes) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing; see SetDeadline.
func (p *pipes) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing; see SetDeadline.
func (p *pipes) SetWriteDeadline(time.Time) error { return nil }

type pipeAddr struct{}

// Network is "pipe".
func (pipeAddr) Network() string { return "pipe" }

// String is for messages.
func (pipeAddr) String() string { return "this machine" }
