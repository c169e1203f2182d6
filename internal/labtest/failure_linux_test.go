package labtest

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// TestRelayKilledInTheMiddle ends the relay that a transfer goes by as a crash
// does, where there is no direct path and a second relay is alive.
func TestRelayKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	a, b := w.nats(netlab.Symmetric, netlab.Symmetric)
	w.place(a.Network, b.Network)
	s := w.open(copying)
	s.goesOn(gapMost)
	pass(2 * time.Second) // both relays are allocated on by now
	victim := w.busiest(s)
	s.pause()
	victim.proc.kill()
	s.goesOn(gapMost)
	pass(time.Second)
	t.Logf("longest pause %v", s.pause().Round(time.Millisecond))
	s.finish()
}

// busiest is the relay that carries the stream.
func (w *world) busiest(s *stream) *relayHost {
	w.t.Helper()
	before := make([]uint64, len(w.relays))
	for i, r := range w.relays {
		before[i] = carried(r.Link)
	}
	pass(seeWithin)
	best := 0
	eventually(w.t, "a relay carries the transfer", func() bool {
		most := uint64(0)
		for i, r := range w.relays {
			if n := carried(r.Link) - before[i]; n > most {
				best, most = i, n
			}
		}
		return most >= seeBytes
	})
	return w.relays[best]
}

var (
	movesFor   = flag.Duration("moves.for", 10*time.Second, "how long TestOperatorMovesAllTheTime moves")
	movesEvery = flag.Duration("moves.every", 2*time.Second, "how often")
)

// TestOperatorMovesAllTheTime gives the operator's machine another address again and
// again, and at last another network, while somebody types and copies.
func TestOperatorMovesAllTheTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		machine netlab.Behaviour
	}{
		{"direct", netlab.PortRestricted},
		{"relayed", netlab.Symmetric},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2)
			a, b := w.nats(c.machine, c.machine)
			w.place(a.Network, b.Network)
			cafe := w.inet.NAT(c.machine)
			typist, copyist := w.open(typing), w.open(copying)
			for range *movesFor / *movesEvery {
				w.laptop.Renumber()
				pass(*movesEvery)
			}
			w.laptop.Move(cafe.Network)
			for what, s := range map[string]*stream{"typing": typist, "copying": copyist} {
				s.goesOn(patience)
				t.Logf("%s: longest pause %v", what, s.pause().Round(time.Millisecond))
				s.finish()
			}
		})
	}
}

// stoppedFor is how long everybody sleeps; goesOnWithin what they may take to go
// on, with room for a machine that does other things: who took the pause for a round
// trip would wait for longer than it was.
const (
	stoppedFor   = 20 * time.Second
	goesOnWithin = stoppedFor / 2
)

// TestEverybodySleeps stops the operator's client, the agent, its session's
// process and the server with its relay, as closed lids do, and lets them go on.
// What was under way is then answered after the whole pause, and must not be taken
// for a round trip.
func TestEverybodySleeps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		nat  netlab.Behaviour
	}{{"direct", netlab.PortRestricted}, {"relayed", netlab.Symmetric}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 0)
			a, b := w.nats(c.nat, c.nat)
			w.place(a.Network, b.Network)
			s := w.open(talking)
			if c.name == "direct" {
				s.untilDirect(patience)
			}
			s.goesOn(gapMost)
			everybody := []*netlab.Host{w.laptop, w.machine, w.hub}
			stopped := 0
			for _, h := range everybody {
				stopped += h.Suspend()
			}
			if stopped < 5 { // operator, agent, session, cat, server
				t.Errorf("only %d processes were stopped", stopped)
			}
			pass(stoppedFor)
			for _, h := range everybody {
				h.Resume()
			}
			t.Logf("goes on after %v", s.goesOn(goesOnWithin).Round(time.Millisecond))
			s.finish()
		})
	}
}

// family is a process with all that descend from it.
func family(t testing.TB, pid int) []int {
	t.Helper()
	all := []int{pid}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if err != nil {
			continue // it has ended
		}
		for _, child := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(child); err == nil && !slices.Contains(all, n) {
				all = append(all, family(t, n)...)
			}
		}
	}
	return all
}

// TestServerRestart kills the server, with the relay in it, and starts it again.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		nat  netlab.Behaviour
	}{{"direct", netlab.PortRestricted}, {"relayed", netlab.Symmetric}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 0)
			a, b := w.nats(c.nat, c.nat)
			w.place(a.Network, b.Network)
			s := w.open(talking)
			if c.name == "direct" {
				s.untilDirect(patience)
			}
			s.pause()
			w.server.kill()
			if c.name == "direct" {
				s.goesOn(gapMost) // it needs nobody
			}
			pass(2 * time.Second)
			w.startServer()
			t.Logf("goes on %v after the server is back; longest pause %v", s.goesOn(patience).Round(time.Millisecond), s.pause().Round(time.Millisecond))
			w.agent.saysAgain("msg=connected", 2)
			w.open(talking).finish()
			s.finish()
		})
	}
}
