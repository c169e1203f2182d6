//go:build linux

package agent

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// hostile gives the supervisor a child that the test plays.
func hostile(t *testing.T) (*team, *Agent, *live, net.Conn) {
	t.Helper()
	k := newTeam(t, openPolicy)
	a := k.agent()
	q := k.askFor(a, "ann", nil)
	question, _, err := a.judge.Offer(t.Context(), q.offer, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, m2, err := a.begin(question)
	if err != nil {
		t.Fatal(err)
	}
	s.pair.Close() // the real child ends by itself
	_ = s.cmd.Wait()
	ours, theirs := net.Pipe()
	s.pair = pair.Supervisor(ours)
	s.cmd = exec.Command("/bin/true")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = theirs.Close() })
	_ = m2
	return k, a, s, theirs
}

func TestHostileSessionProcessOnlyEndsItself(t *testing.T) {
	t.Parallel()
	for name, says := range map[string][]byte{
		"report before its time": frameBytes(pair.FrameStarted, []byte(`{"pid":1}`)),
		"alarm before its time":  frameBytes(pair.FrameForged, []byte(`{"count":1}`)),
		"unknown type":           {99, 0, 0, 0, 0},
		"huge length":            {byte(pair.FrameConfirm), 0xff, 0xff, 0xff, 0xff},
		"supervisor's own frame": frameBytes(pair.FrameKeys, []byte("x")),
		"cut short":              {byte(pair.FrameConfirm), 0, 0, 0, 9, 1},
		"nothing":                {},
	} {
		t.Run(name, func(t *testing.T) {
			_, a, s, child := hostile(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.run()
			}()
			go func() {
				if _, _, err := pair.Worker(child).Receive(); err == nil { // the job
					go func() { _, _ = io.Copy(io.Discard, child) }()
					_, _ = child.Write(says)
				}
				_ = child.Close()
			}()
			select {
			case <-done:
			case <-time.After(patience):
				t.Fatal("the supervisor hangs")
			}
			if s.confirmed {
				t.Error("keys were released")
			}
			if a.sessions.count() != 0 {
				t.Error("a place is taken for ever")
			}
		})
	}
}

func TestA14AlarmIsLoggedAndShownWithinBounds(t *testing.T) {
	_, a, s, _ := hostile(t)
	defer s.handshake.Close()
	defer func() { _ = s.cmd.Wait() }()
	var said bytes.Buffer
	a.log = slog.New(slog.NewTextHandler(&said, nil))
	s.confirmed = true
	a.sessions.fill(s)
	forged := pair.Frame{Type: pair.FrameForged, Body: []byte(`{"count":1048576}`)}
	for range alarmsPerSession {
		if err := s.handle(forged, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.handle(forged, nil); refusal.Of(err) != refusal.ProtocolError {
		t.Errorf("one alarm too many: %v", err)
	}
	if n := strings.Count(said.String(), "count=1048576"); n != alarmsPerSession {
		t.Errorf("the log has %d lines:\n%s", n, said.String())
	}
	if w := strings.Join(a.status(time.Now()).Warnings, " "); !strings.Contains(w, "forged datagrams to 1 sessions") {
		t.Errorf("status warns of %q", w)
	}
}

// A session that ends by a fault of ours, which has no code that a peer hears, says in
// the agent's log what it was; one that ends as peers do says nothing more.
func TestH8ASessionThatIsCutLeavesItsReasonInTheLog(t *testing.T) {
	_, a, s, _ := hostile(t)
	defer s.handshake.Close()
	defer func() { _ = s.cmd.Wait() }()
	var said bytes.Buffer
	a.log = slog.New(slog.NewTextHandler(&said, nil))
	s.confirmed = true
	tooLong := s.pair.Send(pair.FrameAnswer, make([]byte, 1<<20+1))
	if tooLong == nil {
		t.Fatal("an answer above 1 MiB is sent")
	}
	s.report(refusal.New(refusal.Gone, "over"))
	s.report(nil)
	if strings.Contains(said.String(), "cut") {
		t.Errorf("the log has %s", said.String())
	}
	s.report(tooLong)
	if !strings.Contains(said.String(), "sending frame 6 of 1048577 bytes") {
		t.Errorf("the log has %s", said.String())
	}
}

func frameBytes(t pair.FrameType, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{byte(t)}, uint32(len(body))), body...)
}

func TestWrongConfirmsAreRejectedOneByOne(t *testing.T) {
	t.Parallel()
	_, _, s, child := hostile(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run()
	}()
	p := pair.Worker(child)
	typ, body, err := p.Receive()
	var j pair.Job
	if err != nil || typ != pair.FrameJob || json.Unmarshal(body, &j) != nil || j.Index != s.handshake.Index() || len(j.Argv) != 1 {
		t.Fatalf("job: %v, %v", typ, err)
	}
	for range 20 {
		if err := p.Send(pair.FrameConfirm, make([]byte, 120)); err != nil {
			t.Fatal(err)
		}
		if typ, _, err := p.Receive(); err != nil || typ != pair.FrameRejected {
			t.Fatalf("%v, %v", typ, err)
		}
	}
	s.end(refusal.KeyRevoked)
	typ, body, err = p.Receive()
	if err != nil || typ != pair.FrameEnd || string(body) != string(refusal.KeyRevoked) {
		t.Errorf("%v %q, %v", typ, body, err)
	}
	_ = child.Close()
	<-done
}

func TestChildsWordsAreNamesOnly(t *testing.T) {
	for in, want := range map[string]string{
		"expired": "expired", "": "", "two words": "protocol_error", "a\nb": "protocol_error", "UPPER": "protocol_error",
		strings.Repeat("a", 33): "protocol_error",
	} {
		if got := string(refusal.Plain(refusal.Code(in))); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
	if plainSignal("TERM") != "TERM" || plainSignal("\x1b[2J") != "UNKNOWN" || len(plainSignal(strings.Repeat("A", 99))) != 16 {
		t.Error("a signal's name that is none was taken")
	}
}

func TestBackoffGrowsAndStaysBounded(t *testing.T) {
	for n := range 100 {
		d := wait(n, nil)
		if d < backoffMin/2 || d > backoffMax {
			t.Errorf("attempt %d waits %v", n, d)
		}
	}
	if n := after(3, settled-1); n != 4 {
		t.Errorf("attempt %d after the third failed", n)
	}
	if n := after(3, settled); n != 0 {
		t.Errorf("attempt %d after a settled connection: want the first server again", n)
	}
	if wait(50, nil) < backoffMax/2 {
		t.Error("late attempts come too soon")
	}
	// What only a person can mend: the first attempts may have met one bad server of many.
	for _, code := range []refusal.Code{refusal.AuditFork, refusal.KeyRevoked} {
		err := refusal.New(code, "test")
		if d := wait(0, err); d > backoffMin {
			t.Errorf("%s: %v before the second attempt", code, d)
		}
		if d := wait(50, err); d < backoffLast/2 || d > backoffLast {
			t.Errorf("%s: %v before a late attempt", code, d)
		}
	}
}

func TestAheadFitsAFrame(t *testing.T) {
	t.Parallel()
	k := newTeam(t, openPolicy)
	a := k.agent()
	var news wire.RosterNews
	for range 100 {
		news.Updates = append(news.Updates, k.next(func(*roster.Roster) {}))
	}
	a.applyNews(news)
	tr, _ := a.keeper.Get()
	list := ahead(tr, 1)
	if raw := must(json.Marshal(wire.RosterWant{Version: 1, Ahead: list})); len(list) == 0 || len(raw) > wire.MaxFrame-1024 {
		t.Errorf("%d updates in %d bytes", len(list), len(raw))
	}
	if len(ahead(tr, tr.Roster.Version())) != 0 {
		t.Error("nothing is ahead of the same version")
	}
}

func TestDefaultDirIsPrivateToTheUser(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/somewhere")
	dir, err := DefaultDir()
	want := "/somewhere/tucdesk-agent"
	if os.Geteuid() == 0 {
		want = "/var/lib/tucdesk-agent"
	}
	if err != nil || dir != want {
		t.Errorf("%q, %v", dir, err)
	}
}
