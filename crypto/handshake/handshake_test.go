package handshake

import (
	"crypto/mlkem"
	"slices"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// run is one honest handshake, stopped where a test wants to interfere.
type run struct {
	operator key.Private[key.Operator]
	identity key.Private[key.Agent]
	op       *Operator
	agent    *Agent
	m1, m2   []byte
}

func newRun(t testing.TB, suites ...Suite) *run {
	t.Helper()
	r := &run{operator: seeded[key.Operator](t, 1), identity: seeded[key.Agent](t, 2)}
	var err error
	if r.op, err = NewOperator(OperatorConfig{Identity: r.operator, Session: [16]byte{9}, RosterHash: key.Hash{3}, Suites: suites}); err != nil {
		t.Fatal(err)
	}
	if r.m1, err = r.op.Open(key.Hash{1}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *run) agentConfig(suites ...Suite) AgentConfig {
	return AgentConfig{Identity: r.identity, Operator: r.operator.Public(), GrantHash: key.Hash{2}, RosterHash: key.Hash{3}, Flags: 5, Suites: suites}
}

func (r *run) accept(t testing.TB, suites ...Suite) *run {
	t.Helper()
	var err error
	if r.agent, r.m2, err = Accept(r.agentConfig(suites...), r.m1); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *run) find(kid key.ID) (key.Public[key.Agent], error) {
	if kid != r.identity.ID() {
		return key.Public[key.Agent]{}, refusal.New(refusal.UnknownAgent, "test")
	}
	return r.identity.Public(), nil
}

func equal(a, b *Keys) bool {
	return *a.secret.Get() == *b.secret.Get() && a.h4 == b.h4 && a.suite == b.suite && a.operatorIndex == b.operatorIndex && a.agentIndex == b.agentIndex
}

var bothSuites = []Suite{X25519, Hybrid}

func TestBothSidesHoldEqualKeys(t *testing.T) {
	for _, v := range []struct {
		operator, agent []Suite
		want            Suite
	}{
		{nil, nil, Hybrid},
		{[]Suite{X25519}, nil, X25519},
		{nil, []Suite{X25519}, X25519},
		{[]Suite{Hybrid}, nil, Hybrid},
		{nil, []Suite{Hybrid}, Hybrid},
	} {
		r := newRun(t, v.operator...).accept(t, v.agent...)
		m3, acc, ok, err := r.op.Confirm(r.m2, r.find)
		if err != nil {
			t.Fatal(err)
		}
		ak, err := r.agent.Confirm(m3)
		if err != nil {
			t.Fatal(err)
		}
		if !equal(ok, ak) || ok.Suite() != v.want {
			t.Errorf("operator %v, agent %v: suite %v, equal keys: %t", v.operator, v.agent, ok.Suite(), equal(ok, ak))
		}
		bits, _ := checkSuites(v.agent)
		want := Accepted{GrantHash: key.Hash{2}, RosterHash: key.Hash{3}, Suite: v.want, Agent: r.identity.ID(), AgentIndex: r.agent.Index(), SuiteBitmap: bitmap(bits), Flags: 5}
		if acc != want {
			t.Errorf("accepted %+v, want %+v", acc, want)
		}
		if i, err := ParseConfirmIndex(m3); err != nil || i != r.agent.Index() || i != ok.AgentIndex() || ok.OperatorIndex() != r.op.open.OperatorIndex {
			t.Errorf("indices differ: %d, %v", i, err)
		}
	}
}

func TestOpenSaysWhatWasAskedFor(t *testing.T) {
	for _, suite := range bothSuites {
		r := newRun(t, suite)
		o, err := ParseOpen(r.m1)
		if err != nil {
			t.Fatal(err)
		}
		if o.Suite != suite || o.Session != [16]byte{9} || o.RequestHash != (key.Hash{1}) || o.RosterHash != (key.Hash{3}) || o.OperatorIndex != r.op.open.OperatorIndex {
			t.Errorf("%v: %+v", suite, o)
		}
		if o.EphHash() != r.op.EphHash() || o.Ephemeral() != r.op.open.eph {
			t.Errorf("%v: hash or key of the ephemeral differs", suite)
		}
	}
}

func TestEphHashCoversBothKeys(t *testing.T) {
	r := newRun(t, Hybrid)
	for _, at := range []int{88, 119, 120, len(r.m1) - 1} {
		bad := slices.Clone(r.m1)
		bad[at] ^= 1
		if o, err := ParseOpen(bad); err != nil || o.EphHash() == r.op.EphHash() {
			t.Errorf("byte %d is not covered: %v", at, err)
		}
	}
}

// lowOrder are the X25519 inputs whose result is zero, in every encoding below
// 2^255, and the same with the top bit set, which X25519 ignores.
func lowOrder() (list [][32]byte) {
	p := func(last, first byte) (b [32]byte) {
		for i := range b {
			b[i] = 0xff
		}
		b[0], b[31] = first, last
		return b
	}
	order8a := [32]byte{0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00}
	order8b := [32]byte{0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57}
	for _, b := range [][32]byte{{}, {1}, order8a, order8b, p(0x7f, 0xec), p(0x7f, 0xed), p(0x7f, 0xee)} {
		top := b
		top[31] |= 0x80
		list = append(list, b, top)
	}
	return list
}

func TestB1LowOrderOperatorKey(t *testing.T) {
	for _, suite := range bothSuites {
		for _, e := range lowOrder() {
			r := newRun(t, suite)
			copy(r.m1[88:], e[:])
			if a, m2, err := Accept(r.agentConfig(), r.m1); refusal.Of(err) != refusal.BadEphemeral || a != nil || m2 != nil {
				t.Errorf("%v, E_o %x: %v, want bad_ephemeral and nothing signed", suite, e, err)
			}
		}
	}
}

func TestB1LowOrderOrEchoedAgentKey(t *testing.T) {
	for _, suite := range bothSuites {
		own := newRun(t, suite)
		for _, e := range append(lowOrder(), own.op.open.eph) {
			r := own
			if e != own.op.open.eph {
				r = newRun(t, suite)
			}
			r.accept(t)
			copy(r.m2[96:], e[:])
			asked := false
			_, _, _, err := r.op.Confirm(r.m2, func(id key.ID) (key.Public[key.Agent], error) { asked = true; return r.find(id) })
			if refusal.Of(err) != refusal.BadEphemeral || asked {
				t.Errorf("%v, E_a %x: %v, want bad_ephemeral before anything else", suite, e, err)
			}
		}
	}
}

func TestB1BadEncapsulationKey(t *testing.T) {
	r := newRun(t, Hybrid)
	for i := range 3 {
		r.m1[OpenSize+i] = 0xff // a coefficient above the modulus
	}
	if _, _, err := Accept(r.agentConfig(), r.m1); refusal.Of(err) != refusal.BadEphemeral {
		t.Errorf("%v, want bad_ephemeral", err)
	}
}

// TestB7SuiteDowngrade rewrites the suite on the way in each direction.
func TestB7SuiteDowngrade(t *testing.T) {
	strip := func(m1 []byte) []byte { // hybrid OPEN to a plain one
		m1 = slices.Clone(m1[:OpenSize])
		m1[3] = byte(X25519)
		return m1
	}
	r := newRun(t)
	o, err := ParseOpen(strip(r.m1))
	if err != nil || o.EphHash() == r.op.EphHash() {
		t.Errorf("a stripped OPEN still matches the signed eph: %v", err)
	}
	r.m1 = strip(r.m1)
	r.accept(t) // even if the agent did not compare
	if _, _, _, err := r.op.Confirm(r.m2, r.find); refusal.Of(err) != refusal.HandshakeFailed {
		t.Errorf("downgraded: %v, want handshake_failed", err)
	}

	r = newRun(t)
	r.accept(t)
	m2 := append(slices.Clone(r.m2[:acceptClear]), r.m2[len(r.m2)-sealedAccept:]...)
	m2[3] = byte(X25519) // ACCEPT without its ciphertext
	if _, _, _, err := r.op.Confirm(m2, r.find); refusal.Of(err) != refusal.HandshakeFailed {
		t.Errorf("stripped ACCEPT: %v, want handshake_failed", err)
	}

	r = newRun(t, Hybrid).accept(t)
	r2 := newRun(t, X25519).accept(t)
	r2.m2[3] = byte(Hybrid)
	if _, _, _, err := r.op.Confirm(r2.m2, r.find); refusal.Of(err) != refusal.BadMessage {
		t.Errorf("relabelled ACCEPT: %v, want bad_message", err)
	}
}

// TestB7AgentMayNotChooseTheWeakerSuite is an agent that has both and answers
// with the weaker.
func TestB7AgentMayNotChooseTheWeakerSuite(t *testing.T) {
	for _, v := range []struct {
		chosen  Suite
		offered []Suite
		has     uint32
		ok      bool
	}{
		{X25519, []Suite{Hybrid, X25519}, 3, false},
		{Hybrid, []Suite{Hybrid, X25519}, 3, true},
		{X25519, []Suite{Hybrid, X25519}, 1, true},
		{Hybrid, []Suite{Hybrid, X25519}, 1, false},
		{X25519, []Suite{X25519}, 3, true},
		{X25519, []Suite{X25519}, 0, false},
		{Hybrid, []Suite{Hybrid, X25519}, 0xffffffff, true},
	} {
		if err := checkChoice(v.chosen, v.offered, v.has); (err == nil) != v.ok {
			t.Errorf("chosen %v of %v, agent has %b: %v", v.chosen, v.offered, v.has, err)
		}
	}
}

func TestNoCommonSuite(t *testing.T) {
	r := newRun(t, X25519)
	if _, _, err := Accept(r.agentConfig(Hybrid), r.m1); refusal.Of(err) != refusal.NoCommonSuite {
		t.Errorf("agent with the hybrid only: %v", err)
	}
	r = newRun(t, Hybrid).accept(t, X25519)
	if _, _, _, err := r.op.Confirm(r.m2, r.find); refusal.Of(err) != refusal.NoCommonSuite {
		t.Errorf("operator with the hybrid only: %v", err)
	}
	for _, list := range [][]Suite{{3}, {X25519, Hybrid}, {Hybrid, Hybrid}, {0}} {
		if _, err := NewOperator(OperatorConfig{Identity: r.operator, Suites: list}); err == nil {
			t.Errorf("suites %v were taken", list)
		}
	}
}

// TestB8AlteredCiphertext: ML-KEM answers a wrong ciphertext with a random
// secret, and nobody may learn more than from any other forgery.
func TestB8AlteredCiphertext(t *testing.T) {
	for _, at := range []int{0, 500, mlkem.CiphertextSize768 - 1} {
		r := newRun(t, Hybrid).accept(t)
		r.m2[acceptClear+at] ^= 1
		_, _, _, err := r.op.Confirm(r.m2, r.find)
		other := newRun(t, Hybrid).accept(t)
		other.m2[len(other.m2)-1] ^= 1
		_, _, _, tag := other.op.Confirm(other.m2, other.find)
		if refusal.Of(err) != refusal.HandshakeFailed || err.Error() != tag.Error() {
			t.Errorf("ciphertext byte %d: %v; altered tag: %v; want the same", at, err, tag)
		}
	}
}

func TestB9MalformedMessages(t *testing.T) {
	for _, suite := range bothSuites {
		r := newRun(t, suite).accept(t)
		m3, _, _, err := newRun(t, suite).accept(t).confirm()
		if err != nil {
			t.Fatal(err)
		}
		for name, m := range map[string]struct {
			honest []byte
			parse  func([]byte) error
			zero   []int // bytes where a bit must not be set
		}{
			"OPEN":    {r.m1, func(b []byte) error { _, err := ParseOpen(b); return err }, nil},
			"ACCEPT":  {r.m2, func(b []byte) error { _, err := parseAccept(b); return err }, []int{12, 13, 14, 15}},
			"CONFIRM": {m3, func(b []byte) error { _, err := ParseConfirmIndex(b); return err }, nil},
		} {
			if err := m.parse(m.honest); err != nil {
				t.Fatal(err)
			}
			bad := [][]byte{append(slices.Clone(m.honest), 0), append(slices.Clone(m.honest), make([]byte, 2000)...)}
			for i := range m.honest {
				bad = append(bad, m.honest[:i])
			}
			set := func(at int, v byte) { b := slices.Clone(m.honest); b[at] = v; bad = append(bad, b) }
			set(0, 0xD0)
			set(0, 0)
			set(1, 0)
			set(1, 2)
			for _, at := range m.zero {
				set(at, 0x80)
				set(at, 1)
			}
			for _, b := range bad {
				if err := m.parse(b); refusal.Of(err) != refusal.BadMessage {
					t.Errorf("%s of %v, %d bytes, begins %x: %v, want bad_message", name, suite, len(b), b[:min(16, len(b))], err)
				}
			}
		}
	}
}

func (r *run) confirm() ([]byte, Accepted, *Keys, error) { return r.op.Confirm(r.m2, r.find) }

func TestB9ZeroIndexAndUnknownSuite(t *testing.T) {
	r := newRun(t, X25519).accept(t)
	zeroOpen, zeroAccept := slices.Clone(r.m1), slices.Clone(r.m2)
	clear(zeroOpen[4:8])
	clear(zeroAccept[8:12])
	odd := slices.Clone(r.m1)
	odd[3] = 3
	for _, b := range [][]byte{zeroOpen, odd} {
		if _, err := ParseOpen(b); refusal.Of(err) != refusal.BadMessage {
			t.Errorf("OPEN %x: %v", b[:8], err)
		}
	}
	if _, err := parseAccept(zeroAccept); refusal.Of(err) != refusal.BadMessage {
		t.Errorf("ACCEPT without an index: %v", err)
	}
}

// TestEveryFlippedBitOfOpen ends without a session: what the agent signs is not
// what the operator sent.
// tried says whether byte i of a message is flipped in this build: of the long one
// every seventeenth, with the race detector a quarter, in another place of it each.
func tried(suite Suite, i int) bool {
	return (suite != Hybrid || i%17 == 0) && (!raceDetector || i%4 == i/4%4)
}

func TestEveryFlippedBitOfOpen(t *testing.T) {
	for _, suite := range bothSuites {
		for i := range newRun(t, suite).m1 {
			if !tried(suite, i) {
				continue
			}
			r := newRun(t, suite)
			r.m1[i] ^= 1 << (i % 8)
			_, m2, err := Accept(r.agentConfig(), r.m1)
			if err != nil {
				if refusal.Of(err) == "" {
					t.Errorf("byte %d: %v has no code", i, err)
				}
				continue
			}
			if _, _, keys, err := r.op.Confirm(m2, r.find); refusal.Of(err) == "" || keys != nil {
				t.Fatalf("%v, byte %d of OPEN: operator has keys, %v", suite, i, err)
			}
		}
	}
}

func TestEveryFlippedBitOfAccept(t *testing.T) {
	for _, suite := range bothSuites {
		for i := range newRun(t, suite).accept(t).m2 {
			if !tried(suite, i) {
				continue
			}
			r := newRun(t, suite).accept(t)
			r.m2[i] ^= 1 << (i % 8)
			if m3, _, keys, err := r.confirm(); refusal.Of(err) == "" || keys != nil || m3 != nil {
				t.Fatalf("%v, byte %d of ACCEPT: operator has keys, %v", suite, i, err)
			}
		}
	}
}

func TestConfigWithoutKeysIsRefused(t *testing.T) {
	if _, err := NewOperator(OperatorConfig{}); err == nil {
		t.Error("operator without identity")
	}
	r := newRun(t)
	for _, cfg := range []AgentConfig{{}, {Identity: r.identity}, {Operator: r.operator.Public()}} {
		if _, _, err := Accept(cfg, r.m1); err == nil {
			t.Error("agent without keys")
		}
	}
	cfg := r.agentConfig(9)
	if _, _, err := Accept(cfg, r.m1); err == nil {
		t.Error("agent with unknown suites")
	}
}

func BenchmarkHandshake(b *testing.B) {
	for _, suite := range bothSuites {
		b.Run(suite.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := newRun(b, suite).accept(b)
				m3, _, _, err := r.confirm()
				if err != nil {
					b.Fatal(err)
				}
				if _, err := r.agent.Confirm(m3); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
