package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/relay/guard"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute // bounds every wait of a test

// memLink is one end of an in-memory network with some relays.
type memLink struct {
	in, out chan link.Datagram
	done    chan struct{}
	changed chan struct{}
	once    sync.Once

	mu     sync.Mutex
	meddle func(d []byte) [][]byte // guarded by mu; what becomes of a datagram on the way out
	sent   int                     // guarded by mu
	lag    time.Duration           // guarded by mu; on the way out
	relays []link.RelayState       // guarded by mu
	dead   map[path.Via]bool       // guarded by mu; ways that lose everything on the way out
	other  *memLink

	mtu       int              // guarded by mu; longest datagram that direct ways carry
	largest   int              // guarded by mu; datagram since it was set to 0
	rechecked time.Time        // guarded by mu; the last Recheck
	relay     netip.AddrPort   // of an address that IsRelay knows
	local     []path.Candidate // set before the session begins
}

var oneRelay = path.Via{Relay: 1}

func newMemLinks() (operator, agent *memLink) { return newMemNet(1) }

func newMemNet(relays int) (operator, agent *memLink) {
	up, down := make(chan link.Datagram, 1<<14), make(chan link.Datagram, 1<<14)
	end := func(in, out chan link.Datagram) *memLink {
		l := &memLink{in: in, out: out, done: make(chan struct{}), changed: make(chan struct{}, 1), dead: map[path.Via]bool{}}
		for i := range relays {
			l.relays = append(l.relays, link.RelayState{Via: path.Via{Relay: uint8(i + 1)}, Kind: link.RelayUDP, Name: "relay.example", Up: true})
		}
		return l
	}
	operator, agent = end(down, up), end(up, down)
	operator.other, agent.other = agent, operator
	return operator, agent
}

func (l *memLink) Relays() []link.RelayState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]link.RelayState(nil), l.relays...)
}

func (l *memLink) Candidates() []path.Candidate { return l.local }

func (l *memLink) Changed() <-chan struct{} { return l.changed }

func (l *memLink) IsRelay(a netip.AddrPort) bool { return a == l.relay }

func (l *memLink) Recheck(path.Via) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rechecked = time.Now()
}

// kill makes a way lose everything in both directions, without a word.
func (l *memLink) kill(v path.Via, dead bool) {
	for _, end := range []*memLink{l, l.other} {
		end.mu.Lock()
		end.dead[v] = dead
		end.mu.Unlock()
	}
}

func (l *memLink) WriteSegments(v path.Via, b []byte, size int) error {
	if v.Relayed() && size > guard.MaxFrame {
		return fmt.Errorf("segments of %d bytes for a relay", size)
	}
	l.mu.Lock()
	meddle := l.meddle
	l.sent += (len(b) + size - 1) / size
	dead := l.dead[v]
	l.mu.Unlock()
	if dead {
		return nil
	}
	for len(b) > 0 {
		n := min(size, len(b))
		d := bytes.Clone(b[link.Headroom:n])
		b = b[n:]
		if meddle == nil {
			l.put(v, d)
			continue
		}
		for _, d := range meddle(d) {
			l.put(v, d)
		}
	}
	return nil
}

// WriteWhole loses what the way does not carry.
func (l *memLink) WriteWhole(v path.Via, b []byte) {
	l.mu.Lock()
	fits := len(b)-link.Headroom <= l.mtu && !l.dead[v]
	l.mu.Unlock()
	if fits {
		l.put(v, bytes.Clone(b[link.Headroom:]))
	}
}

// put loses what does not fit, as a network does.
func (l *memLink) put(v path.Via, d []byte) {
	l.mu.Lock()
	lag, lost := l.lag, l.mtu > 0 && !v.Relayed() && len(d) > l.mtu
	l.largest = max(l.largest, len(d))
	l.mu.Unlock()
	if lost {
		return
	}
	if lag > 0 {
		time.AfterFunc(lag, func() { l.deliver(v, d) })
		return
	}
	l.deliver(v, d)
}

func (l *memLink) deliver(v path.Via, d []byte) {
	select {
	case l.out <- link.Datagram{Via: v, B: d}:
	default:
	}
}

func (l *memLink) ReadBatch(ctx context.Context) ([]link.Datagram, error) {
	select {
	case d := <-l.in:
		return []link.Datagram{d}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memLink) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memLink) setMeddle(f func([]byte) [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.meddle = f
}

func delay(l *memLink, lag time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lag = lag
}

func (l *memLink) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

// shake is a real handshake up to CONFIRM.
type shake struct {
	m3    []byte
	keys  *handshake.Keys // the operator's
	agent *handshake.Agent
}

func newShake(t testing.TB) shake {
	t.Helper()
	operator, err := key.Generate[key.Operator]()
	if err != nil {
		t.Fatal(err)
	}
	agent, err := key.Generate[key.Agent]()
	if err != nil {
		t.Fatal(err)
	}
	o, err := handshake.NewOperator(handshake.OperatorConfig{Identity: operator, Session: [16]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	m1, err := o.Open(key.Hash{2})
	if err != nil {
		t.Fatal(err)
	}
	a, m2, err := handshake.Accept(handshake.AgentConfig{Identity: agent, Operator: operator.Public()}, m1)
	if err != nil {
		t.Fatal(err)
	}
	m3, _, keys, err := o.Confirm(m2, func(key.ID) (key.Public[key.Agent], error) { return agent.Public(), nil })
	if err != nil {
		t.Fatal(err)
	}
	return shake{m3: m3, keys: keys, agent: a}
}

var testReady = Ready{
	Rule: "ops may open shells", Policy: key.Hash{1, 2}, MaxDuration: time.Hour,
	MaxIdle: 90 * time.Second, MaxResume: 4 * time.Hour, AuditSeq: 7, AuditHead: key.Hash{3},
}

func (s shake) accept(l Link) AcceptConfig {
	return AcceptConfig{Link: l, Index: s.agent.Index(), Confirm: func(m3 []byte) (*handshake.Keys, Ready, error) {
		keys, err := s.agent.Confirm(m3)
		return keys, testReady, err
	}}
}

func (s shake) dial(l Link) DialConfig { return DialConfig{Link: l, M3: s.m3, Keys: s.keys} }

// connect starts both ends of a session.
func connect(t testing.TB, s shake, lo, la Link) (operator, agent *Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var err error
		agent, err = Accept(ctx, s.accept(la))
		done <- err
	}()
	operator, err := Dial(ctx, s.dial(lo))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return operator, agent
}

// world is a session whose agent echoes standard input until its end.
type world struct {
	t               testing.TB
	operator, agent *Conn
	wg              sync.WaitGroup
}

func newWorld(t testing.TB, lo, la Link) *world {
	t.Helper()
	w := &world{t: t}
	w.operator, w.agent = connect(t, newShake(t), lo, la)
	w.wg.Go(w.serve)
	return w
}

func memWorld(t testing.TB) (w *world, lo, la *memLink) {
	t.Helper()
	lo, la = newMemLinks()
	return newWorld(t, lo, la), lo, la
}

func (w *world) close() {
	w.operator.Close()
	w.agent.Close()
	w.wg.Wait()
}

func (w *world) serve() {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		ch, err := w.agent.AcceptChannel(context.Background())
		if err != nil {
			return
		}
		wg.Go(func() { w.program(ch) })
	}
}

// program is what the agent runs: argv[0] says what.
func (w *world) program(ch *ServerChannel) {
	for {
		r, err := ch.NextRequest(context.Background())
		if err != nil {
			return
		}
		e, ok := r.(ExecRequest)
		if !ok {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		switch string(e.Argv[0]) {
		case "cat":
			ch.Start()
			io.Copy(ch.Stdout(), ch.Stdin())
			ch.Exit(ctx, Exit{})
		case "fail":
			ch.Start()
			io.WriteString(ch.Stdout(), "out")
			io.WriteString(ch.Stderr(), "err")
			ch.Exit(ctx, Exit{Status: 3})
		default:
			ch.Refuse(ctx, refusal.New(refusal.CommandNotFound, "no such program"))
		}
		return
	}
}

// cat sends data through the agent's program and compares what comes back.
func (w *world) cat(data []byte) {
	w.t.Helper()
	w.catWithin(data, patience)
}

func (w *world) catWithin(data []byte, limit time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ch, err := w.operator.OpenSession(ctx)
	if err != nil {
		w.t.Error(err)
		return
	}
	defer ch.Close()
	if err := ch.Exec(ctx, [][]byte{[]byte("cat")}); err != nil {
		w.t.Error(err)
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := ch.Stdin().Write(data); err != nil {
			w.t.Errorf("writing: %v", err)
		}
		ch.Stdin().Close()
	})
	got, err := io.ReadAll(ch.Stdout())
	wg.Wait()
	if err != nil || !bytes.Equal(got, data) {
		w.t.Errorf("%d of %d bytes came back: %v", len(got), len(data), err)
	}
	if exit, err := ch.Wait(); err != nil || exit != (Exit{}) {
		w.t.Errorf("exit %+v: %v", exit, err)
	}
}

func random(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		<-time.After(time.Millisecond)
	}
}

// inject puts a datagram on the way to an end.
func inject(to *memLink, d []byte) { to.in <- link.Datagram{Via: oneRelay, B: bytes.Clone(d)} }

var errTest = errors.New("test")
