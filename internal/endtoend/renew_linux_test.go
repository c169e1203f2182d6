package endtoend

import (
	"bufio"
	"context"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/conf"
	"github.com/tucdesk/tucdesk/relay"
	"github.com/tucdesk/tucdesk/rendezvous"
)

// inside is the world's server, restarted in the test's own process: no
// configuration lets credentials live for seconds only.
type inside struct {
	relay     *relay.Server
	endServer func() // ends the rendezvous alone, and waits
}

func (w *world) serveInside(life time.Duration, transport string) *inside {
	w.t.Helper()
	w.server.stop()
	cfg := rendezvous.Config{State: w.path("server")}
	if err := conf.Decode(must(os.ReadFile(w.path("server.toml"))), &cfg, rendezvous.MaxConfig); err != nil {
		w.t.Fatal(err)
	}
	cfg.Relay.LifetimeForTest = life
	cfg.Endpoints = []rendezvous.External{{UDP: w.relay}}
	if transport == "tcp" {
		cfg.Endpoints = []rendezvous.External{{TCP: w.relay}}
	}
	at := netip.MustParseAddrPort(w.relay)
	s := &inside{relay: must(relay.Start(w.t.Context(), relay.Config{UDP: at, TCP: at, Secret: must(cfg.OpenRelaySecret())}))}
	w.serve(s.relay.Run)
	s.endServer = w.serve(must(rendezvous.Open(w.t.Context(), cfg)).Run)
	return s
}

// serve runs something until end is called or the test ends.
func (w *world) serve(run func(context.Context) error) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("serving: %v", err)
		}
	})
	w.t.Cleanup(end)
	return end
}

// TestSessionOutlivesItsRelayCredential: credentials live for six seconds; a session of
// fourteen gives every line back, none of them as late as if it had waited for a new
// place at the relay. When nobody renews any more the person is told, once, and not on
// standard output.
func TestSessionOutlivesItsRelayCredential(t *testing.T) {
	const life, length, latest = 6 * time.Second, 14 * time.Second, 6 * time.Second
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			m := w.agent("web-1", "web")
			s := w.serveInside(life, transport)
			m.online()

			cmd := w.ann.cmd("exec", "-v", "web-1", "--", "cat")
			to := must(cmd.StdinPipe())
			from, out := io.Pipe()
			cmd.Stdout = out
			p := launch(t, cmd)
			lines := bufio.NewScanner(from)
			longest, n := time.Duration(0), 0
			pace := time.NewTicker(5 * time.Millisecond) // as fast as it goes would starve the other tests
			defer pace.Stop()
			began := time.Now()
			for ; time.Since(began) < length; n++ {
				<-pace.C
				sent := time.Now()
				must(to.Write([]byte(strconv.Itoa(n) + "\n")))
				if !lines.Scan() || lines.Text() != strconv.Itoa(n) {
					t.Fatalf("line %d came back as %q after %v", n, lines.Text(), time.Since(began))
				}
				if n == 0 { // it has waited for the session
					began = time.Now()
					continue
				}
				longest = max(longest, time.Since(sent))
			}
			if longest > latest {
				t.Errorf("a line took %v", longest)
			}
			if renewed := s.relay.Snapshot().Events["refreshed"]; renewed < 2*2 {
				t.Errorf("%d renewals at the relay", renewed)
			}
			s.endServer()
			p.says("cannot be prolonged and ends in", 1)
			m.proc.says("the relay credential of a session cannot be renewed", 1)
			if c := strings.Count(p.err.String(), "cannot be prolonged"); c != 1 {
				t.Errorf("said %d times:\n%s", c, p.err.String())
			}
			t.Logf("%d lines, the slowest took %v", n, longest)
			go func() {
				p.kill()
				_ = out.Close()
			}()
			if lines.Scan() {
				t.Errorf("%q on standard output", lines.Text())
			}
		})
	}
}
