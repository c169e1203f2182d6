package labtest

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	turn "github.com/pion/stun"

	"github.com/tucdesk/tucdesk/internal/netlab"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// capture is every packet that left a host by its one interface, and what the host's
// kernel counted, which knows those too that never left it or had no route.
type capture struct {
	t     testing.TB
	host  *netlab.Host
	began counters

	mu   sync.Mutex
	own  map[netip.AddrPort]bool // sockets of clients; guarded by mu
	left []netlab.Packet         // guarded by mu
}

// counters are of one network namespace.
type counters struct {
	datagrams int // of UDP, that any socket has sent to anywhere: loopback, multicast, no route
	connects  int // of TCP, that any socket has begun
	loopback  int // packets of any kind
}

// watch begins a capture.
func watch(t testing.TB, h *netlab.Host) *capture {
	t.Helper()
	c := &capture{t: t, host: h, own: map[netip.AddrPort]bool{}}
	h.Allow(func(up bool, p netlab.Packet) bool {
		if up {
			c.mu.Lock()
			c.left = append(c.left, p)
			c.mu.Unlock()
		}
		return true
	})
	c.began = c.counters()
	return c
}

// client says that packets to this socket are the relay's business.
func (c *capture) client(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own[netip.MustParseAddrPort(conn.LocalAddr().String())] = true
}

// counters reads them from the host's kernel.
func (c *capture) counters() (n counters) {
	c.t.Helper()
	read := func(file string) (text []byte) {
		if err := c.host.Do(func() (err error) {
			text, err = os.ReadFile("/proc/thread-self/net/" + file)
			return err
		}); err != nil {
			c.t.Fatal(err)
		}
		return text
	}
	snmp := read("snmp")
	n.datagrams = named(c.t, snmp, "Udp:", "OutDatagrams") + word(c.t, read("snmp6"), "Udp6OutDatagrams", 1)
	n.connects = named(c.t, snmp, "Tcp:", "ActiveOpens")
	n.loopback = word(c.t, read("dev"), "lo:", 10) // packets that were sent
	return n
}

// named is a number below its name in one of the pairs of lines of /proc/net/snmp.
func named(t testing.TB, text []byte, group, name string) int {
	t.Helper()
	var names []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || f[0] != group:
		case names == nil:
			names = f
		default:
			for i := range names {
				if names[i] == name {
					return number(t, f[i])
				}
			}
		}
	}
	t.Fatalf("no %s %s in\n%s", group, name, text)
	return 0
}

// word is the i-th word of the line that begins with first.
func word(t testing.TB, text []byte, first string, i int) int {
	t.Helper()
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > i && f[0] == first {
			return number(t, f[i])
		}
	}
	t.Fatalf("no %s in\n%s", first, text)
	return 0
}

func number(t testing.TB, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// datagrams is how many of UDP were seen so far, and where those went that are
// nobody's answer.
func (c *capture) datagrams() (seen int, elsewhere []netlab.Packet) {
	from := netip.AddrPortFrom(c.host.IPv4(), relayPort)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.left {
		if p.Proto == netlab.UDP {
			seen++
		}
		if p.Src != from || !c.own[p.Dst] || p.Opens() {
			elsewhere = append(elsewhere, p)
		}
	}
	return seen, elsewhere
}

// hostile is a client that holds a valid credential and sends what it likes. Over UDP
// and TCP alike it reads and writes whole messages.
type hostile struct {
	t     testing.TB
	conn  net.Conn
	cred  credential.Credential
	realm turn.Realm
	nonce turn.Nonce
}

func (c *capture) dial(from *netlab.Host, network string, cred credential.Credential) *hostile {
	c.t.Helper()
	conn := dialFrom(c.t, from, network, netip.AddrPortFrom(c.host.IPv4(), relayPort))
	c.client(conn)
	if network == "tcp4" {
		framed, err := guard.NewConn(conn, guard.Options{Side: guard.Client})
		if err != nil {
			c.t.Fatal(err)
		}
		conn = framed
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	return &hostile{t: c.t, conn: conn, cred: cred}
}

func (h *hostile) send(b []byte) {
	h.t.Helper()
	if _, err := h.conn.Write(b); err != nil {
		h.t.Fatal(err)
	}
}

// until reads what comes up to the answer with an id, and hands out all of it.
func (h *hostile) until(id [turn.TransactionIDSize]byte) (answer *turn.Message, before []*turn.Message) {
	h.t.Helper()
	buf := make([]byte, 2048)
	for {
		n, err := h.conn.Read(buf)
		if err != nil {
			h.t.Fatalf("waiting for the relay's answer: %v", err)
		}
		m := &turn.Message{Raw: append([]byte(nil), buf[:n]...)}
		if guard.IsChannelData(m.Raw) || m.Decode() != nil {
			continue
		}
		if m.TransactionID == id {
			return m, before
		}
		before = append(before, m)
	}
}

func (h *hostile) signed(method turn.Method, attrs ...turn.Setter) *turn.Message {
	sum := md5.Sum([]byte(h.cred.Username + ":" + h.realm.String() + ":" + credential.Text(h.cred.Password)))
	all := append([]turn.Setter{turn.TransactionID, turn.NewType(method, turn.ClassRequest)}, attrs...)
	return turn.MustBuild(append(all, turn.NewUsername(h.cred.Username), h.realm, h.nonce, turn.MessageIntegrity(sum[:]))...)
}

// granted sends a request that the relay has to grant.
func (h *hostile) granted(m *turn.Message) (before []*turn.Message) {
	h.t.Helper()
	h.send(m.Raw)
	answer, before := h.until(m.TransactionID)
	if answer.Type.Class != turn.ClassSuccessResponse {
		h.t.Fatalf("%v: the relay answers %v", m.Type, answer)
	}
	return before
}

var overUDP = turn.RawAttribute{Type: turn.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}

// allocate gets a place at the relay, as an honest client does.
func (h *hostile) allocate() *hostile {
	h.t.Helper()
	first := turn.MustBuild(turn.TransactionID, turn.NewType(turn.MethodAllocate, turn.ClassRequest), overUDP)
	h.send(guard.PadRequest(first.Raw))
	challenge, _ := h.until(first.TransactionID)
	if err := h.realm.GetFrom(challenge); err != nil {
		h.t.Fatal(err)
	}
	if err := h.nonce.GetFrom(challenge); err != nil {
		h.t.Fatal(err)
	}
	h.granted(h.signed(turn.MethodAllocate, overUDP))
	return h
}

func (h *hostile) bind() *hostile {
	h.t.Helper()
	h.granted(h.signed(turn.MethodChannelBind, peer(guard.PeerAddr()), channel(guard.Channel)))
	return h
}

// peer is an XOR-PEER-ADDRESS in the very form that it is given in: a mapped address
// stays one of version 6.
type peer netip.AddrPort

// AddTo implements turn.Setter.
func (p peer) AddTo(m *turn.Message) error {
	a := netip.AddrPort(p)
	mask := binary.BigEndian.AppendUint32(nil, 0x2112a442)
	mask = append(mask, m.TransactionID[:]...)
	family, addr := byte(1), a.Addr().AsSlice()
	if a.Addr().Is6() {
		family = 2
	}
	for i := range addr {
		addr[i] ^= mask[i]
	}
	value := binary.BigEndian.AppendUint16([]byte{0, family}, a.Port()^0x2112)
	m.Add(turn.AttrXORPeerAddress, append(value, addr...))
	return nil
}

func channel(n uint16) turn.Setter {
	return turn.RawAttribute{Type: turn.AttrChannelNumber, Value: []byte{byte(n >> 8), byte(n), 0, 0}}
}

// onChannel is a frame of data.
func onChannel(n uint16, text string) []byte {
	b := make([]byte, guard.PaddedSize(len(text)))
	guard.PutChannelHeader(b, n, len(text))
	copy(b[guard.ChannelHeaderSize:], text)
	return b
}

// reaches asks for every way to an address that TURN has, and returns how many the
// relay granted. The last request is an honest one: messages of one client are taken
// in order, so the relay is through with the others when it answers.
func (h *hostile) reaches(to netip.AddrPort) (granted int) {
	h.t.Helper()
	const connect = turn.Method(0x00a) // of RFC 6062, TCP to a peer
	asked := map[[turn.TransactionIDSize]byte]bool{}
	for _, m := range []*turn.Message{
		h.signed(turn.MethodCreatePermission, peer(to)),
		h.signed(turn.MethodCreatePermission, peer(guard.PeerAddr()), peer(to)),
		h.signed(turn.MethodChannelBind, peer(to), channel(guard.Channel+1)),
		h.signed(turn.MethodChannelBind, peer(to), channel(guard.Channel)),
		h.signed(connect, peer(to)),
	} {
		asked[m.TransactionID] = true
		h.send(m.Raw)
	}
	h.send(turn.MustBuild(turn.TransactionID, turn.NewType(turn.MethodSend, turn.ClassIndication), peer(to),
		turn.RawAttribute{Type: turn.AttrData, Value: []byte("sent")}).Raw)
	h.send(onChannel(guard.Channel, "bound"))
	h.send(onChannel(guard.Channel+1, "bound"))
	for _, answer := range h.granted(h.signed(turn.MethodRefresh)) {
		if asked[answer.TransactionID] && answer.Type.Class == turn.ClassSuccessResponse {
			granted++
		}
	}
	return granted
}

// relayAlone starts a relay that has no server, and watches its host.
func relayAlone(t *testing.T, w *world, flags ...string) (*capture, credential.Secret) {
	t.Helper()
	h := w.inet.Host("relay")
	secret := credential.NewSecret()
	w.write("relay.secret", "tucdesk-relay-secret:"+base64.RawURLEncoding.EncodeToString(secret.Bytes())+"\n")
	w.write("relay.toml", fmt.Sprintf("listen = \"%s:%d\"\nsecret = %q\n", h.IPv4(), relayPort, w.path("relay.secret")))
	w.serve(h, "relaying on", "tucdesk-relay", append([]string{"--config", w.path("relay.toml")}, flags...)...)
	return watch(t, h), secret
}

// forbidden are where nobody may get through a relay. Of a host's own addresses the
// relay's port is among them: that would be a loop (attack M3).
func forbidden(relay, stranger *netlab.Host) (list []netip.AddrPort) {
	for _, ip := range []string{
		"169.254.169.254", "127.0.0.1", "127.0.0.53", "10.0.0.1", "10.255.255.254", "192.168.1.1", "172.16.0.1", "172.31.255.254", "100.64.0.1", "0.0.0.0",
		"fd00:ec2::254", "::1", "fc00::1", "fdff::1", "fe80::1", "::", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
	} {
		list = append(list, netip.AddrPortFrom(netip.MustParseAddr(ip), 80))
	}
	for _, h := range []*netlab.Host{relay, stranger} {
		for _, ip := range []netip.Addr{h.IPv4(), h.IPv6()} {
			list = append(list, netip.AddrPortFrom(ip, 80), netip.AddrPortFrom(ip, relayPort))
		}
	}
	return list
}

// attack has a client with a valid credential try every address by every way, each
// time from a place of its own so that no limit gets in the way, and then has an
// honest packet go through. It returns how much the relay granted.
func (c *capture) attack(secret credential.Secret, network string, operator, agent, stranger *netlab.Host, paired bool) (granted int) {
	c.t.Helper()
	var o *hostile
	var ac credential.Credential
	for _, to := range forbidden(c.host, stranger) {
		var oc credential.Credential
		oc, ac = credential.MintPair(secret, time.Now(), time.Hour)
		o = c.dial(operator, network, oc).allocate()
		n := o.reaches(to)
		if paired && n > 0 {
			c.t.Errorf("%s: the relay granted %d of the requests for %v", network, n, to)
		}
		granted += n
	}
	if !paired {
		return granted
	}
	a := c.dial(agent, network, ac).allocate().bind()
	o.bind().send(onChannel(guard.Channel, "honest"))
	buf := make([]byte, 2048)
	n, err := a.conn.Read(buf)
	if ch, got, bad := guard.ParseChannelData(buf[:n]); err != nil || bad != nil || ch != guard.Channel || string(got) != "honest" {
		c.t.Fatalf("%s: the other side heard %q, %v, %v", network, got, err, bad)
	}
	return granted
}

// TestM1NothingLeavesTheRelaysHost has a client with a valid credential ask for
// permissions, channels and connections to internal addresses, the relay's own and a
// stranger's, and send to them, over UDP and TCP. Every packet that leaves the relay's
// host is looked at, and the kernel's counters for those that would not get so far:
// nothing but the relay's answers to its clients may be there once a later honest
// packet has gone through.
//
// The same attack on a relay in lab mode shows that the capture is not blind.
func TestM1NothingLeavesTheRelaysHost(t *testing.T) {
	t.Parallel()
	w := &world{t: t, lab: lab(t), dir: t.TempDir()}
	w.inet = w.lab.Internet()
	operator, agent, stranger := w.inet.Host("operator"), w.inet.Host("agent"), w.inet.Host("stranger")
	networks := []string{"udp4", "tcp4"}

	open, secret := relayAlone(t, w, "--allow-peer", "0.0.0.0/0", "--lab-public")
	for _, network := range networks {
		if n := open.attack(secret, network, operator, agent, stranger, false); n == 0 {
			t.Errorf("%s: a relay that allows everything granted nothing", network)
		}
	}
	to := map[netip.Addr]bool{}
	_, elsewhere := open.datagrams()
	for _, p := range elsewhere {
		to[p.Dst.Addr()] = true
	}
	for _, ip := range []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("172.16.0.1"), stranger.IPv4()} {
		if !to[ip] {
			t.Errorf("the capture is blind: nothing went to %v by a relay that allows everything; it saw %v", ip, to)
		}
	}
	if now := open.counters(); now.loopback == open.began.loopback {
		t.Error("the capture is blind: no packet to loopback by a relay that allows everything")
	}

	c, secret := relayAlone(t, w)
	for _, network := range networks {
		c.attack(secret, network, operator, agent, stranger, true)
	}
	if _, elsewhere := c.datagrams(); len(elsewhere) > 0 {
		t.Errorf("%d packets left the relay's host that are nobody's answer: %v", len(elsewhere), elsewhere)
	}
	// A datagram is counted after it was sent, so the other side may have it before.
	eventually(t, "every datagram that the relay's host has sent was seen on its way to a client", func() bool {
		seen, _ := c.datagrams()
		return c.counters().datagrams-c.began.datagrams == seen
	})
	if now := c.counters(); now.connects != c.began.connects || now.loopback != c.began.loopback {
		t.Errorf("the relay's host began %d connections and sent %d packets to itself", now.connects-c.began.connects, now.loopback-c.began.loopback)
	}
}
