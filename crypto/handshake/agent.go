package handshake

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/harden"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// AgentConfig is what an agent brings to a session it has decided to accept.
type AgentConfig struct {
	Identity   key.Private[key.Agent]
	Operator   key.Public[key.Operator] // from the agent's own roster
	GrantHash  key.Hash                 // of the grant the agent received
	RosterHash key.Hash                 // of the roster the agent has verified
	Flags      uint32                   // passed to the operator, authenticated
	// Suites the agent may choose from, best first; none means hybrid, then
	// X25519. The caller narrows it to those in the signed request, because M1
	// carries only the first.
	Suites []Suite
}

// Agent is one handshake of the agent's side, between ACCEPT and CONFIRM. Safe
// for concurrent use.
type Agent struct {
	harden.Opaque
	suite                     Suite
	operatorIndex, agentIndex uint32
	identity                  key.Public[key.Agent]
	operator                  key.Public[key.Operator]
	h2                        key.Hash
	sealed                    []byte // sealed part of M2, for h3

	mu      sync.Mutex
	secrets harden.Hidden[secrets] // guarded by mu; erased once keys exist
	m3      []byte                 // guarded by mu; the CONFIRM that was accepted
	keys    *Keys                  // guarded by mu
	closed  bool                   // guarded by mu
}

// Accept answers M1. Call it only after every check of protocol 2.5; it is the
// step that spends a signature. Refusals: BadMessage, BadEphemeral,
// NoCommonSuite.
func Accept(cfg AgentConfig, m1 []byte) (*Agent, []byte, error) {
	var x *ecdh.PrivateKey
	var err error
	harden.Do(func() { x, err = ecdh.X25519().GenerateKey(rand.Reader) })
	if err != nil {
		return nil, nil, fmt.Errorf("generating an ephemeral key: %v", err)
	}
	return accept(cfg, m1, ephemeral{x: x, index: newIndex()})
}

func accept(cfg AgentConfig, m1 []byte, eph ephemeral) (*Agent, []byte, error) {
	if cfg.Identity.IsZero() || cfg.Operator.IsZero() {
		return nil, nil, errors.New("accepting a session: identity or operator is missing")
	}
	open, err := ParseOpen(m1)
	if err != nil {
		return nil, nil, err
	}
	suites, err := checkSuites(cfg.Suites)
	if err != nil {
		return nil, nil, err
	}
	suite, err := choose(open.Suite, suites)
	if err != nil {
		return nil, nil, err
	}
	a := &Agent{
		suite: suite, operatorIndex: open.OperatorIndex, agentIndex: eph.index,
		identity: cfg.Identity.Public(), operator: cfg.Operator,
	}
	var m2 []byte
	harden.Do(func() { m2, err = a.answer(cfg, open, m1, eph.x, bitmap(suites)) })
	if err != nil {
		return nil, nil, err
	}
	return a, m2, nil
}

// answer makes M2 and the handshake keys.
func (a *Agent) answer(cfg AgentConfig, open Open, m1 []byte, x *ecdh.PrivateKey, bits uint32) ([]byte, error) {
	m2 := accepted{
		suite: a.suite, operatorIndex: a.operatorIndex, agentIndex: a.agentIndex,
		session: open.Session, grantHash: cfg.GrantHash, rosterHash: cfg.RosterHash,
	}
	copy(m2.eph[:], x.PublicKey().Bytes())
	// <- e_o, [ek]: ee, kem. Low-order keys end here, before anything is signed.
	ss, err := diffieHellman(x, &open.eph)
	if err != nil {
		return nil, err
	}
	if a.suite == Hybrid {
		if ss, m2.ct, err = encapsulate(open.ek, ss); err != nil {
			return nil, err
		}
	}
	clearPart := m2.marshalClear()
	a.h2 = extend(extend(startHash(a.suite), m1), clearPart)
	s := newSecrets(ss, a.h2)
	a.secrets = harden.Hide(&s)

	kid := cfg.Identity.ID()
	sig := cfg.Identity.Sign(authText("agent", a.h2, a.identity.Bytes(), a.operator.Bytes()))
	plain := append(kid[:], sig...)
	plain = binary.BigEndian.AppendUint32(plain, bits)
	plain = binary.BigEndian.AppendUint32(plain, cfg.Flags)
	a.sealed = sealOnce(s.agent, plain, a.h2)
	return append(clearPart, a.sealed...), nil
}

// encapsulate returns ss_mlkem ‖ x and the ciphertext.
func encapsulate(ek, x []byte) (ss, ct []byte, err error) {
	kem, err := mlkem.NewEncapsulationKey768(ek)
	if err != nil {
		return nil, nil, refusal.New(refusal.BadEphemeral, "not an ML-KEM-768 key")
	}
	ss, ct = kem.Encapsulate()
	return join(ss, x), ct, nil
}

// Index returns the agent's receive index, which M3 carries.
func (a *Agent) Index() uint32 { return a.agentIndex }

// Confirm checks M3 and returns the keys, which then belong to the caller. The
// operator repeats M3 until it hears READY, so the same bytes give the same Keys
// again; anything else is refused and the handshake stays as it was, because
// anybody can send a datagram to a known index (attack B11).
//
// Refusals: BadMessage, HandshakeFailed.
func (a *Agent) Confirm(m3 []byte) (*Keys, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, errors.New("confirming a session: handshake is closed")
	}
	header := marshalConfirmHeader(a.suite, a.agentIndex)
	if len(m3) != ConfirmSize || !bytes.Equal(m3[:confirmHeader], header) {
		return nil, refusal.New(refusal.BadMessage, "not the CONFIRM of this session")
	}
	if a.keys != nil {
		if !bytes.Equal(a.m3, m3) {
			return nil, refusal.New(refusal.HandshakeFailed, "another CONFIRM was accepted before")
		}
		return a.keys, nil
	}
	if err := a.confirmLocked(header, m3[confirmHeader:]); err != nil {
		return nil, err
	}
	a.m3 = bytes.Clone(m3)
	return a.keys, nil
}

func (a *Agent) confirmLocked(header, sealed []byte) error {
	h3 := extend(a.h2, a.sealed, header...)
	var plain []byte
	var err error
	harden.Do(func() { plain, err = openOnce(a.secrets.Get().operator, sealed, h3) })
	if err != nil {
		return refusal.New(refusal.HandshakeFailed, "CONFIRM does not open")
	}
	kid := a.operator.ID()
	text := authText("operator", h3, a.operator.Bytes(), a.identity.Bytes())
	if !bytes.Equal(plain[:len(kid)], kid[:]) || !a.operator.Verify(text, plain[len(kid):]) {
		return refusal.New(refusal.HandshakeFailed, "CONFIRM is not signed by the operator of the request")
	}
	h4 := extend(h3, sealed)
	harden.Do(func() {
		block := a.secrets.Get().traffic(h4)
		a.keys = newKeys(a.suite, a.operatorIndex, a.agentIndex, h4, &block)
		clear(block[:])
	})
	a.secrets.Get().erase()
	return nil
}

// Close erases what Confirm would need. Keys that Confirm returned stay valid.
// It may be called again.
func (a *Agent) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.secrets.Get().erase()
	a.keys = nil
}
