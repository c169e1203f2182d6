package handshake

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// TestB11EveryFlippedBitOfConfirm also shows that bad datagrams do not hurt the
// waiting agent.
func TestB11EveryFlippedBitOfConfirm(t *testing.T) {
	for _, suite := range bothSuites {
		r := newRun(t, suite).accept(t)
		m3, _, ok, err := r.confirm()
		if err != nil {
			t.Fatal(err)
		}
		for i := range 8 * len(m3) {
			bad := slices.Clone(m3)
			bad[i/8] ^= 1 << (i % 8)
			if keys, err := r.agent.Confirm(bad); refusal.Of(err) == "" || keys != nil {
				t.Fatalf("%v, bit %d of CONFIRM: agent has keys, %v", suite, i, err)
			}
		}
		ak, err := r.agent.Confirm(m3)
		if err != nil || !equal(ok, ak) {
			t.Errorf("%v: the honest CONFIRM after them: %v", suite, err)
		}
	}
}

func TestB11RepeatedConfirm(t *testing.T) {
	r := newRun(t).accept(t)
	m3, _, _, err := r.confirm()
	if err != nil {
		t.Fatal(err)
	}
	first, err := r.agent.Confirm(m3)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.agent.Confirm(m3); err != nil || again != first {
		t.Errorf("the same CONFIRM again: %v", err)
	}
	bad := slices.Clone(m3)
	bad[50] ^= 1
	if _, err := r.agent.Confirm(bad); refusal.Of(err) != refusal.HandshakeFailed {
		t.Errorf("another CONFIRM afterwards: %v", err)
	}
	if _, err := r.agent.Confirm(m3); err != nil {
		t.Errorf("the same CONFIRM after a bad one: %v", err)
	}
}

func TestB11ConfirmOfAnotherSession(t *testing.T) {
	a, b := newRun(t, X25519).accept(t), newRun(t, X25519).accept(t)
	m3, _, _, err := a.confirm()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.agent.Confirm(m3); refusal.Of(err) != refusal.BadMessage {
		t.Errorf("by its index: %v", err)
	}
	copy(m3[4:8], marshalConfirmHeader(X25519, b.agent.Index())[4:])
	if _, err := b.agent.Confirm(m3); refusal.Of(err) != refusal.HandshakeFailed {
		t.Errorf("with the index of this session: %v", err)
	}
}

// TestB11ConfirmByAnotherOperator: somebody who holds the handshake keys, as a
// man in the middle would, and signs with an identity of their own.
func TestB11ConfirmByAnotherOperator(t *testing.T) {
	r := newRun(t, X25519).accept(t)
	thief := seeded[key.Operator](t, 66)
	header := marshalConfirmHeader(X25519, r.agent.agentIndex)
	h3 := extend(r.agent.h2, r.agent.sealed, header...)
	forge := func(kid key.ID, sig []byte) []byte {
		return append(slices.Clone(header), sealOnce(r.agent.secrets.Get().operator, append(kid[:], sig...), h3)...)
	}
	text := authText("operator", h3, r.operator.Public().Bytes(), r.identity.Public().Bytes())
	own := authText("operator", h3, thief.Public().Bytes(), r.identity.Public().Bytes())
	role := authText("agent", h3, r.operator.Public().Bytes(), r.identity.Public().Bytes())
	for name, m3 := range map[string][]byte{
		"own kid, own signature":           forge(thief.ID(), thief.Sign(own)),
		"honest kid, own signature":        forge(r.operator.ID(), thief.Sign(text)),
		"own kid, honest signature":        forge(thief.ID(), r.operator.Sign(text)),
		"signature made for another role":  forge(r.operator.ID(), r.operator.Sign(role)),
		"signature made for another agent": forge(r.operator.ID(), r.operator.Sign(authText("operator", h3, r.operator.Public().Bytes(), thief.Public().Bytes()))),
	} {
		if _, err := r.agent.Confirm(m3); refusal.Of(err) != refusal.HandshakeFailed {
			t.Errorf("%s: %v, want handshake_failed", name, err)
		}
	}
	if _, err := r.agent.Confirm(forge(r.operator.ID(), r.operator.Sign(text))); err != nil {
		t.Errorf("the honest one: %v", err)
	}
}

// TestB5ServerAnswersItself with a key pair of its own, or in the name of the
// agent without its key.
func TestB5ServerAnswersItself(t *testing.T) {
	server := seeded[key.Agent](t, 77)
	r := newRun(t)
	cfg := r.agentConfig()
	cfg.Identity = server
	_, m2, err := Accept(cfg, r.m1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := r.op.Confirm(m2, r.find); refusal.Of(err) != refusal.UnknownAgent {
		t.Errorf("with its own key: %v, want unknown_agent", err)
	}

	r = newRun(t, X25519)
	_, m2, err = accept(cfg, r.m1, ephemeral{x: fixedX25519(t, 4), index: 7})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := r.op.Confirm(forgeKid(t, r, m2), r.find); refusal.Of(err) != refusal.HandshakeFailed {
		t.Errorf("in the agent's name: %v, want handshake_failed", err)
	}
}

// forgeKid seals m2's end again with the honest agent's kid over the same
// signature, which whoever made m2 can do.
func forgeKid(t *testing.T, r *run, m2 []byte) []byte {
	t.Helper()
	a, err := parseAccept(m2)
	if err != nil {
		t.Fatal(err)
	}
	x, err := diffieHellman(fixedX25519(t, 4), &r.op.open.eph)
	if err != nil {
		t.Fatal(err)
	}
	h2 := extend(extend(startHash(X25519), r.m1), a.marshalClear())
	s := newSecrets(x, h2)
	plain, err := openOnce(s.agent, a.sealed, h2)
	if err != nil {
		t.Fatal(err)
	}
	kid := r.identity.ID()
	copy(plain, kid[:])
	return append(a.marshalClear(), sealOnce(s.agent, plain, h2)...)
}

func TestFinderDecidesAboutAgents(t *testing.T) {
	for want, find := range map[refusal.Code]func(key.ID) (key.Public[key.Agent], error){
		refusal.KeyRevoked: func(key.ID) (key.Public[key.Agent], error) {
			return key.Public[key.Agent]{}, refusal.New(refusal.KeyRevoked, "test")
		},
		refusal.UnknownAgent: func(key.ID) (key.Public[key.Agent], error) {
			return key.Public[key.Agent]{}, errors.New("no such file")
		},
	} {
		r := newRun(t).accept(t)
		if _, _, _, err := r.op.Confirm(r.m2, find); refusal.Of(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for name, find := range map[string]func(key.ID) (key.Public[key.Agent], error){
		"zero key":    func(key.ID) (key.Public[key.Agent], error) { return key.Public[key.Agent]{}, nil },
		"another key": func(key.ID) (key.Public[key.Agent], error) { return seeded[key.Agent](t, 5).Public(), nil },
	} {
		r := newRun(t).accept(t)
		if _, _, _, err := r.op.Confirm(r.m2, find); refusal.Of(err) != refusal.UnknownAgent {
			t.Errorf("%s: %v, want unknown_agent", name, err)
		}
	}
}

func TestOperatorIsUsedOnce(t *testing.T) {
	r := newRun(t).accept(t)
	bad := slices.Clone(r.m2)
	bad[len(bad)-1] ^= 1
	if _, _, _, err := r.op.Confirm(bad, r.find); refusal.Of(err) != refusal.HandshakeFailed {
		t.Fatal(err)
	}
	if _, _, keys, err := r.confirm(); err == nil || keys != nil {
		t.Error("a second answer was looked at")
	}
	if _, err := r.op.Open(key.Hash{1}); err == nil {
		t.Error("OPEN of a handshake that is over")
	}
	if r.op.eph.x != nil || r.op.eph.kem != nil {
		t.Error("ephemeral keys are still there")
	}
}

func TestOpenServesOneRequest(t *testing.T) {
	r := newRun(t)
	if again, err := r.op.Open(key.Hash{1}); err != nil || !bytes.Equal(again, r.m1) {
		t.Errorf("the same request again: %v", err)
	}
	if _, err := r.op.Open(key.Hash{2}); err == nil {
		t.Error("one ephemeral key serves two requests")
	}
	if _, _, _, err := (func() ([]byte, Accepted, *Keys, error) {
		fresh, err := NewOperator(OperatorConfig{Identity: r.operator})
		if err != nil {
			t.Fatal(err)
		}
		return fresh.Confirm(r.m2, r.find)
	}()); err == nil {
		t.Error("CONFIRM without OPEN")
	}
}

func TestCloseErases(t *testing.T) {
	r := newRun(t).accept(t)
	r.op.Close()
	r.op.Close()
	if _, _, _, err := r.confirm(); err == nil {
		t.Error("closed operator confirms")
	}
	s := r.agent.secrets.Get()
	ss := s.ss
	r.agent.Close()
	r.agent.Close()
	if !bytes.Equal(ss, make([]byte, len(ss))) || s.agent != nil {
		t.Error("secrets of a closed agent are still there")
	}
	if _, err := r.agent.Confirm(make([]byte, ConfirmSize)); err == nil {
		t.Error("closed agent confirms")
	}
}

func TestSecretsAreErasedOnceKeysExist(t *testing.T) {
	r := newRun(t).accept(t)
	m3, _, _, err := r.confirm()
	if err != nil {
		t.Fatal(err)
	}
	ss := r.agent.secrets.Get().ss
	if _, err := r.agent.Confirm(m3); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ss, make([]byte, len(ss))) {
		t.Error("ss is still there")
	}
	if kept, err := r.agent.Confirm(m3); err != nil || kept.Exporter() == [32]byte{} {
		t.Errorf("keys were erased with it: %v", err)
	}
}
