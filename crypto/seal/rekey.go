package seal

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/internal/harden"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// RekeySize is the length in bytes of the request and of the answer; see the
// package comment for the layout.
const RekeySize = 4 + 32

// label is L of protocol 2.1.
const label = "tucdesk-session-v1"

// rekey is the state of the exchange; guarded by Session.mu.
type rekey struct {
	chain   harden.Hidden[[32]byte]
	eph     *ecdh.PrivateKey // operator's, between request and answer
	request []byte           // the last one, also after its end: it may be repeated
	answer  []byte           // to request
	pending *sender          // agent's, until the operator was seen in the new epoch
}

func (r *rekey) erase() {
	if chain := r.chain.Get(); chain != nil {
		clear(chain[:])
	}
	*r = rekey{}
}

// StartRekey returns the request to be sent to the agent, in a frame inside the
// channel. Until FinishRekey it returns the same request, to be repeated. Only
// the operator may call it, and not before the agent was seen in the epoch that
// began last.
func (s *Session) StartRekey() (request []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayRekeyLocked(Operator); err != nil {
		return nil, err
	}
	r := &s.rekey
	if r.eph != nil {
		return bytes.Clone(r.request), nil
	}
	if s.epochs.next != nil {
		return nil, errors.New("starting a rekey: the agent has not followed the last one yet")
	}
	if r.eph, err = ephemeral(); err != nil {
		return nil, err
	}
	r.request = payload(s.send.Load().epoch+1, r.eph)
	r.answer = nil
	return bytes.Clone(r.request), nil
}

// AnswerRekey takes the operator's request and returns the answer to be sent
// back in the old epoch. The same request gets the same answer. Only the agent
// may call it.
//
// Refusals: Replay for a request of an epoch that has begun, to be ignored;
// ProtocolError and BadEphemeral for what an honest operator never sends.
func (s *Session) AnswerRekey(request []byte, now time.Time) (answer []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayRekeyLocked(Agent); err != nil {
		return nil, err
	}
	r := &s.rekey
	if r.answer != nil && bytes.Equal(request, r.request) {
		return bytes.Clone(r.answer), nil
	}
	epoch := s.send.Load().epoch + 1
	if err := checkPayload(request, epoch); err != nil {
		return nil, err
	}
	if s.epochs.next != nil {
		return nil, refusal.New(refusal.ProtocolError, "another rekey request for the same epoch")
	}
	eph, err := ephemeral()
	if err != nil {
		return nil, err
	}
	answer = payload(epoch, eph)
	r.pending, err = s.installLocked(eph, request, answer, request, now)
	if err != nil {
		return nil, err
	}
	r.pending.life.idle = true // until the operator is seen in it
	r.request, r.answer = bytes.Clone(request), bytes.Clone(answer)
	return answer, nil
}

// FinishRekey takes the agent's answer; from here on Seal uses the new epoch.
// The same answer may come again. Only the operator may call it. Refusals as for
// AnswerRekey.
func (s *Session) FinishRekey(answer []byte, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayRekeyLocked(Operator); err != nil {
		return err
	}
	r := &s.rekey
	if r.answer != nil && bytes.Equal(answer, r.answer) {
		return nil
	}
	if err := checkPayload(answer, s.send.Load().epoch+1); err != nil {
		return err
	}
	if r.eph == nil {
		return refusal.New(refusal.ProtocolError, "rekey answer without a request")
	}
	out, err := s.installLocked(r.eph, r.request, answer, answer, now)
	if err != nil {
		return err
	}
	r.eph, r.answer = nil, bytes.Clone(answer)
	s.send.Store(out)
	return nil
}

func (s *Session) mayRekeyLocked(side Side) error {
	if s.send.Load() == nil {
		return s.closed()
	}
	if s.side != side {
		return errors.New("rekeying a sealed session: not the step of this side")
	}
	return nil
}

// installLocked derives the next epoch, accepts it and returns its sender. peer
// is the one of request and answer that came from the other side.
func (s *Session) installLocked(eph *ecdh.PrivateKey, request, answer, peer []byte, now time.Time) (*sender, error) {
	if bytes.Equal(request[4:], answer[4:]) {
		return nil, refusal.New(refusal.BadEphemeral, "rekey with our own key sent back")
	}
	var out *sender
	var err error
	harden.Do(func() {
		var block [handshake.TrafficSize]byte
		defer clear(block[:])
		if err = s.nextBlockLocked(&block, eph, request, answer, peer); err != nil {
			return
		}
		out, s.epochs.next = newEpoch(&block, s.h4, s.side, binary.BigEndian.Uint32(request), now)
		copy(s.rekey.chain.Get()[:], block[chainAt:])
	})
	return out, err
}

// nextBlockLocked is HKDF(X25519' ‖ chain, salt H(h4 ‖ request ‖ answer), info L).
// A fresh exchange heals a key that leaked to somebody who only listens; chain
// keeps out somebody who does not know the session (protocol 2.7).
func (s *Session) nextBlockLocked(block *[handshake.TrafficSize]byte, eph *ecdh.PrivateKey, request, answer, peer []byte) error {
	pub, err := ecdh.X25519().NewPublicKey(peer[4:])
	if err != nil {
		return refusal.New(refusal.BadEphemeral, "rekey with something that is no X25519 key")
	}
	ss, err := eph.ECDH(pub)
	if err != nil {
		return refusal.New(refusal.BadEphemeral, "rekey with an X25519 key of low order")
	}
	secret := append(append(make([]byte, 0, 64), ss...), s.rekey.chain.Get()[:]...)
	salt := sha256.Sum256(append(append(s.h4[:], request...), answer...))
	out, err := hkdf.Key(sha256.New, secret, salt[:], label, len(block))
	clear(ss)
	clear(secret)
	if err != nil {
		return fmt.Errorf("deriving the next epoch: %v", err)
	}
	copy(block[:], out)
	clear(out)
	return nil
}

// advanceLocked runs when the first datagram of the next epoch opened. The agent
// begins to seal in it here: now it knows that the operator can open it.
func (s *Session) advanceLocked(now time.Time) {
	s.epochs.advance(now)
	if s.rekey.pending != nil {
		s.send.Store(s.rekey.pending)
		s.rekey.pending = nil
	}
}

func ephemeral() (eph *ecdh.PrivateKey, err error) {
	harden.Do(func() { eph, err = ecdh.X25519().GenerateKey(rand.Reader) })
	if err != nil {
		return nil, fmt.Errorf("generating an ephemeral key: %v", err)
	}
	return eph, nil
}

func payload(epoch uint32, eph *ecdh.PrivateKey) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, RekeySize), epoch), eph.PublicKey().Bytes()...)
}

// checkPayload tells late copies from nonsense. The channel is authenticated, so
// nonsense is the peer's fault.
func checkPayload(p []byte, want uint32) error {
	if len(p) != RekeySize {
		return refusal.New(refusal.ProtocolError, "rekey payload of %d bytes", len(p))
	}
	switch epoch := binary.BigEndian.Uint32(p); {
	case epoch < want:
		return refusal.New(refusal.Replay, "rekey of an epoch that has begun")
	case epoch > want:
		return refusal.New(refusal.ProtocolError, "rekey skips an epoch")
	}
	return nil
}
