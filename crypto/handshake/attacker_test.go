package handshake

import (
	"bytes"
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
)

// The random attacker owns the channel between two operators and two agents. It
// keeps every message it has seen, and delivers what it likes: the honest one,
// one of another session, one with fields of another, a cut or altered one. It
// may answer as an agent or confirm as an operator under identities of its own.
// Whatever it does: if an operator and an agent end with equal keys, they saw
// the same messages and mean each other.

type attacker struct {
	rand *rand.Rand
	seen [4][][]byte // by message number
}

// fieldEnds are the borders of fields in each message, where mixing is likely to
// go unnoticed by a careless parser.
var fieldEnds = [4][]int{
	1: {1, 2, 4, 8, 24, 56, 88, 120, 120 + 1184},
	2: {1, 2, 4, 8, 12, 16, 32, 64, 96, 128, 128 + 120, 128 + 1088, 128 + 1088 + 120},
	3: {1, 2, 4, 8, 40, 104, 120},
}

func (a *attacker) deliver(number int, honest []byte) []byte {
	a.seen[number] = append(a.seen[number], honest)
	if len(a.seen[number]) > 32 {
		a.seen[number] = a.seen[number][1:]
	}
	other := a.seen[number][a.rand.IntN(len(a.seen[number]))]
	out := slices.Clone(honest)
	switch a.rand.IntN(8) {
	case 0, 1, 2: // as it is
	case 3: // another one
		out = slices.Clone(other)
	case 4, 5: // one field of another one
		i := a.rand.IntN(len(fieldEnds[number]) - 1)
		from, to := fieldEnds[number][i], fieldEnds[number][i+1]
		if from < len(out) && from < len(other) {
			copy(out[from:min(to, len(out))], other[from:])
		}
	case 6: // one bit
		out[a.rand.IntN(len(out))] ^= 1 << a.rand.IntN(8)
	case 7: // head of this, tail of that
		at := fieldEnds[number][a.rand.IntN(len(fieldEnds[number]))]
		if at <= len(out) && at <= len(other) {
			out = append(out[:at], other[at:]...)
		}
	}
	return out
}

// transcript is what one side believes has happened.
type transcript struct {
	m1, m2, m3      []byte
	operator, agent key.ID
	suite           Suite
	keys            *Keys
}

func (x transcript) same(y transcript) bool {
	return bytes.Equal(x.m1, y.m1) && bytes.Equal(x.m2, y.m2) && bytes.Equal(x.m3, y.m3) && x.operator == y.operator && x.agent == y.agent && x.suite == y.suite
}

// attackerRuns is raised for a release: 1,000,000 take about twenty minutes.
var attackerRuns = flag.Int("attacker.runs", 400, "sessions that the random attacker plays with")

// TestRandomAttackerEqualKeysMeanEqualTranscripts is the cheap stand-in for a
// model checker.
func TestRandomAttackerEqualKeysMeanEqualTranscripts(t *testing.T) {
	runs := *attackerRuns
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	a := &attacker{rand: rand.New(rand.NewPCG(seed, 7))}
	operators := []key.Private[key.Operator]{seeded[key.Operator](t, 1), seeded[key.Operator](t, 11)}
	agents := []key.Private[key.Agent]{seeded[key.Agent](t, 2), seeded[key.Agent](t, 22)}
	byH4 := map[key.Hash][]transcript{}
	var done, refused int
	for range runs {
		for _, x := range a.session(t, operators[a.rand.IntN(2)], agents) {
			byH4[x.keys.H4()] = append(byH4[x.keys.H4()], x)
		}
	}
	for _, ends := range byH4 {
		switch len(ends) {
		case 1: // the other side refused: no session, which is what an attacker may cause
			refused++
		case 2:
			done++
			if !equal(ends[0].keys, ends[1].keys) || !ends[0].same(ends[1]) {
				t.Fatal("equal h4, different transcripts or keys")
			}
		default:
			t.Fatalf("%d ends share one h4", len(ends))
		}
	}
	keysOf := map[[TrafficSize]byte]key.Hash{}
	for h4, ends := range byH4 {
		block := ends[0].keys.secret.Get().block
		if other, ok := keysOf[block]; ok && other != h4 {
			t.Fatal("equal keys, different transcripts")
		}
		keysOf[block] = h4
	}
	t.Logf("%d sessions, %d half-way", done, refused)
	if done < runs/50 || refused == 0 {
		t.Errorf("%d sessions were made and %d ended half-way: the attacker is too strong or too weak to tell", done, refused)
	}
}

// session plays one session and returns the ends that hold keys.
func (a *attacker) session(t *testing.T, operator key.Private[key.Operator], agents []key.Private[key.Agent]) (ends []transcript) {
	t.Helper()
	suites := [][]Suite{nil, {X25519}, {Hybrid}}[a.rand.IntN(3)]
	op, err := NewOperator(OperatorConfig{Identity: operator, Suites: suites, Session: [16]byte{byte(a.rand.IntN(3))}})
	if err != nil {
		t.Fatal(err)
	}
	m1, err := op.Open(key.Hash{byte(a.rand.IntN(3))})
	if err != nil {
		t.Fatal(err)
	}
	identity := agents[a.rand.IntN(len(agents))]
	got1 := a.deliver(1, m1)
	ag, m2, err := Accept(AgentConfig{Identity: identity, Operator: operator.Public()}, got1)
	if err != nil {
		return nil
	}
	got2 := a.deliver(2, m2)
	find := func(kid key.ID) (key.Public[key.Agent], error) {
		for _, k := range agents {
			if k.ID() == kid {
				return k.Public(), nil
			}
		}
		return key.Public[key.Agent]{}, errNobody
	}
	m3, acc, keys, err := op.Confirm(got2, find)
	if err != nil {
		return nil
	}
	ends = append(ends, transcript{m1, got2, m3, operator.ID(), acc.Agent, acc.Suite, keys})
	got3 := a.deliver(3, m3)
	if keys, err := ag.Confirm(got3); err == nil {
		ends = append(ends, transcript{got1, m2, got3, operator.ID(), identity.ID(), keys.Suite(), keys})
	}
	return ends
}

var errNobody = errors.New("nobody has this kid")

func FuzzParseOpen(f *testing.F) {
	for _, suite := range bothSuites {
		f.Add(newRun(f, suite).m1)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := ParseOpen(b); err == nil && !bytes.Equal(o.marshal(), b) {
			t.Errorf("%x has a second form %x", b, o.marshal())
		}
	})
}

func FuzzParseAccept(f *testing.F) {
	for _, suite := range bothSuites {
		f.Add(newRun(f, suite).accept(f).m2)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := parseAccept(b); err == nil && !bytes.Equal(append(a.marshalClear(), a.sealed...), b) {
			t.Errorf("%x has a second form", b)
		}
	})
}

// FuzzAgentConfirm: nothing but the one honest CONFIRM is taken.
func FuzzAgentConfirm(f *testing.F) {
	v := newVector(f)
	m3, _, _, err := v.op.Confirm(v.m2, v.find)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m3)
	f.Add(m3[:len(m3)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		if keys, err := v.agent.Confirm(b); (err == nil) != bytes.Equal(b, m3) || (keys != nil) != (err == nil) {
			t.Errorf("CONFIRM %x: %v", b, err)
		}
	})
}

// FuzzOperatorConfirm: nothing but the one honest ACCEPT is taken.
func FuzzOperatorConfirm(f *testing.F) {
	m2 := newVector(f).m2
	f.Add(m2)
	f.Add(append([]byte{acceptType, version, 0, 2}, make([]byte, AcceptHybridSize-4)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		v := newVector(t)
		if _, _, keys, err := v.op.Confirm(b, v.find); (err == nil) != bytes.Equal(b, m2) || (keys != nil) != (err == nil) {
			t.Errorf("ACCEPT %x: %v", b, err)
		}
	})
}
