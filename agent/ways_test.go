//go:build linux

package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// The next session begins with the way that the one before has found, also after the
// agent was started anew.
func TestWayToARelayIsKeptForTheNextSession(t *testing.T) {
	t.Parallel()
	k := newTeam(t, openPolicy)
	k.startRelay()
	dir := k.join()
	a := k.open(dir)
	if way := a.ways.last(); way != "" {
		t.Errorf("before the first session: %q", way)
	}
	if _, _, _, err := k.askFor(a, "ann", nil).exec(""); err != nil {
		t.Fatal(err)
	}
	until(t, "the way to be kept", func() bool { return a.ways.last() == string(link.RelayUDP) })
	stop(a)
	a = k.open(dir)
	defer stop(a)
	if way := a.ways.last(); way != string(link.RelayUDP) {
		t.Errorf("after a restart: %q", way)
	}
}

// What a session process says of ways is bounded and one of a few words.
func TestH8WaysThatSessionProcessesTellOf(t *testing.T) {
	a := newTeam(t, openPolicy).agent()
	s := &live{agent: a}
	for range maxWays {
		if err := s.reached([]byte(link.RelayTLS)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.reached([]byte(link.RelayTLS)); refusal.Of(err) != refusal.ProtocolError {
		t.Errorf("one more: %v", err)
	}
	if err := (&live{agent: a}).reached([]byte("../../pigeon")); refusal.Of(err) != refusal.ProtocolError {
		t.Errorf("no way: %v", err)
	}
	for _, text := range []string{"", "{", `[{"network":"x","kind":"pigeon"}]`, strings.Repeat("[", link.MaxNetworksFile+1)} {
		if err := os.WriteFile(filepath.Join(a.dir, waysFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if way := a.ways.last(); way != "" {
			t.Errorf("%q of a damaged file", way)
		}
		if err := a.ways.store(link.RelayTCP); err != nil || a.ways.last() != string(link.RelayTCP) {
			t.Errorf("a damaged file stays: %v", err)
		}
	}
}
