package sshfront

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errRefused = errors.New("not today")

// serve runs a front whose sessions are all refused, and returns a client of it and
// what was asked for.
func serve(t *testing.T, user string) (*ssh.Client, <-chan Ask) {
	t.Helper()
	key, err := HostKey(filepath.Join(t.TempDir(), HostKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan Ask, maxPrograms)
	cfg := Config{
		Key: key, Talk: io.Discard,
		Open: func(_ context.Context, a Ask, say io.Writer) (*Session, error) {
			_, _ = io.WriteString(say, "asking\n")
			asked <- a
			return nil, errRefused
		},
		Env:    func(name string) bool { return strings.HasPrefix(name, "LC_") },
		Report: func(w io.Writer, err error) int { _, _ = io.WriteString(w, err.Error()+"\n"); return 253 },
	}
	in, toFront := pipe(t)
	fromFront, out := pipe(t)
	served := make(chan error, 1)
	go func() { served <- Serve(context.Background(), cfg, in, out) }()
	conn, chans, reqs, err := ssh.NewClientConn(&pipes{in: fromFront, out: toFront}, "web", &ssh.ClientConfig{User: user, HostKeyCallback: ssh.FixedHostKey(key.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	c := ssh.NewClient(conn, chans, reqs)
	t.Cleanup(func() {
		_ = c.Close()
		_ = c.Wait() // for its own goroutines: the check for those that are left has no patience
		select {
		case <-served:
		case <-time.After(time.Minute):
			t.Error("the front does not end with its client")
		}
	})
	return c, asked
}

// pipe is one of those that ssh makes for a ProxyCommand.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

func TestACommandIsSignedAsItIsWritten(t *testing.T) {
	c, asked := serve(t, "deploy")
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	s.Stderr = &stderr
	_ = s.Setenv("LC_ALL", "C")
	_ = s.Setenv("LD_PRELOAD", "/tmp/evil.so")
	err = s.Run(`printf '%s' "a  b"; exit 3`)
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 253 {
		t.Fatalf("the command ended with %v", err)
	}
	if stderr.String() != "asking\nnot today\n" {
		t.Errorf("the person reads %q", stderr.String())
	}
	a := <-asked
	if a.Action != wire.Shell || len(a.Params.Argv) != 1 || string(a.Params.Argv[0]) != `printf '%s' "a  b"; exit 3` || a.Params.User != "deploy" || a.Params.TTY {
		t.Errorf("asked for %+v", a)
	}
	if len(a.Params.Env) != 1 || a.Params.Env[0].Name != "LC_ALL" || string(a.Params.Env[0].Value) != "C" {
		t.Errorf("asked for the environment %v", a.Params.Env)
	}
}

func TestAShellOnATerminalAsksForOne(t *testing.T) {
	c, asked := serve(t, SelfUser)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	s.Stderr = &stderr
	if err := s.RequestPty("xterm", 24, 80, ssh.TerminalModes{ssh.ECHO: 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	_ = s.Wait()
	if a := <-asked; a.Action != wire.Shell || len(a.Params.Argv) != 0 || !a.Params.TTY || a.Params.User != "" {
		t.Errorf("asked for %+v", a)
	}
	if stderr.String() != "asking\r\nnot today\r\n" {
		t.Errorf("on a raw terminal the person reads %q", stderr.String())
	}
}

// Attack H8 at the near end: a client cannot make us hold any number of programs.
func TestH8SessionsOfOneConnectionAreBounded(t *testing.T) {
	c, _ := serve(t, SelfUser)
	for i := range maxPrograms {
		if _, _, err := c.OpenChannel("session", nil); err != nil {
			t.Fatalf("channel %d: %v", i, err)
		}
	}
	_, _, err := c.OpenChannel("session", nil)
	var refused *ssh.OpenChannelError
	if !errors.As(err, &refused) || refused.Reason != ssh.ResourceShortage {
		t.Errorf("one channel more gives %v", err)
	}
}

func TestUnknownChannelsAndRequestsAreRefused(t *testing.T) {
	c, _ := serve(t, SelfUser)
	var refused *ssh.OpenChannelError
	if _, _, err := c.OpenChannel("x11", nil); !errors.As(err, &refused) || refused.Reason != ssh.UnknownChannelType {
		t.Errorf("a channel of type x11 gives %v", err)
	}
	if ok, _, err := c.SendRequest("keepalive@openssh.com", true, nil); ok || err != nil {
		t.Errorf("a keep-alive gets %v, %v", ok, err)
	}
}

// ssh itself says only "subsystem request failed", whatever the reason.
func TestAnUnknownSubsystemIsRefusedByName(t *testing.T) {
	c, asked := serve(t, SelfUser)
	ch, requests, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	status := make(chan uint32, 1)
	go func() {
		defer close(status)
		for r := range requests {
			var body struct{ Status uint32 }
			if r.Type == "exit-status" && ssh.Unmarshal(r.Payload, &body) == nil {
				status <- body.Status
			}
		}
	}()
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"netconf\x1b[2J"})); !ok || err != nil {
		t.Fatalf("the request gets %v, %v", ok, err)
	}
	said, err := io.ReadAll(ch.Stderr())
	if got, want := string(said), `bad_argument: there is no subsystem "netconf\x1b[2J" here: sftp is the only one`+"\n"; err != nil || got != want {
		t.Errorf("the person reads %q, %v; want %q", got, err, want)
	}
	if got := <-status; got != 253 {
		t.Errorf("it ended with %d", got)
	}
	if len(asked) > 0 {
		t.Errorf("a session is asked for: %+v", <-asked)
	}
}

func TestHostKeyIsMadeOnceAndIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), HostKeyFile)
	if _, err := LoadHostKey(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("loading none: %v", err)
	}
	first, err := HostKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := CreateHostKey(path)
	if err != nil || !bytes.Equal(first.PublicKey().Marshal(), again.PublicKey().Marshal()) {
		t.Errorf("a second program got another key: %v", err)
	}
	if err := os.WriteFile(path, []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := HostKey(path); err == nil {
		t.Error("a damaged key file was replaced or taken")
	}
}

func TestKnownHostLineHoldsNoPattern(t *testing.T) {
	key, err := HostKey(filepath.Join(t.TempDir(), HostKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"web.tucdesk": true, "[web.tucdesk]:2222": true, "": false, "*": false, "a b": false, "a,b": false, "!a": false, "a\nb": false, "@cert-authority": false} {
		if _, ok := KnownHost(name, key.PublicKey()); ok != want {
			t.Errorf("%q: %v, want %v", name, ok, want)
		}
	}
}

func FuzzModes(f *testing.F) {
	f.Add([]byte{53, 0, 0, 0, 1, 0})
	f.Add([]byte{53, 0, 0})
	f.Add([]byte{200, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		modes, ok := parseModes(b)
		if !ok && modes != nil || len(modes) > len(b)/5 {
			t.Errorf("%x gives %d modes, %v", b, len(modes), ok)
		}
		for _, m := range modes {
			if m.Op == 0 || m.Op >= 160 {
				t.Errorf("%x gives opcode %d", b, m.Op)
			}
		}
	})
}

func TestSizesAreCutToWhatASessionCarries(t *testing.T) {
	if got := sizeOf(1<<32-1, 1<<20, 70000, 5); got != (session.Size{Columns: 65535, Rows: 65535, Width: 65535, Height: 5}) {
		t.Errorf("got %+v", got)
	}
}

func TestMoshIsRefusedByName(t *testing.T) {
	c, asked := serve(t, SelfUser)
	for _, line := range []string{
		"mosh-server new -s -c 256 -l LC_ALL=C.UTF-8",
		`sh -c '[ -n "$SSH_CONNECTION" ] && printf "\nMOSH SSH_CONNECTION %s\n" "$SSH_CONNECTION"' ; mosh-server new -s`,
	} {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.CombinedOutput(line)
		if err == nil || !strings.Contains(string(out), "mosh needs a port of its own") {
			t.Errorf("%q says %q, %v", line, out, err)
		}
	}
	select {
	case a := <-asked:
		t.Errorf("a session is asked for: %+v", a)
	default:
	}
}

// A jump to another machine of the team is a session of its own to that one; everything
// else is the machine's to connect.
func TestAJumpToAMachineOfTheTeamIsServedHere(t *testing.T) {
	for _, c := range []struct {
		opening session.Opening
		machine string
		is      bool
	}{
		{session.Opening{Kind: session.DirectTCP, Host: "web.tucdesk", Port: 22}, "web", true},
		{session.Opening{Kind: session.DirectTCP, Host: "WEB.tucdesk", Port: 22}, "web", true},
		{session.Opening{Kind: session.DirectTCP, Host: "web.tucdesk", Port: 80}, "web", false},
		{session.Opening{Kind: session.DirectTCP, Host: "web", Port: 22}, "web", false}, // is the machine's DNS to find
		{session.Opening{Kind: session.DirectTCP, Host: "tucdesk", Port: 22}, "tucdesk", false},
		{session.Opening{Kind: session.DirectTCP, Host: "127.0.0.1", Port: 22}, "127.0.0.1", false},
		{session.Opening{Kind: session.DirectSocket, Host: "/run/x.tucdesk", Port: 22}, "/run/x", false},
	} {
		if machine, is := ofTeam(c.opening); machine != c.machine || is != c.is {
			t.Errorf("%+v: %q, %v", c.opening, machine, is)
		}
	}
}
