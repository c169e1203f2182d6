package relay

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun"
	"github.com/pion/turn/v2"
	"github.com/tucdesk/tucdesk/internal/sidebyside"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	sidebyside.Tests(8)
	goleak.VerifyTestMain(m)
}

const patience = 30 * time.Second // bounds every wait of a test

// serve runs a relay on loopback until the test ends. edit may change its
// configuration before.
func serve(t testing.TB, edit func(*Config)) *Server {
	t.Helper()
	cfg := Config{
		UDP: netip.MustParseAddrPort("127.0.0.1:0"), TCP: netip.MustParseAddrPort("127.0.0.1:0"),
		Secret: credential.NewSecret(),
	}
	if edit != nil {
		edit(&cfg)
	}
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return s
}

// secret is the current one of a relay under test.
func secret(s *Server) credential.Secret { return s.secrets.Load()[0] }

func mint(s *Server) (operator, agent credential.Credential) {
	return credential.MintPair(secret(s), time.Now(), time.Minute)
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// raw is a TURN client that sends what a test tells it to.
type raw struct {
	t    testing.TB
	conn net.Conn
	cred credential.Credential
	// realm and nonce of the relay, once it has told them.
	realm stun.Realm
	nonce stun.Nonce
}

// dialRaw connects to a relay over "udp" or "tcp", from any loopback address.
func dialRaw(t testing.TB, s *Server, network string, cred credential.Credential, from ...string) *raw {
	t.Helper()
	udpAddr, tcpAddr := s.Addr()
	d := net.Dialer{}
	to := udpAddr
	if network == "tcp" {
		to = tcpAddr
	} else if len(from) > 0 {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from[0]))
	}
	conn, err := d.Dial(network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	c := &raw{t: t, conn: conn, cred: cred}
	if network == "tcp" {
		if c.conn, err = guard.NewConn(conn, guard.Options{Side: guard.Client}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { conn.Close() })
	return c
}

func (c *raw) send(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// receive returns the next frame, or nil after the wait.
func (c *raw) receive(wait time.Duration) []byte {
	buf := make([]byte, 2048)
	c.conn.SetReadDeadline(time.Now().Add(wait))
	n, err := c.conn.Read(buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

func compose(method stun.Method, attrs ...stun.Setter) *stun.Message {
	all := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attrs...)
	return stun.MustBuild(all...)
}

// exchange sends one message and returns the answer with its transaction id, or
// nil after the wait.
func (c *raw) exchange(m *stun.Message, wait time.Duration) *stun.Message {
	c.t.Helper()
	c.send(m.Raw)
	for deadline := time.Now().Add(wait); ; {
		b := c.receive(time.Until(deadline))
		if b == nil {
			return nil
		}
		res := &stun.Message{Raw: b}
		if !guard.IsChannelData(b) && res.Decode() == nil && res.TransactionID == m.TransactionID {
			return res
		}
	}
}

// attribute is a setter for one raw attribute.
func attribute(typ stun.AttrType, value ...byte) stun.Setter {
	return stun.RawAttribute{Type: typ, Value: value}
}

func transport() stun.Setter { return attribute(stun.AttrRequestedTransport, 17, 0, 0, 0) }

type peerAddress netip.AddrPort

func (p peerAddress) AddTo(m *stun.Message) error {
	a := netip.AddrPort(p)
	return stun.XORMappedAddress{IP: a.Addr().AsSlice(), Port: int(a.Port())}.AddToAs(m, stun.AttrXORPeerAddress)
}

func pairPeer() stun.Setter { return peerAddress(guard.PeerAddr()) }

func channel() stun.Setter { return attribute(stun.AttrChannelNumber, 0x40, 0, 0, 0) }

// signed adds user, realm, nonce and integrity to a request.
func (c *raw) signed(method stun.Method, attrs ...stun.Setter) *stun.Message {
	sum := md5.Sum([]byte(c.cred.Username + ":" + c.realm.String() + ":" + credential.Text(c.cred.Password)))
	attrs = append(attrs, stun.NewUsername(c.cred.Username), c.realm, c.nonce, stun.MessageIntegrity(sum[:]))
	return compose(method, attrs...)
}

// challenge fetches realm and nonce.
func (c *raw) challenge() {
	c.t.Helper()
	first := compose(stun.MethodAllocate, transport())
	padded := &stun.Message{Raw: guard.PadRequest(first.Raw), TransactionID: first.TransactionID}
	res := c.exchange(padded, patience)
	if res == nil {
		c.t.Fatal("no answer to the first request")
	}
	if c.realm.GetFrom(res) != nil || c.nonce.GetFrom(res) != nil {
		c.t.Fatal("no realm or nonce in the first answer")
	}
	c.realm, c.nonce = append(stun.Realm(nil), c.realm...), append(stun.Nonce(nil), c.nonce...)
}

// code returns the error code of an answer: 0 for success, -1 for none at all.
func code(m *stun.Message) int {
	if m == nil {
		return -1
	}
	var e stun.ErrorCodeAttribute
	if m.Type.Class == stun.ClassSuccessResponse {
		return 0
	}
	if e.GetFrom(m) != nil {
		return 1
	}
	return int(e.Code)
}

// allocate runs both steps of an allocation and returns the error code.
func (c *raw) allocate() int {
	c.t.Helper()
	c.challenge()
	return code(c.exchange(c.signed(stun.MethodAllocate, transport()), patience))
}

func (c *raw) bind() int {
	c.t.Helper()
	return code(c.exchange(c.signed(stun.MethodChannelBind, pairPeer(), channel()), patience))
}

// join allocates and binds, or fails the test.
func (c *raw) join() *raw {
	c.t.Helper()
	if got := c.allocate(); got != 0 {
		c.t.Fatalf("allocate: error %d", got)
	}
	if got := c.bind(); got != 0 {
		c.t.Fatalf("bind: error %d", got)
	}
	return c
}

// frame is a padded ChannelData frame.
func frame(payload string) []byte {
	b := make([]byte, guard.PaddedSize(len(payload)))
	guard.PutChannelHeader(b, guard.Channel, len(payload))
	copy(b[guard.ChannelHeaderSize:], payload)
	return b
}

// hears waits for one payload on the channel.
func (c *raw) hears(want string) {
	c.t.Helper()
	b := c.receive(patience)
	if ch, got, err := guard.ParseChannelData(b); err != nil || ch != guard.Channel || string(got) != want {
		c.t.Fatalf("heard %q on %#x (%v), want %q", got, ch, err, want)
	}
}

// foreign is pion's own client, with nothing of internal/link around it.
type foreign struct {
	client *turn.Client
	relay  net.PacketConn
	conn   net.PacketConn
}

// padded is a socket whose first request the relay may answer.
type padded struct{ net.PacketConn }

func (p padded) WriteTo(b []byte, to net.Addr) (int, error) {
	if _, err := p.PacketConn.WriteTo(guard.PadRequest(b), to); err != nil {
		return 0, err
	}
	return len(b), nil
}

// dialPion allocates with pion's client.
func dialPion(t *testing.T, s *Server, network string, cred credential.Credential) (*foreign, error) {
	t.Helper()
	udpAddr, tcpAddr := s.Addr()
	f := &foreign{}
	to := udpAddr
	if network == "tcp" {
		to = tcpAddr
		sock, err := net.Dial("tcp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		gc, err := guard.NewConn(sock, guard.Options{Side: guard.Client})
		if err != nil {
			t.Fatal(err)
		}
		f.conn = turn.NewSTUNConn(gc)
	} else {
		sock, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f.conn = padded{sock}
	}
	t.Cleanup(func() { f.conn.Close() })
	var err error
	f.client, err = turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: to.String(), Conn: f.conn, Username: cred.Username, Password: credential.Text(cred.Password),
		LoggerFactory: pionLog{discard()},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.client.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.client.Close)
	if f.relay, err = f.client.Allocate(); err != nil {
		return nil, err
	}
	t.Cleanup(func() { f.relay.Close() })
	return f, f.client.CreatePermission(net.UDPAddrFromAddrPort(guard.PeerAddr()))
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// tell sends payloads to the pair's peer until the other side hears one.
func (f *foreign) tell(t *testing.T, other *foreign, want string) {
	t.Helper()
	to := net.UDPAddrFromAddrPort(guard.PeerAddr())
	buf := make([]byte, 2048)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := f.relay.WriteTo([]byte(want), to); err != nil {
			t.Fatalf("send %q: %v", want, err)
		}
		other.relay.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		for {
			n, from, err := other.relay.ReadFrom(buf)
			if err != nil {
				break
			}
			if from.String() != guard.PeerAddr().String() {
				t.Fatalf("heard from %v", from)
			}
			if string(buf[:n]) == want {
				return
			}
		}
	}
	t.Fatalf("%q did not arrive", want)
}

// syncBuffer collects a log.
type syncBuffer struct {
	lines chan string
}

func newLog() (*slog.Logger, *syncBuffer) {
	b := &syncBuffer{lines: make(chan string, 1000)}
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})), b
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	select {
	case b.lines <- string(p):
		return len(p), nil
	default:
		return 0, errors.New("log is full")
	}
}

// drain returns what has been logged so far.
func (b *syncBuffer) drain() string {
	var all strings.Builder
	for {
		select {
		case l := <-b.lines:
			all.WriteString(l)
		default:
			return all.String()
		}
	}
}

var _ io.Writer = (*syncBuffer)(nil)

func repeat(b byte, n int) string { return string(bytes.Repeat([]byte{b}, n)) }
