package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/harden"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Layout of a datagram in bytes, from protocol 2.7.
const (
	// Type is the first byte of a sealed datagram. It collides with no first byte
	// of STUN, DTLS, QUIC long headers or TURN ChannelData.
	Type = 0xD8
	// HeaderSize is the length of the header, which is also the AAD.
	HeaderSize = 16
	// TagSize is the length of the tag. Tags are never shortened.
	TagSize = 16
	// Overhead is what sealing adds to a plaintext.
	Overhead = HeaderSize + TagSize
	// MaxPlaintext is the longest plaintext in bytes: a UDP datagram with the
	// overhead taken off.
	MaxPlaintext = 65507 - Overhead
)

// Limits of one key, from protocol 2.7. At the soft limit NeedsRekey says so, at
// the hard limit Seal refuses.
const (
	SoftDatagrams = 1 << 24          // sealed
	HardDatagrams = 1 << 26          // sealed
	SoftBytes     = 16 << 30         // plaintext bytes
	HardBytes     = 64 << 30         // plaintext bytes
	SoftAge       = 10 * time.Minute // since the epoch began
	HardAge       = 15 * time.Minute // since the epoch began

	// FailedAlarm is the number of failed opens of one key from which Stats
	// reports an alarm; FailedClose the one at which the session closes itself.
	FailedAlarm = 1 << 20
	FailedClose = 1 << 36 // failed opens
)

// Grace of the old epoch after the peer was seen in the new one: whichever ends
// first. From protocol 2.7.
const (
	GraceTime      = 10 * time.Second // from when the new epoch was seen
	GraceDatagrams = 2048             // that the old one may still open
)

// ErrClosed is returned by every method of a closed session.
var ErrClosed = errors.New("seal: session is closed")

// Made once: a flood of forgeries must not make work for the collector.
var (
	errRekey      = refusal.New(refusal.RekeyRequired, "the key of this epoch has reached its limit")
	errNoDatagram = refusal.New(refusal.OpenFailed, "not a sealed datagram of this session")
	errOpenFailed = refusal.New(refusal.OpenFailed, "datagram does not open")
)

// Side tells which end of the session this is.
type Side uint8

// The sides.
const (
	Operator Side = iota + 1 // opened the session
	Agent                    // accepted it
)

// Session seals and opens the datagrams of one session. Every method is safe for
// concurrent use.
type Session struct {
	harden.Opaque
	side          Side
	local, remote uint32 // receive index: ours, the peer's
	h4            key.Hash
	nonces        sync.Pool // *[12]byte; an array on the stack would escape through cipher.AEAD

	send     atomic.Pointer[sender] // nil once closed
	over     atomic.Bool            // closed because it can no longer be resumed
	resume   atomic.Int64           // time.Duration of AllowResume, 0 is none
	counters counters

	mu     sync.Mutex // guards all below; never held while a cipher works
	epochs epochs
	rekey  rekey
}

// Stats counts datagrams since the session began.
type Stats struct {
	Opened     uint64
	OpenFailed uint64 // forged, altered, of unknown epochs, no datagrams at all
	Replayed   uint64
	TooOld     uint64
	Alarm      bool // one key has seen FailedAlarm failed opens
}

type counters struct {
	opened, failed, replayed, tooOld atomic.Uint64
	alarm                            atomic.Bool
}

// New takes the traffic keys out of keys, which stays the caller's for H4 and
// Exporter and must be erased by it. now is the start of the first epoch. Error:
// handshake.ErrSpent when another session has these keys.
func New(keys *handshake.Keys, side Side, now time.Time) (*Session, error) {
	if side != Operator && side != Agent {
		return nil, fmt.Errorf("starting a sealed session: no such side: %d", side)
	}
	s := &Session{side: side, local: keys.OperatorIndex(), remote: keys.AgentIndex(), h4: keys.H4()}
	if side == Agent {
		s.local, s.remote = s.remote, s.local
	}
	s.nonces.New = func() any { return new([12]byte) }
	err := keys.Take(func(block *[handshake.TrafficSize]byte) {
		out, in := newEpoch(block, s.h4, side, 0, now)
		harden.Do(func() { s.rekey.chain = harden.Hide(new([32]byte)) })
		copy(s.rekey.chain.Get()[:], block[chainAt:])
		s.epochs.current = in
		s.send.Store(out)
	})
	if err != nil {
		return nil, fmt.Errorf("starting a sealed session: %w", err)
	}
	return s, nil
}

// Seal appends the sealed datagram of plaintext to dst, which must not overlap
// plaintext unless plaintext begins exactly HeaderSize bytes after the end of
// dst. It allocates only to grow dst.
//
// Errors: refusal.RekeyRequired at a hard limit of the key (ErrAged when it is the
// age and the session may be resumed), refusal.TooLarge, ErrOver, ErrClosed.
// Nothing was sealed and no counter used then.
func (s *Session) Seal(dst, plaintext []byte, now time.Time) ([]byte, error) {
	if len(plaintext) > MaxPlaintext {
		return nil, refusal.New(refusal.TooLarge, "plaintext of %d bytes; at most %d", len(plaintext), MaxPlaintext)
	}
	out := s.send.Load()
	if out == nil {
		return nil, s.closed()
	}
	data := out.data.Load()
	if data == nil || out.life.old(now) {
		return nil, s.agedError(now)
	}
	counter, err := out.take(len(plaintext))
	if err != nil {
		return nil, err
	}
	return s.sealWith(data, out.epoch, Type, counter, dst, plaintext), nil
}

func (s *Session) sealWith(h *half, epoch uint32, typ byte, counter uint64, dst, plaintext []byte) []byte {
	start := len(dst)
	dst = appendHeader(dst, typ, epoch, s.remote, counter)
	nonce := s.nonce(&h.iv, counter)
	dst = h.aead.Seal(dst, nonce[:], plaintext, dst[start:start+HeaderSize])
	s.nonces.Put(nonce)
	return dst
}

// Opened is what a datagram that opened says about itself.
type Opened struct {
	Counter uint64
	// Newest is set when no datagram of this kind with a higher counter, and none
	// of a later epoch, opened before. Only such a datagram may show that the peer
	// has moved to another address: an old one that was held back must not
	// (protocol 2.7, Roaming).
	Newest bool
	// Control is set for what SealControl sealed: only rekey frames, path frames
	// and the end of the session may be in it.
	Control bool
}

// Open appends the plaintext of datagram to dst and returns it with what is known
// about the datagram. dst must not overlap datagram unless it is
// datagram[HeaderSize:HeaderSize], which opens in place. A datagram that does not
// open changes nothing but the counts, and its bytes in dst's capacity are
// cleared.
//
// Errors: refusal.OpenFailed, refusal.Replay, refusal.TooOld, ErrOver, ErrClosed.
// Callers drop the datagram and tell nobody.
func (s *Session) Open(dst, datagram []byte, now time.Time) (plaintext []byte, o Opened, err error) {
	h, ok := parseHeader(datagram)
	if !ok || h.index != s.local || h.counter >= h.limit() {
		s.counters.failed.Add(1)
		return nil, Opened{}, errNoDatagram
	}
	in, k, err := s.admit(h, now)
	if err != nil {
		return nil, Opened{}, err
	}
	nonce := s.nonce(&k.iv, h.counter)
	plaintext, err = k.aead.Open(dst, nonce[:], datagram[HeaderSize:], datagram[:HeaderSize])
	s.nonces.Put(nonce)
	if err != nil {
		return nil, Opened{}, s.refuse(in)
	}
	newest, err := s.accept(in, h, now)
	if err != nil {
		clear(plaintext[len(dst):])
		return nil, Opened{}, err
	}
	return plaintext, Opened{Counter: h.counter, Newest: newest, Control: h.control}, nil
}

// admit finds the receive key and asks its window, so that copies cost no
// cryptography.
func (s *Session) admit(h header, now time.Time) (*receiver, *half, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked(now)
	if s.send.Load() == nil {
		return nil, nil, s.closed()
	}
	in := s.epochs.find(h.epoch)
	if in == nil || h.control && s.resume.Load() == 0 {
		s.counters.failed.Add(1)
		return nil, nil, errNoDatagram
	}
	k, window := in.kind(h.control)
	if k == nil { // erased for its age
		s.counters.failed.Add(1)
		return nil, nil, errNoDatagram
	}
	return in, k, s.count(window.Check(h.counter, now))
}

// accept asks the window again, as another goroutine may have opened a copy in
// between, marks the counter, moves the epochs on and says whether this is the
// newest datagram.
func (s *Session) accept(in *receiver, h header, now time.Time) (newest bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.send.Load() == nil {
		return false, s.closed()
	}
	if !s.epochs.has(in) {
		s.counters.failed.Add(1)
		return false, errNoDatagram
	}
	_, window := in.kind(h.control)
	if err := s.count(window.Check(h.counter, now)); err != nil {
		return false, err
	}
	highest, any := window.Highest()
	window.Set(h.counter, now)
	s.counters.opened.Add(1)
	if in == s.epochs.next {
		s.advanceLocked(now)
	}
	if in == s.epochs.old {
		s.epochs.graceLeft--
	}
	if h.control {
		in.life.mark(now) // the peer takes no more data in this epoch, nor do we
	}
	return in == s.epochs.current && (!any || h.counter > highest), nil
}

// count books what a window said.
func (s *Session) count(err error) error {
	if e, ok := err.(*refusal.Error); ok { // refusal.Of would allocate here
		switch e.Code {
		case refusal.Replay:
			s.counters.replayed.Add(1)
		case refusal.TooOld:
			s.counters.tooOld.Add(1)
		}
	}
	return err
}

// refuse books a forgery and ends the session at the number of forgeries where
// the next might succeed.
func (s *Session) refuse(in *receiver) error {
	s.counters.failed.Add(1)
	n := in.failed.Add(1)
	if n >= FailedAlarm {
		s.counters.alarm.Store(true)
	}
	if n >= FailedClose {
		s.Close()
	}
	return errOpenFailed
}

// nonce returns iv XOR counter in a buffer of the pool.
func (s *Session) nonce(iv *[12]byte, counter uint64) *[12]byte {
	n := s.nonces.Get().(*[12]byte)
	copy(n[:4], iv[:4])
	binary.BigEndian.PutUint64(n[4:], binary.BigEndian.Uint64(iv[4:])^counter)
	return n
}

// NeedsRekey reports whether the sending key passed a soft limit. The operator
// then calls StartRekey; the agent asks for it. It also drops keys whose time is
// over, so call it now and then when nothing is sealed or opened.
func (s *Session) NeedsRekey(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked(now)
	out := s.send.Load()
	return out != nil && (out.next.Load() >= SoftDatagrams || out.bytes.Load() >= SoftBytes ||
		out.life.aged.Load() || out.life.age(now) >= SoftAge)
}

// Stats returns the counts so far; it works on a closed session too.
func (s *Session) Stats() Stats {
	c := &s.counters
	return Stats{
		Opened: c.opened.Load(), OpenFailed: c.failed.Load(),
		Replayed: c.replayed.Load(), TooOld: c.tooOld.Load(), Alarm: c.alarm.Load(),
	}
}

// Close drops every key and asks for the collection that wipes them. It may be
// called again and from any goroutine.
func (s *Session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eraseLocked()
}

func (s *Session) eraseLocked() {
	// 1. No more sealing and, as all look at send, no more of anything.
	open := s.send.Swap(nil) != nil
	// 2. No more opening.
	s.epochs = epochs{}
	// 3. No more rekeying.
	s.rekey.erase()
	// 4. Wipe what was dropped.
	if open {
		harden.Collect()
	}
}

type header struct {
	control bool
	epoch   byte
	index   uint32
	counter uint64
}

// limit is the first counter that no honest sender uses.
func (h header) limit() uint64 {
	if h.control {
		return ControlDatagrams
	}
	return HardDatagrams
}

func parseHeader(datagram []byte) (header, bool) {
	if len(datagram) < Overhead || datagram[0] != Type && datagram[0] != TypeControl || datagram[2]|datagram[3] != 0 {
		return header{}, false
	}
	return header{
		control: datagram[0] == TypeControl,
		epoch:   datagram[1],
		index:   binary.BigEndian.Uint32(datagram[4:]),
		counter: binary.BigEndian.Uint64(datagram[8:]),
	}, true
}

// Index returns the receive index in a datagram, to find its session, and false
// when it is no sealed datagram, of data or control. Nothing is verified.
func Index(datagram []byte) (uint32, bool) {
	h, ok := parseHeader(datagram)
	return h.index, ok
}

// sender is the sending half of one epoch. Only the counts and data change.
type sender struct {
	epoch   uint32
	life    *life
	control *half

	data        atomic.Pointer[half] // nil once erased for its age
	next        atomic.Uint64        // counter of the next datagram
	bytes       atomic.Uint64        // plaintext bytes sealed
	nextControl atomic.Uint64        // counter of the next control datagram
}

// take reserves a counter, and bytes, or refuses.
func (o *sender) take(size int) (uint64, error) {
	if _, ok := takeUpTo(&o.bytes, uint64(size), HardBytes); !ok {
		return 0, errRekey
	}
	n, ok := takeUpTo(&o.next, 1, HardDatagrams)
	if !ok {
		return 0, errRekey
	}
	return n, nil
}

// takeUpTo adds n to v unless that passes limit, in one step, and returns what v
// was.
func takeUpTo(v *atomic.Uint64, n, limit uint64) (uint64, bool) {
	for {
		was := v.Load()
		if was > limit || n > limit-was { // not was+n, which could wrap
			return 0, false
		}
		if v.CompareAndSwap(was, was+n) {
			return was, true
		}
	}
}
