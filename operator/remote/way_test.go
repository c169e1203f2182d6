package remote

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/operator/account"
)

func TestTrailTellsWhichWaysASessionTook(t *testing.T) {
	var tr trail
	begin := time.Now().Add(-time.Hour)
	at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	relay := session.PathState{Kind: "relay-udp", Name: "relay.example:3478"}
	direct := session.PathState{Kind: "direct", Name: "192.0.2.7:4242"}
	tr.note(session.PathState{}, at(0)) // nothing is known yet
	tr.note(relay, at(0))
	relay.RTT = time.Millisecond // is no other way
	tr.note(relay, at(0.1))
	tr.note(direct, at(0.3))
	tr.note(session.PathState{Lost: true}, at(60))
	tr.note(direct, at(72))
	got := tr.String()
	if want := "direct 192.0.2.7:4242; for 58m48s, before that relay-udp relay.example:3478 for 300ms, direct 192.0.2.7:4242 for 59.7s, no way for 12s"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for i := range 100 {
		tr.note(session.PathState{Kind: "direct", Name: fmt.Sprint("192.0.2.7:", i+1)}, at(80))
	}
	if got := tr.String(); !strings.HasSuffix(got, ", and 97 more") || len(tr.past) != maxSteps {
		t.Errorf("after a hundred changes: %d bytes, %s", len(got), got)
	}
}

func TestA14OperatorHearsOfForgedDatagrams(t *testing.T) {
	s := session.Stats{Stats: seal.Stats{Opened: 9, Replayed: 2, OpenFailed: 5}}
	if got, want := counted(s), "9 datagrams, 2 of them twice, and 5 that did not open; 0 packets sent, 0 of them lost"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	s.OpenFailed, s.Alarm = seal.FailedAlarm, true
	if got := counted(s); !strings.Contains(got, "1048576 that did not open") || !strings.Contains(got, "ALARM: somebody sends forged datagrams") {
		t.Errorf("says %q", got)
	}
}

func TestNamesOfRelaysAreEscaped(t *testing.T) {
	var tr trail
	tr.note(session.PathState{Kind: "relay-ws", Name: "\x1b[2Jrelay"}, time.Now())
	if strings.Contains(tr.String(), "\x1b") {
		t.Errorf("%q", tr.String())
	}
}

func TestNetworksAreRememberedAndBounded(t *testing.T) {
	home := account.Home{Dir: t.TempDir()}
	var m link.Memory = networksIn(home)
	if m.Load("home") != "" {
		t.Error("knows a network without a file")
	}
	m.Store("home", link.RelayTLS)
	for i := range 2 * link.MaxNetworks {
		m.Store(fmt.Sprint("cafe ", i), link.RelayTCP)
		m.Store("home", link.RelayTLS) // what is used stays
	}
	again := networksIn(home)
	if got := again.Load("home"); got != link.RelayTLS {
		t.Errorf("home by %q", got)
	}
	if got := again.Load(fmt.Sprint("cafe ", 2*link.MaxNetworks-1)); got != link.RelayTCP {
		t.Errorf("the newest by %q", got)
	}
	if n := len(again.readLocked()); n != link.MaxNetworks {
		t.Errorf("%d entries", n)
	}
}

func TestDamagedFileOfNetworksIsReplaced(t *testing.T) {
	home := account.Home{Dir: t.TempDir()}
	m := networksIn(home)
	for _, text := range []string{"", "{", `{"a":1}`, `[{"network":"home","kind":"pigeon"}]`, strings.Repeat("[", link.MaxNetworksFile+1)} {
		if err := os.WriteFile(home.Path(networksFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := m.Load("home"); got != "" {
			t.Errorf("%.20q says %q", text, got)
		}
		m.Store("home", link.RelayTCP)
		if got := m.Load("home"); got != link.RelayTCP {
			t.Errorf("after %.20q: %q", text, got)
		}
	}
}
