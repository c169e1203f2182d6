package handshake

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/harden"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// OperatorConfig is what an operator brings to a session.
type OperatorConfig struct {
	Identity   key.Private[key.Operator]
	Session    [16]byte // random session id, also in the signed request
	RosterHash key.Hash // of the newest roster the operator has verified
	Suites     []Suite  // what it offers, best first; none means hybrid, then X25519
}

// Accepted is what the agent's answer says; all of it is authenticated.
type Accepted struct {
	GrantHash   key.Hash // of the grant the agent received
	RosterHash  key.Hash // of the roster the agent has verified
	Suite       Suite
	Agent       key.ID
	AgentIndex  uint32 // goes into datagrams to the agent
	SuiteBitmap uint32 // what the agent supports; bit n is suite n+1
	Flags       uint32 // reserved for the agent; protocol 2.5
}

// ephemeral is the operator's half of the exchange.
type ephemeral struct {
	x     *ecdh.PrivateKey
	kem   *mlkem.DecapsulationKey768 // nil unless the hybrid is offered
	index uint32
}

// Operator is one handshake of the operator's side. It is used once: Confirm
// erases its ephemeral keys whatever comes of it. Safe for concurrent use.
type Operator struct {
	harden.Opaque
	cfg  OperatorConfig
	open Open

	mu  sync.Mutex
	eph ephemeral // guarded by mu; zero once used
	m1  []byte    // guarded by mu; nil before Open
}

// NewOperator makes the ephemeral keys of one session.
func NewOperator(cfg OperatorConfig) (*Operator, error) {
	suites, err := checkSuites(cfg.Suites)
	if err != nil {
		return nil, err
	}
	cfg.Suites = suites
	var eph ephemeral
	harden.Do(func() {
		if eph.x, err = ecdh.X25519().GenerateKey(rand.Reader); err == nil && suites[0] == Hybrid {
			eph.kem, err = mlkem.GenerateKey768()
		}
	})
	if err != nil {
		return nil, fmt.Errorf("generating ephemeral keys: %v", err)
	}
	eph.index = newIndex()
	return newOperator(cfg, eph)
}

// newOperator takes checked suites.
func newOperator(cfg OperatorConfig, eph ephemeral) (*Operator, error) {
	if cfg.Identity.IsZero() {
		return nil, errors.New("opening a session: operator has no identity key")
	}
	o := &Operator{cfg: cfg, eph: eph}
	o.open = Open{Suite: cfg.Suites[0], OperatorIndex: eph.index, Session: cfg.Session, RosterHash: cfg.RosterHash}
	copy(o.open.eph[:], eph.x.PublicKey().Bytes())
	if eph.kem != nil {
		o.open.ek = eph.kem.EncapsulationKey().Bytes()
	}
	return o, nil
}

// newIndex draws a receive index. Zero is not used, so that a forgotten field is
// never a valid one.
func newIndex() uint32 {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails: the runtime stops the program instead
		if i := binary.BigEndian.Uint32(b[:]); i != 0 {
			return i
		}
	}
}

// EphHash returns H(E_o ‖ [ek]), which goes into the signed request.
func (o *Operator) EphHash() key.Hash { return o.open.EphHash() }

// Open returns M1 for the request with this hash. One handshake serves one
// request; asked for another, Open returns an error.
func (o *Operator) Open(requestHash key.Hash) (m1 []byte, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.eph.x == nil {
		return nil, errors.New("opening a session: handshake is over")
	}
	open := o.open
	open.RequestHash = requestHash
	m1 = open.marshal()
	if o.m1 != nil && !bytes.Equal(o.m1, m1) {
		return nil, errors.New("opening a session: handshake serves another request")
	}
	o.m1 = bytes.Clone(m1)
	return m1, nil
}

// Close erases the ephemeral keys. It may be called again.
func (o *Operator) Close() { o.take() }

// take moves the ephemeral keys out: no second answer is ever looked at.
func (o *Operator) take() (ephemeral, []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	eph := o.eph
	o.eph = ephemeral{}
	return eph, o.m1
}

// Confirm reads the agent's answer and returns M3, what the agent said, and the
// keys. agent returns the key of a kid if the roster certifies it and the
// request was meant for it; its refusal is passed on. Every end of Confirm ends
// the handshake.
//
// Refusals: BadMessage, BadEphemeral, HandshakeFailed, UnknownAgent and those of
// agent.
func (o *Operator) Confirm(m2 []byte, agent func(kid key.ID) (key.Public[key.Agent], error)) (m3 []byte, acc Accepted, keys *Keys, err error) {
	eph, m1 := o.take()
	if eph.x == nil || m1 == nil {
		return nil, Accepted{}, nil, errors.New("confirming a session: no handshake is open")
	}
	a, err := o.checkAccept(m2)
	if err != nil {
		return nil, Accepted{}, nil, err
	}
	// -> e_a, [ct]: ee, kem
	h2 := extend(extend(startHash(a.suite), m1), a.marshalClear())
	var s secrets
	defer func() { s.erase() }()
	var proof agentProof
	harden.Do(func() {
		if s, err = o.agree(eph, a, h2); err == nil {
			proof, err = openProof(s, a.sealed, h2)
		}
	})
	if err != nil {
		return nil, Accepted{}, nil, err
	}
	peer, err := o.identify(proof, agent, h2)
	if err != nil {
		return nil, Accepted{}, nil, err
	}
	if err := checkChoice(a.suite, o.cfg.Suites, proof.bitmap); err != nil {
		return nil, Accepted{}, nil, err
	}
	acc = Accepted{
		GrantHash: a.grantHash, RosterHash: a.rosterHash, Suite: a.suite, Agent: proof.kid,
		AgentIndex: a.agentIndex, SuiteBitmap: proof.bitmap, Flags: proof.flags,
	}
	harden.Do(func() { m3, keys = o.finish(s, a, peer, h2) })
	return m3, acc, keys, nil
}

// checkAccept compares the clear part of M2 with what was asked for.
func (o *Operator) checkAccept(m2 []byte) (accepted, error) {
	a, err := parseAccept(m2)
	if err != nil {
		return accepted{}, err
	}
	if a.operatorIndex != o.open.OperatorIndex || a.session != o.cfg.Session {
		return accepted{}, refusal.New(refusal.BadMessage, "ACCEPT is for another session")
	}
	if !slices.Contains(o.cfg.Suites, a.suite) {
		return accepted{}, refusal.New(refusal.NoCommonSuite, "agent answered with %v, which was not offered", a.suite)
	}
	if a.eph == o.open.eph {
		return accepted{}, refusal.New(refusal.BadEphemeral, "agent sent the operator's own key back")
	}
	return a, nil
}

// agree computes ss. A wrong ML-KEM ciphertext gives a random secret by design
// (implicit rejection), so it fails later and like any other forgery.
func (o *Operator) agree(eph ephemeral, a accepted, h2 key.Hash) (secrets, error) {
	x, err := diffieHellman(eph.x, &a.eph)
	if err != nil {
		return secrets{}, err
	}
	if a.suite != Hybrid {
		return newSecrets(x, h2), nil
	}
	ss, err := eph.kem.Decapsulate(a.ct)
	if err != nil {
		return secrets{}, refusal.New(refusal.BadEphemeral, "ML-KEM ciphertext of a wrong length")
	}
	return newSecrets(join(ss, x), h2), nil
}

// diffieHellman refuses the keys whose result does not depend on ours.
func diffieHellman(own *ecdh.PrivateKey, peer *[32]byte) ([]byte, error) {
	pub, err := ecdh.X25519().NewPublicKey(peer[:])
	if err != nil {
		return nil, refusal.New(refusal.BadEphemeral, "not an X25519 key")
	}
	x, err := own.ECDH(pub)
	if err != nil {
		return nil, refusal.New(refusal.BadEphemeral, "X25519 key of low order")
	}
	return x, nil
}

// join returns kem ‖ x and clears both.
func join(kem, x []byte) []byte {
	ss := append(append(make([]byte, 0, len(kem)+len(x)), kem...), x...)
	clear(kem)
	clear(x)
	return ss
}

// agentProof is the sealed part of M2.
type agentProof struct {
	kid           key.ID
	sig           [key.SignatureSize]byte
	bitmap, flags uint32
}

func openProof(s secrets, sealed []byte, h2 key.Hash) (agentProof, error) {
	plain, err := openOnce(s.agent, sealed, h2)
	if err != nil {
		return agentProof{}, refusal.New(refusal.HandshakeFailed, "the agent's answer does not open")
	}
	var p agentProof
	n := copy(p.kid[:], plain)
	n += copy(p.sig[:], plain[n:])
	p.bitmap = binary.BigEndian.Uint32(plain[n:])
	p.flags = binary.BigEndian.Uint32(plain[n+4:])
	return p, nil
}

// identify finds the agent's key by our own roster, never by what came with the
// answer, and checks its signature.
func (o *Operator) identify(p agentProof, find func(key.ID) (key.Public[key.Agent], error), h2 key.Hash) (key.Public[key.Agent], error) {
	peer, err := find(p.kid)
	if err != nil && refusal.Of(err) != "" {
		return peer, err
	}
	if err != nil || peer.IsZero() || peer.ID() != p.kid {
		return peer, refusal.New(refusal.UnknownAgent, "nobody certified the key that answered")
	}
	text := authText("agent", h2, peer.Bytes(), o.cfg.Identity.Public().Bytes())
	if !peer.Verify(text, p.sig[:]) {
		return peer, refusal.New(refusal.HandshakeFailed, "the agent's signature is wrong")
	}
	return peer, nil
}

// finish makes M3 and the traffic keys.
func (o *Operator) finish(s secrets, a accepted, peer key.Public[key.Agent], h2 key.Hash) ([]byte, *Keys) {
	header := marshalConfirmHeader(a.suite, a.agentIndex)
	h3 := extend(h2, a.sealed, header...)
	kid := o.cfg.Identity.ID()
	sig := o.cfg.Identity.Sign(authText("operator", h3, o.cfg.Identity.Public().Bytes(), peer.Bytes()))
	sealed := sealOnce(s.operator, append(kid[:], sig...), h3)
	h4 := extend(h3, sealed)
	block := s.traffic(h4)
	defer clear(block[:])
	return append(header, sealed...), newKeys(a.suite, o.open.OperatorIndex, a.agentIndex, h4, &block)
}
