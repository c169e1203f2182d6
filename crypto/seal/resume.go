package seal

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Limits of resuming; protocol 2.7, Resume.
const (
	// TypeControl is the first byte of a control datagram.
	TypeControl = 0xD9
	// MaxResume is the longest that AllowResume grants: how old an epoch may be
	// and still agree on the next.
	MaxResume = 24 * time.Hour
	// ControlDatagrams is how many control datagrams one side seals in one epoch:
	// what the search for a path sends in MaxResume, several times over.
	ControlDatagrams = 1 << 16
	// MaxControl is the longest plaintext of a control datagram in bytes: the
	// longest list of candidates, padded, with room to spare; too little for data.
	MaxControl = 512
)

// resumeSize is key and IV of both directions.
const resumeSize = 2 * agentAt

var (
	// ErrAged is returned by Seal when the sending key is too old for data but the
	// session may be resumed: rekey with SealControl. Its code is RekeyRequired.
	ErrAged = refusal.New(refusal.RekeyRequired, "the key of this epoch is too old for data")
	// ErrOver is returned by every method once the epoch is older than a resume
	// may be; the keys are erased. Its code is Expired.
	ErrOver = refusal.New(refusal.Expired, "the session was out of reach for longer than it may be resumed")

	errControlSpent = refusal.New(refusal.RekeyRequired, "too many control datagrams in one epoch")
	// ErrYoung is returned by SealControl while the key is young enough for data,
	// also when the next epoch has begun since Seal refused: use Seal.
	ErrYoung = errors.New("sealing a control datagram: the key is young enough for data")
)

// resumeBlock is HKDF(chain, salt = h4, info = L ‖ " resume", 88). From the chain,
// because it outlives the data keys by design and its other use, the secret of
// the next epoch, has another info; so who has the control keys has neither the
// data before nor the keys to come.
func resumeBlock(block *[resumeSize]byte, chain []byte, h4 key.Hash) {
	out, err := hkdf.Key(sha256.New, chain, h4[:], label+" resume", resumeSize)
	if err != nil {
		panic("seal: internal error: " + err.Error())
	}
	copy(block[:], out)
	clear(out)
}

// AllowResume lets the session go on after its keys reached HardAge, until the
// epoch is limit old, at most MaxResume; see the package comment. Without it, or
// with a limit up to HardAge, HardAge is the end.
func (s *Session) AllowResume(limit time.Duration) {
	limit = min(limit, MaxResume)
	if limit <= HardAge {
		limit = 0
	}
	s.resume.Store(int64(limit))
}

// Aged reports whether the sending key is too old for data, by our clocks or
// because the peer has sealed a control datagram in the same epoch, which it does
// only when its own key is.
func (s *Session) Aged(now time.Time) bool {
	out := s.send.Load()
	return out != nil && out.life.old(now)
}

// SealControl is Seal for what brings an aged session back: rekey frames, path
// frames and the end of the session, never data. The caller sees to that; the
// peer's caller refuses anything else when Opened.Control is set. It works only
// while Seal refuses with ErrAged.
//
// Errors: refusal.TooLarge beyond MaxControl; refusal.RekeyRequired when resuming
// is not allowed or ControlDatagrams are spent; ErrOver; ErrClosed.
func (s *Session) SealControl(dst, plaintext []byte, now time.Time) ([]byte, error) {
	if len(plaintext) > MaxControl {
		return nil, refusal.New(refusal.TooLarge, "control plaintext of %d bytes; at most %d", len(plaintext), MaxControl)
	}
	out := s.send.Load()
	if out == nil {
		return nil, s.closed()
	}
	if !out.life.old(now) {
		return nil, ErrYoung
	}
	if err := s.agedError(now); err != ErrAged {
		return nil, err
	}
	counter, ok := takeUpTo(&out.nextControl, 1, ControlDatagrams)
	if !ok {
		return nil, errControlSpent
	}
	return s.sealWith(out.control, out.epoch, TypeControl, counter, dst, plaintext), nil
}

// agedError is what sealing data under an aged key is refused with.
func (s *Session) agedError(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked(now)
	switch {
	case s.send.Load() == nil:
		return s.closed()
	case s.resume.Load() == 0:
		return errRekey
	}
	return ErrAged
}

// expireLocked drops keys whose time is over, and the whole session when there is
// no way back.
func (s *Session) expireLocked(now time.Time) {
	resume := time.Duration(s.resume.Load())
	s.epochs.expire(now, resume)
	out := s.send.Load()
	if out == nil || resume == 0 {
		return
	}
	if out.life.age(now) >= resume {
		s.over.Store(true)
		s.eraseLocked()
		return
	}
	if out.life.wear(now); out.life.aged.Load() {
		out.data.Store(nil)
	}
}

// closed is the error of a session without keys.
func (s *Session) closed() error {
	if s.over.Load() {
		return ErrOver
	}
	return ErrClosed
}

// wear marks an epoch that has reached HardAge. Its age has not begun while it
// is idle: nothing was sealed under it, so there is nothing its key would open.
func (l *life) wear(now time.Time) {
	if !l.idle && l.old(now) {
		l.mark(now)
	}
}

func (l *life) mark(now time.Time) {
	if !l.aged.Swap(true) {
		l.agedAt = now
	}
}

// wear drops the data key of an aged epoch, after GraceTime for what is under
// way. What an epoch carried cannot be opened with anything that is kept.
func (r *receiver) wear(now time.Time) {
	r.life.wear(now)
	if r.life.aged.Load() && (r.life.age(now) >= HardAge+GraceTime || now.Sub(r.life.agedAt) >= GraceTime) {
		r.data = nil
	}
}

// header bytes of a datagram in the epoch, without the counter's meaning.
func appendHeader(dst []byte, typ byte, epoch, index uint32, counter uint64) []byte {
	dst = append(dst, typ, byte(epoch), 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, index)
	return binary.BigEndian.AppendUint64(dst, counter)
}
