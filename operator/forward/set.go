package forward

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/join"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
)

// Limits; our choice, but for the first, which is the session's.
const (
	maxConnections = 10000            // at once; protocol 2.7
	dialLimit      = 15 * time.Second // to a target of -R on this computer's side
	greetLimit     = 15 * time.Second // for a SOCKS client to say what it wants
	waitLimit      = 30 * time.Second // of a connection for a session
)

// EventType says what an Event is about.
type EventType string

// The types of events.
const (
	Listening EventType = "listening" // At is listened at
	Opened    EventType = "open"      // From was joined to To
	Closed    EventType = "close"     // and that connection has ended
	Refused   EventType = "refused"   // From was not joined to To, or At is not listened at: Err
)

// Event is something that happened to a forward. From and the text of Err may come
// from the machine and are not escaped.
type Event struct {
	Type  EventType  // what happened
	Spec  Spec       // the forward that it happened to
	At    string     // where is listened
	Conn  Connection // of Opened, Closed and Refused; its ID is 0 where it was refused
	Taken int64      // bytes from who connected, of a closed connection
	Given int64      // and to it
	Err   error      // of Refused alone
}

// Connection is one forwarded connection.
type Connection struct {
	ID    uint64    // counts from 1
	Spec  Spec      // the forward that it came by
	From  string    // who connected, as an address or in words
	To    string    // what was connected to
	Since time.Time // when both sides stood
}

// Config is what a Set is made with.
type Config struct {
	Gateway bool // where a spec says no address, listen on all
	Unlink  bool // remove a socket that is in the way of a listener
	// Report is told what happens, from several goroutines at once.
	Report func(Event)
}

// Set is the forwards of one command, with the session that they have at present.
type Set struct {
	cfg    Config
	ctx    context.Context // of everything below
	cancel context.CancelFunc
	wg     sync.WaitGroup

	asking sync.Mutex // held while the machine is asked to listen: what it connects meanwhile may be for that listener

	mu        sync.Mutex
	remotes   []Spec                // guarded by mu; what every session has to listen at
	conn      *session.Conn         // guarded by mu; nil between two sessions
	attached  chan struct{}         // guarded by mu; closed when conn is set, then replaced
	listeners map[uint64]Spec       // guarded by mu; of conn, by the channel
	open      map[uint64]Connection // guarded by mu
	last      uint64                // guarded by mu; the newest connection's ID
	emptied   chan struct{}         // guarded by mu; closed when open becomes empty, then replaced
}

// New makes an empty set. Close ends it.
func New(cfg Config) *Set {
	ctx, cancel := context.WithCancel(context.Background())
	return &Set{cfg: cfg, ctx: ctx, cancel: cancel, attached: make(chan struct{}), emptied: make(chan struct{}), listeners: map[uint64]Spec{}, open: map[uint64]Connection{}}
}

// Close ends listeners and connections and waits for them. It may be called more
// than once.
func (s *Set) Close() {
	s.cancel()
	s.wg.Wait()
}

// Add begins a forward. One that the machine listens for is asked for at once if
// there is a session, and in each that follows.
func (s *Set) Add(ctx context.Context, spec Spec) error {
	if spec.Way != Remote {
		return s.listen(spec)
	}
	conn := s.addRemote(spec)
	if conn == nil {
		return nil
	}
	return s.ask(ctx, conn, spec)
}

func (s *Set) addRemote(spec Spec) *session.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remotes = append(s.remotes, spec)
	return s.conn
}

// Connections lists those that are open, oldest first.
func (s *Set) Connections() []Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Connection, 0, len(s.open))
	for _, c := range s.open {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Connection) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Ask has the machine listen wherever it is to, while Serve runs with that session.
// The error joins what was refused, each of which was reported as well; everything
// else works.
func (s *Set) Ask(ctx context.Context, conn *session.Conn) error {
	s.mu.Lock()
	remotes := slices.Clone(s.remotes)
	s.mu.Unlock()
	var failed []error
	for _, spec := range remotes {
		failed = append(failed, s.ask(ctx, conn, spec))
	}
	return errors.Join(failed...)
}

// ask has the machine listen.
func (s *Set) ask(ctx context.Context, conn *session.Conn, spec Spec) error {
	o := session.Opening{Kind: session.ListenTCP, Host: spec.Listen.Host, Port: spec.Listen.Port}
	if spec.Listen.Socket != "" {
		o = session.Opening{Kind: session.ListenSocket, Host: spec.Listen.Socket}
	}
	if o.Kind == session.ListenTCP && o.Host == "" {
		o.Host = "localhost"
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	p, err := conn.OpenPipe(ctx, o)
	if err != nil {
		s.cfg.Report(Event{Type: Refused, Spec: spec, At: spec.Listen.String(), Err: err})
		return err
	}
	at := spec.Listen
	if at.Socket == "" {
		at.Port = p.Port()
	}
	s.mu.Lock()
	s.listeners[p.ID()] = spec
	s.mu.Unlock()
	s.cfg.Report(Event{Type: Listening, Spec: spec, At: at.String()})
	return nil
}

// Serve gives the set a session, joins what the machine has to give until it ends,
// and takes it away again.
func (s *Set) Serve(conn *session.Conn) {
	s.mu.Lock()
	s.conn = conn
	close(s.attached)
	s.attached = make(chan struct{})
	s.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		a, err := conn.AcceptPipe(s.ctx)
		if err != nil {
			break
		}
		wg.Go(func() { s.forwarded(a) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = nil
	clear(s.listeners)
}

// session waits for one.
func (s *Set) session(ctx context.Context) (*session.Conn, error) {
	for {
		s.mu.Lock()
		conn, next := s.conn, s.attached
		s.mu.Unlock()
		if conn != nil {
			return conn, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil, refusal.New(refusal.Unreachable, "there is no session at present")
		}
	}
}

// begin counts a connection in; ok is false when there are too many.
func (s *Set) begin(spec Spec, from, to string) (Connection, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= maxConnections {
		return Connection{}, false
	}
	s.last++
	c := Connection{ID: s.last, Spec: spec, From: from, To: to, Since: time.Now()}
	s.open[c.ID] = c
	return c, true
}

func (s *Set) end(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, id)
	if len(s.open) == 0 {
		close(s.emptied)
		s.emptied = make(chan struct{})
	}
}

// Drain waits until no connection is open, or ctx ends.
func (s *Set) Drain(ctx context.Context) {
	for {
		s.mu.Lock()
		n, emptied := len(s.open), s.emptied
		s.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-emptied:
		case <-ctx.Done():
			return
		}
	}
}

// join makes one connection of two and reports its beginning and its end. It
// closes both.
func (s *Set) join(spec Spec, from, to string, client, target join.Conn) {
	c, ok := s.begin(spec, from, to)
	if !ok {
		_, _ = client.Close(), target.Close()
		s.refused(spec, from, to, refusal.New(refusal.TooMany, "at most %d connections at once", maxConnections))
		return
	}
	defer s.end(c.ID)
	s.cfg.Report(Event{Type: Opened, Spec: spec, Conn: c})
	stop := context.AfterFunc(s.ctx, func() { _, _ = client.Close(), target.Close() })
	defer stop()
	taken, given := join.Both(client, target)
	s.cfg.Report(Event{Type: Closed, Spec: spec, Conn: c, Taken: taken, Given: given})
}

func (s *Set) refused(spec Spec, from, to string, err error) {
	if s.ctx.Err() == nil {
		s.cfg.Report(Event{Type: Refused, Spec: spec, Conn: Connection{Spec: spec, From: from, To: to}, Err: err})
	}
}

// hostPort is a target as people write it.
func hostPort(host string, port uint16) string { return Address{Host: host, Port: port}.String() }

// dial connects on this computer's side.
func (s *Set) dial(to Address) (join.Conn, error) {
	d := net.Dialer{Timeout: dialLimit}
	network, address := "tcp", to.String()
	if to.Socket != "" {
		network = "unix"
	}
	c, err := d.DialContext(s.ctx, network, address)
	if err != nil {
		return nil, err
	}
	return c.(join.Conn), nil
}
