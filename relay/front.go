package relay

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/turn/v2"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// front is the packet connection from which one instance of pion reads control
// messages and to which it writes its answers. Around it are the callbacks in
// which pion asks about users, allocations and peers.
//
// pion tells those callbacks neither the message nor the user. But it handles
// one message after the other in one goroutine, so what ReadFrom returned last
// is what they are about; every callback checks that and refuses otherwise.
type front struct {
	s      *Server
	local  net.Addr
	stream *stream // nil: this is the front of UDP
	in     chan packet
	gone   chan struct{}
	wake   chan struct{} // buffered; there is something in ends
	left   chan struct{} // closed when pion has seen gone: it is not at work any more
	leave  sync.Once     // closes left
	once   sync.Once

	mu    sync.Mutex // guards the rest; callbacks and answers come from pion's goroutines
	cur   request
	nonce []byte // the last one that pion has given out
	ends  []*allocation
}

// packet is one control message that guard has accepted; frame is its owner's.
type packet struct {
	frame []byte
	from  netip.AddrPort
}

// request is the message that pion is handling.
type request struct {
	packet                 // frame is what pion sees: with pion's own nonce
	name   credential.Name // of the user, once proved
	key    []byte          // nil unless the message's integrity was made with the user's password
	issued time.Time       // when its nonce was given to its source
}

func (r request) proved() bool { return r.key != nil }

// Sizes of the queues of control messages before pion. Our choice.
const (
	datagramQueue = 256
	streamQueue   = 4
)

func newFront(s *Server, local net.Addr, st *stream) *front {
	size := datagramQueue
	if st != nil {
		size = streamQueue
	}
	return &front{s: s, local: local, stream: st, in: make(chan packet, size), gone: make(chan struct{}), wake: make(chan struct{}, 1), left: make(chan struct{})}
}

// serve starts a pion instance on f; it ends when f is closed.
func (f *front) serve() error {
	_, err := turn.NewServer(turn.ServerConfig{
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn: f, RelayAddressGenerator: f, PermissionHandler: f.s.permit,
		}},
		LoggerFactory:      pionLog{f.s.cfg.Logger},
		Realm:              f.s.cfg.Realm,
		AuthHandler:        f.authenticate,
		ChannelBindTimeout: bindingLife,
	})
	if err != nil {
		return fmt.Errorf("starting TURN instance: %w", err)
	}
	return nil
}

// ReadFrom gives pion the next control message. While it is here, pion's loop is at
// work on none.
func (f *front) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		f.endReleased()
		select {
		case <-f.wake:
		case pkt := <-f.in:
			f.endReleased() // what was released before the message came has no part in it
			cur := f.examine(pkt, time.Now())
			f.mu.Lock()
			f.cur = cur
			f.mu.Unlock()
			return copy(p, cur.frame), net.UDPAddrFromAddrPort(pkt.from), nil
		case <-f.gone:
			f.leave.Do(func() { close(f.left) })
			return 0, nil, net.ErrClosed
		}
	}
}

// release lets pion's loop end an allocation of this front when it is between two
// messages. If the loop has ended, pion has let go of all of them.
func (f *front) release(a *allocation) {
	f.mu.Lock()
	f.ends = append(f.ends, a)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// endReleased ends them, and waits each time until pion has: it takes some
// microseconds, and the next message may be about the same allocation.
func (f *front) endReleased() {
	f.mu.Lock()
	ends := f.ends
	f.ends = nil
	f.mu.Unlock()
	for _, a := range ends {
		_ = a.relayed.end()
		<-a.relayed.over
	}
}

// examine proves a message before pion sees it, and gives it the nonce that pion
// wants. A message without proof, or with a nonce that is too old or another
// source's, or not newer than the user's newest allocation, goes on as it is: pion
// answers it with a challenge.
func (f *front) examine(pkt packet, now time.Time) request {
	r := request{packet: pkt}
	nonce, _ := guard.Find(pkt.frame, guard.AttrNonce)
	username, named := guard.Find(pkt.frame, guard.AttrUsername)
	_, mac, signed := guard.Integrity(pkt.frame)
	issued, fresh := f.s.nonces.check(nonce, pkt.from, now)
	f.mu.Lock()
	theirs := f.nonce
	f.mu.Unlock()
	if !named || !signed || !fresh || theirs == nil {
		return r
	}
	if a := f.allocation(pkt.from); a != nil && issued.Before(a.issued) {
		return r // recorded before this allocation was made
	}
	r.issued = issued
	r.name, r.key = f.s.keyOf(string(username), pkt, now)
	if r.proved() && guard.TypeOf(pkt.frame) == guard.AllocateRequest && f.allocation(pkt.from) == nil && !f.s.table.allows(f.s.userOf(r.name, pkt.from), issued) {
		f.s.metrics.count(evReplayed)
		return request{packet: pkt} // a recorded message, or one that lost a race
	}
	r.frame = guard.Replaced(pkt.frame, guard.AttrNonce, theirs)
	if r.proved() {
		r.frame = lengthened(r.frame)
		mac = integrity(r.frame, r.key)
	}
	r.frame = guard.AppendAttribute(r.frame, guard.AttrIntegrity, mac)
	return r
}

// Lifetimes of allocations, RFC 8656, section 3.2; pion has the same. What is asked
// for below the default is given the default (section 7.2).
const (
	defaultLifetime = 10 * time.Minute
	maxLifetime     = time.Hour
)

// lengthened makes a lifetime that is too short the default. pion would take any,
// and end the allocation by a timer: a client that makes that moment coincide with
// a first permission of its own would end the relay (relayed.end). With this and
// allocation.lapses its timers never fire. 0 is a farewell, which pion's loop obeys
// by itself.
func lengthened(frame []byte) []byte {
	if asked, ok := lifetimeOf(frame); !ok || asked == 0 || asked >= defaultLifetime {
		return frame
	}
	return guard.Replaced(frame, guard.AttrLifetime, binary.BigEndian.AppendUint32(nil, uint32(defaultLifetime/time.Second)))
}

func lifetimeOf(frame []byte) (time.Duration, bool) {
	v, ok := guard.Find(frame, guard.AttrLifetime)
	if !ok || len(v) != 4 {
		return 0, false
	}
	return time.Duration(binary.BigEndian.Uint32(v)) * time.Second, true
}

// granted is the lifetime that pion gives for a request.
func granted(frame []byte) time.Duration {
	if asked, ok := lifetimeOf(frame); ok && asked < maxLifetime {
		return asked
	}
	return defaultLifetime
}

// keyOf returns the key that has signed a message, or nil if its user's has not.
func (s *Server) keyOf(username string, pkt packet, now time.Time) (credential.Name, []byte) {
	name, err := credential.Check(username, now)
	if err != nil {
		s.refused(username, pkt.from, err)
		return name, nil
	}
	for _, secret := range s.secrets.Load() {
		if secret.IsZero() {
			continue
		}
		password := credential.Text(credential.Password(secret, username))
		key := turn.GenerateAuthKey(username, s.cfg.Realm, password)
		if proves(pkt.frame, key) {
			return name, key
		}
	}
	s.metrics.count(evBadPassword)
	return name, nil
}

// authenticate is pion's question for the key of a user.
func (f *front) authenticate(username, _ string, src net.Addr) ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	claimed, _ := guard.Find(f.cur.frame, guard.AttrUsername)
	if udp, ok := src.(*net.UDPAddr); !ok || udp.AddrPort() != f.cur.from || string(claimed) != username {
		f.s.metrics.count(evMismatch)
		return nil, false
	}
	return f.cur.key, f.cur.proved()
}

// proves checks the integrity attribute of a message.
func proves(frame, key []byte) bool {
	signed, mac, ok := guard.Integrity(frame)
	return ok && hmac.Equal(mac, integrity(signed, key))
}

// integrity is the value of MESSAGE-INTEGRITY behind signed (RFC 8489, section
// 14.5): the length counts the attribute that is to come.
func integrity(signed, key []byte) []byte {
	var head [guard.HeaderSize]byte
	copy(head[:], signed)
	const attribute = 4 + sha1.Size
	binary.BigEndian.PutUint16(head[2:4], uint16(len(signed)-guard.HeaderSize+attribute))
	m := hmac.New(sha1.New, key)
	m.Write(head[:])
	m.Write(signed[guard.HeaderSize:])
	return m.Sum(nil)
}

// Validate is part of turn.RelayAddressGenerator.
func (f *front) Validate() error { return nil }

// AllocateConn refuses TCP allocations (RFC 6062): they would be real sockets.
func (f *front) AllocateConn(string, int) (net.Conn, net.Addr, error) {
	return nil, nil, errors.ErrUnsupported
}

// AllocatePacketConn makes the allocation of the request that pion handles.
func (f *front) AllocatePacketConn(string, int) (net.PacketConn, net.Addr, error) {
	f.mu.Lock()
	cur := f.cur
	f.mu.Unlock()
	if !cur.proved() || guard.TypeOf(cur.frame) != guard.AllocateRequest {
		f.s.metrics.count(evMismatch)
		return nil, nil, errors.New("relay: no proved allocate request")
	}
	return f.s.allocate(f, cur)
}

// WriteTo sends what pion answers or forwards to a client.
func (f *front) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok || len(b) < guard.ChannelHeaderSize {
		return 0, net.InvalidAddrError("not a client of the relay")
	}
	dst := udp.AddrPort()
	f.noteSuccess(b)
	b = f.challenge(b, dst)
	if f.stream != nil {
		f.stream.send(b)
		return len(b), nil
	}
	if f.s.table.tuple(dst) == nil && !f.s.sources.spend(dst.Addr(), len(b), time.Now()) && f.s.cfg.Lab == nil {
		f.s.metrics.count(evAmplification)
		return len(b), nil
	}
	if err := f.s.sock.WriteTo(b, dst); err != nil {
		f.s.metrics.count(evSendFailed)
	}
	return len(b), nil
}

// challenge puts our nonce in the place of pion's and remembers that.
func (f *front) challenge(b []byte, to netip.AddrPort) []byte {
	if guard.IsChannelData(b) {
		return b
	}
	theirs, ok := guard.Find(b, guard.AttrNonce)
	if !ok {
		return b
	}
	f.mu.Lock()
	f.nonce = append([]byte(nil), theirs...)
	f.mu.Unlock()
	return guard.Replaced(b, guard.AttrNonce, f.s.nonces.issue(to, time.Now()))
}

// noteSuccess learns from pion's answers what it has granted: it has no hook for
// that. Only an answer to the message at hand counts.
func (f *front) noteSuccess(b []byte) {
	if guard.IsChannelData(b) || len(b) < guard.HeaderSize {
		return
	}
	t := guard.TypeOf(b)
	if t != guard.RefreshSuccess && t != guard.ChannelBindSuccess {
		return
	}
	f.mu.Lock()
	cur := f.cur
	f.mu.Unlock()
	const ids = 8 // transaction id: bytes 8 to 20
	if !cur.proved() || string(cur.frame[ids:guard.HeaderSize]) != string(b[ids:guard.HeaderSize]) {
		f.s.metrics.count(evMismatch)
		return
	}
	a := f.allocation(cur.from)
	if a == nil {
		return // the refresh was a farewell
	}
	if t == guard.ChannelBindSuccess {
		a.bound.Store(time.Now().Add(bindingLife).UnixNano())
		return
	}
	a.lapses.Store(time.Now().Add(granted(cur.frame)).UnixNano())
	f.s.metrics.count(evRefreshed)
	f.s.table.renew(a, cur.name.Expires)
}

// allocation returns the one of a client of this front, or nil.
func (f *front) allocation(from netip.AddrPort) *allocation {
	if f.stream != nil {
		return f.stream.alloc.Load()
	}
	return f.s.table.tuple(from)
}

// Close ends the pion instance. It may be called more than once.
func (f *front) Close() error {
	f.once.Do(func() { close(f.gone) })
	return nil
}

// LocalAddr is the address clients sent to.
func (f *front) LocalAddr() net.Addr { return f.local }

// Deadlines are not used by pion here.

func (f *front) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (f *front) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (f *front) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
