package seal

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

var start = time.Unix(1_800_000_000, 0)

// peers runs a real handshake and returns both ends of its session.
func peers(t testing.TB, suites ...handshake.Suite) (operator, agent *Session) {
	t.Helper()
	ok, ak := keys(t, suites...)
	return session(t, ok, Operator), session(t, ak, Agent)
}

func session(t testing.TB, k *handshake.Keys, side Side) *Session {
	t.Helper()
	s, err := New(k, side, start)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func keys(t testing.TB, suites ...handshake.Suite) (operator, agent *handshake.Keys) {
	t.Helper()
	if len(suites) == 0 {
		suites = []handshake.Suite{handshake.X25519}
	}
	opID, err := key.Generate[key.Operator]()
	if err != nil {
		t.Fatal(err)
	}
	agentID, err := key.Generate[key.Agent]()
	if err != nil {
		t.Fatal(err)
	}
	op, err := handshake.NewOperator(handshake.OperatorConfig{Identity: opID, Suites: suites})
	if err != nil {
		t.Fatal(err)
	}
	m1, err := op.Open(key.Hash{1})
	if err != nil {
		t.Fatal(err)
	}
	ag, m2, err := handshake.Accept(handshake.AgentConfig{Identity: agentID, Operator: opID.Public()}, m1)
	if err != nil {
		t.Fatal(err)
	}
	m3, _, ok, err := op.Confirm(m2, func(key.ID) (key.Public[key.Agent], error) { return agentID.Public(), nil })
	if err != nil {
		t.Fatal(err)
	}
	ak, err := ag.Confirm(m3)
	if err != nil {
		t.Fatal(err)
	}
	return ok, ak
}

func mustSeal(t testing.TB, s *Session, text string) []byte {
	t.Helper()
	d, err := s.Seal(nil, []byte(text), start)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustOpen(t testing.TB, s *Session, datagram []byte, want string) {
	t.Helper()
	got, _, err := s.Open(nil, datagram, start)
	if err != nil || string(got) != want {
		t.Fatalf("opening %x: %q, %v; want %q", datagram[:HeaderSize], got, err, want)
	}
}

func mustDrop(t testing.TB, s *Session, datagram []byte, now time.Time, code refusal.Code) {
	t.Helper()
	if got, _, err := s.Open(nil, datagram, now); refusal.Of(err) != code || got != nil {
		t.Fatalf("dropping a datagram of %d bytes: %q, %v; want %s", len(datagram), got, err, code)
	}
}

// TestWorkedVectorFirstDatagram is the last line of protocol 2.12; the traffic
// block in it is the one that the vector test of handshake arrives at.
func TestWorkedVectorFirstDatagram(t *testing.T) {
	export := "54444b31" + "0001" + "11111111" + "22222222" +
		"3128016261afef793fdeddcf6ba56bc179b1dbcd6f59eaf1ff69919faa0158da" +
		"5fa49e58f1a15dc70ade4bfe1b78fa393958d71a7b4f8c95145823c3a53a5c77" + "25b32d0a3719df557f36c3a3" +
		"a809f03d345fe88f8fd659c35af27cea7a4b1f3a58771949de66320d6ff5b410" + "6540df316727053ac71e5d66" +
		"6d12e33ec890f517e18e8a945d797748161d45f3cd12e2c858aee4e639469a8f" +
		"d2720b3215516d47d338a2cdc7cac52c706110068d9a7a5a7b320cfd39fc44cd"
	raw, err := hex.DecodeString(export)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[Side]*Session{}
	for _, side := range []Side{Operator, Agent} {
		k, err := handshake.ImportKeys(raw)
		if err != nil {
			t.Fatal(err)
		}
		ends[side] = session(t, k, side)
	}
	datagram := mustSeal(t, ends[Agent], "ping")
	const want = "d8000000111111110000000000000000a8635cefdab11d8efa37b70b387e718f375d8d00"
	if hex.EncodeToString(datagram) != want {
		t.Errorf("first agent datagram is %x, want %s", datagram, want)
	}
	mustOpen(t, ends[Operator], datagram, "ping")
}

func TestSealOpenBothWaysBothSuites(t *testing.T) {
	for _, suite := range []handshake.Suite{handshake.X25519, handshake.Hybrid} {
		op, ag := peers(t, suite)
		for i := range 3 {
			text := string(bytes.Repeat([]byte{'x'}, i*500))
			mustOpen(t, ag, mustSeal(t, op, text), text)
			mustOpen(t, op, mustSeal(t, ag, text), text)
		}
		if got := op.Stats(); got != (Stats{Opened: 3}) {
			t.Errorf("%v: stats %+v", suite, got)
		}
	}
}
