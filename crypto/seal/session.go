package seal

import (
	"crypto/cipher"
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
	SoftDatagrams = 1 << 24
	HardDatagrams = 1 << 26
	SoftBytes     = 16 << 30 // plaintext bytes
	HardBytes     = 64 << 30
	SoftAge       = 10 * time.Minute
	HardAge       = 15 * time.Minute

	// FailedAlarm is the number of failed opens of one key from which Stats
	// reports an alarm; FailedClose the one at which the session closes itself.
	FailedAlarm = 1 << 20
	FailedClose = 1 << 36
)

// Grace of the old epoch after the peer was seen in the new one: whichever ends
// first. From protocol 2.7.
const (
	GraceTime      = 10 * time.Second
	GraceDatagrams = 2048
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
	Operator Side = iota + 1
	Agent
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
		out, in := newEpoch(block, side, 0, now)
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
// Errors: refusal.RekeyRequired at a hard limit of the key, refusal.TooLarge,
// ErrClosed. Nothing was sealed and no counter used then.
func (s *Session) Seal(dst, plaintext []byte, now time.Time) ([]byte, error) {
	if len(plaintext) > MaxPlaintext {
		return nil, refusal.New(refusal.TooLarge, "plaintext of %d bytes; at most %d", len(plaintext), MaxPlaintext)
	}
	out := s.send.Load()
	if out == nil {
		return nil, ErrClosed
	}
	counter, err := out.take(len(plaintext), now)
	if err != nil {
		return nil, err
	}
	start := len(dst)
	dst = append(dst, Type, byte(out.epoch), 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, s.remote)
	dst = binary.BigEndian.AppendUint64(dst, counter)
	nonce := s.nonce(&out.iv, counter)
	dst = out.aead.Seal(dst, nonce[:], plaintext, dst[start:start+HeaderSize])
	s.nonces.Put(nonce)
	return dst, nil
}

// Open appends the plaintext of datagram to dst and returns it with the counter
// of the datagram. dst must not overlap datagram unless it is
// datagram[HeaderSize:HeaderSize], which opens in place. A datagram that does not
// open changes nothing but the counts, and its bytes in dst's capacity are
// cleared.
//
// Errors: refusal.OpenFailed, refusal.Replay, refusal.TooOld, ErrClosed. Callers
// drop the datagram and tell nobody.
func (s *Session) Open(dst, datagram []byte, now time.Time) (plaintext []byte, counter uint64, err error) {
	h, ok := parseHeader(datagram)
	if !ok || h.index != s.local || h.counter >= HardDatagrams {
		s.counters.failed.Add(1)
		return nil, 0, errNoDatagram
	}
	in, err := s.admit(h, now)
	if err != nil {
		return nil, 0, err
	}
	nonce := s.nonce(&in.iv, h.counter)
	plaintext, err = in.aead.Open(dst, nonce[:], datagram[HeaderSize:], datagram[:HeaderSize])
	s.nonces.Put(nonce)
	if err != nil {
		return nil, 0, s.refuse(in)
	}
	if err := s.accept(in, h.counter, now); err != nil {
		clear(plaintext[len(dst):])
		return nil, 0, err
	}
	return plaintext, h.counter, nil
}

// admit finds the receive key and asks its window, so that copies cost no
// cryptography.
func (s *Session) admit(h header, now time.Time) (*receiver, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.send.Load() == nil {
		return nil, ErrClosed
	}
	s.epochs.expire(now)
	in := s.epochs.find(h.epoch)
	if in == nil {
		s.counters.failed.Add(1)
		return nil, errNoDatagram
	}
	return in, s.count(in.window.Check(h.counter, now))
}

// accept asks the window again, as another goroutine may have opened a copy in
// between, marks the counter and moves the epochs on.
func (s *Session) accept(in *receiver, counter uint64, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.send.Load() == nil {
		return ErrClosed
	}
	if !s.epochs.has(in) {
		s.counters.failed.Add(1)
		return errNoDatagram
	}
	if err := s.count(in.window.Check(counter, now)); err != nil {
		return err
	}
	in.window.Set(counter, now)
	s.counters.opened.Add(1)
	if in == s.epochs.next {
		s.advanceLocked(now)
	}
	if in == s.epochs.old {
		s.epochs.graceLeft--
	}
	return nil
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

// Newest reports whether datagram, which Open has just accepted, carries the
// highest counter of the newest epoch. Only such a datagram may start a path
// check towards a new address: an old one that was held back must not (protocol
// 2.7, Roaming).
func (s *Session) Newest(datagram []byte) bool {
	h, ok := parseHeader(datagram)
	if !ok || h.index != s.local {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.epochs.current
	if in == nil || byte(in.epoch) != h.epoch {
		return false
	}
	highest, any := in.window.Highest()
	return any && h.counter == highest
}

// NeedsRekey reports whether the sending key passed a soft limit. The operator
// then calls StartRekey; the agent asks for it.
func (s *Session) NeedsRekey(now time.Time) bool {
	out := s.send.Load()
	return out != nil && (out.next.Load() >= SoftDatagrams || out.bytes.Load() >= SoftBytes || now.Sub(out.began) >= SoftAge)
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
	// 1. No more sealing and, as all look at send, no more of anything.
	open := s.send.Swap(nil) != nil
	// 2. No more opening.
	s.epochs = epochs{}
	// 3. No more rekeying.
	s.rekey.erase()
	s.mu.Unlock()
	// 4. Wipe what was dropped.
	if open {
		harden.Collect()
	}
}

type header struct {
	epoch   byte
	index   uint32
	counter uint64
}

func parseHeader(datagram []byte) (header, bool) {
	if len(datagram) < Overhead || datagram[0] != Type || datagram[2]|datagram[3] != 0 {
		return header{}, false
	}
	return header{
		epoch:   datagram[1],
		index:   binary.BigEndian.Uint32(datagram[4:]),
		counter: binary.BigEndian.Uint64(datagram[8:]),
	}, true
}

// Index returns the receive index in a datagram, to find its session, and false
// when it is no sealed datagram. Nothing is verified.
func Index(datagram []byte) (uint32, bool) {
	h, ok := parseHeader(datagram)
	return h.index, ok
}

// sender is the sending half of one epoch. Only next and bytes change.
type sender struct {
	aead  cipher.AEAD
	iv    [12]byte
	epoch uint32
	began time.Time
	next  atomic.Uint64 // counter of the next datagram
	bytes atomic.Uint64 // plaintext bytes sealed
}

// take reserves a counter, and bytes, or refuses.
func (o *sender) take(size int, now time.Time) (uint64, error) {
	if now.Sub(o.began) >= HardAge {
		return 0, errRekey
	}
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
