package rendezvous

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
)

// TestD6RequestSmuggling sends heads that two parsers could read in two ways, and
// behind each a second request. It must be refused, the connection closed, and the
// second request must not have been read.
func TestD6RequestSmuggling(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	const second = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, tc := range map[string]struct {
		head   string
		status int
	}{
		"two lengths":             {"Content-Length: 0\r\nContent-Length: 36\r\n", 400},
		"two lengths in one":      {"Content-Length: 0, 36\r\n", 400},
		"one length twice in one": {"Content-Length: 5, 5\r\n", 400},
		"chunked and length":      {"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", 400},
		"length and chunked":      {"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", 400},
		"chunked alone":           {"Transfer-Encoding: chunked\r\n", 400},
		"strange encoding":        {"Transfer-Encoding: xchunked\r\n", 501},
		"two encodings":           {"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 501},
		"negative length":         {"Content-Length: -1\r\n", 400},
		"length with a sign":      {"Content-Length: +4\r\n", 400},
		"length in hexadecimal":   {"Content-Length: 0x4\r\n", 400},
		"empty length":            {"Content-Length: \r\n", 400},
		"space before colon":      {"Content-Length : 4\r\n", 400},
		"name with new line":      {"X\n-Y: 1\r\n", 400},
		"folded length":           {"Content-Length: 1\r\n 4\r\n", 400},
		"length folded away":      {"Content-Length:\r\n 4\r\nContent-Length: 5\r\n", 400},
		"folded encoding":         {"Transfer-Encoding:\r\n chunked\r\nContent-Length: 4\r\n", 400},
		"encoding after a tab":    {"Transfer-Encoding: x\r\n\tchunked\r\nContent-Length: 4\r\n", 501},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			statuses, closed := talk(t, n, "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+tc.head+"\r\n0\r\n\r\n"+second)
			if len(statuses) != 1 || statuses[0] != tc.status || !closed {
				t.Errorf("statuses %v, want %d alone; closed %v", statuses, tc.status, closed)
			}
		})
	}
}

// TestD6FoldedHeadersHaveOneReading: net/http joins a folded line to the one
// before with a space and says nothing of it (docs/decisions). No header that is
// read here may mean something with a space that it does not mean without.
func TestD6FoldedHeadersHaveOneReading(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	f := c.tokenCall(nil)
	body := string(f.body)
	proof := base64.RawURLEncoding.EncodeToString(must(statement.Sign(f.key, *f.proof)))
	head := []string{"Authorization: Bearer " + f.token, "Content-Type: application/json", "Content-Length: " + fmt.Sprint(len(body)), wire.ProofHeader + ": " + proof}
	call := func(lines []string) (int, bool) {
		statuses, closed := talk(t, c.node, "POST "+wire.PathTokens+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+strings.Join(lines, "\r\n")+"\r\n\r\n"+body)
		if len(statuses) != 1 {
			t.Fatalf("statuses %v", statuses)
		}
		return statuses[0], closed
	}
	for i, line := range head {
		for _, at := range []int{len(line) - 2, len(line) - 1, len(line)} {
			for _, fold := range []string{"\r\n ", "\r\n\t", "\n  "} {
				lines := append([]string(nil), head...)
				lines[i] = line[:at] + fold + line[at:]
				status, closed := call(lines)
				if i == 2 && at == len(line) && status == 200 {
					continue // a length with nothing behind it is that length
				}
				if status/100 != 4 || !closed {
					t.Errorf("%q folded at %d with %q: status %d, closed %v", line[:12], at, fold, status, closed)
				}
			}
		}
	}
	atSpace := append([]string(nil), head...) // a fold where a space belongs is that space, for every reader
	atSpace[0] = "Authorization:\r\n Bearer\r\n " + f.token
	if status, _ := call(atSpace); status != 200 && status != 409 {
		t.Errorf("folded where a space belongs: %d", status)
	}
	if status, _ := call([]string{" folded: 4", head[0], head[1], head[2], head[3]}); status/100 != 4 {
		t.Errorf("folded onto the line above: %d", status)
	}
}

// noHTTP2: what floods HTTP/2 has, resets, settings, pings, headers without
// end, meets a server that does not speak it, however it is asked.
func noHTTP2(t *testing.T) {
	n := startNode(t)
	conf := client.TLSConfig(n.keys.Pin)
	conf.NextProtos = []string{"h2"}
	if conn, err := tls.Dial("tcp", n.Addr().String(), conf); err == nil {
		conn.Close()
		t.Fatal("a connection that offers nothing but h2 was taken")
	}
	conf.NextProtos = []string{"h2", "http/1.1"}
	conn, err := tls.Dial("tcp", n.Addr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Fatalf("negotiated %q", got)
	}
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	settings := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}
	ping := append([]byte{0, 0, 8, 6, 0, 0, 0, 0, 0}, make([]byte, 8)...)
	reset := []byte{0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8}
	for name, frame := range map[string][]byte{"settings flood": settings, "ping flood": ping, "rapid reset": reset} {
		statuses, closed := talk(t, n, preface+strings.Repeat(string(frame), 5))
		if !closed || len(statuses) > 1 || len(statuses) == 1 && statuses[0]/100 != 4 && statuses[0] != 505 {
			t.Errorf("%s behind the preface: statuses %v, closed %v", name, statuses, closed)
		}
	}
	upgrade := "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
	if statuses, _ := talk(t, n, upgrade); len(statuses) != 1 || statuses[0] != 200 {
		t.Errorf("asked to change over: statuses %v, want HTTP/1.1's 200", statuses)
	}
	if err := newAPI(t, n).Health(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// slowBodiesKeepNobodyOut: strangers who announce a large body and send none
// take the few places of large ones; a team is set up beside them, and each of
// them is cut off.
func slowBodiesKeepNobodyOut(t *testing.T) {
	n := startNodeWith(t, nil, func(s *Server) {
		s.gate.Larges = rate.New[netip.Prefix](rate.Rate{Burst: rateLarge.Burst}) // it must not fill up while a slow machine tries
	})
	slow := func(length int) net.Conn {
		conn := raw(t, n)
		_, err := io.WriteString(conn, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", wire.PathSetup, length))
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	var slows []net.Conn
	for range 3 * gate.MaxLarge {
		slows = append(slows, slow(gate.LimitStranger+1), slow(gate.LimitStranger))
	}
	eventually(t, "one source has its share of the places", func() bool { return n.Snapshot()["refused_rate_limited"] > 0 })
	if taken := len(n.gate.Large); taken > int(rateLarge.Burst) {
		t.Errorf("one network holds %d of %d places", taken, gate.MaxLarge)
	}
	release := n.takeLarge(t) // some of them may have been cut off by now
	found(t, n)
	release()
	start := time.Now()
	var wg sync.WaitGroup
	for _, conn := range slows {
		wg.Go(func() {
			if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("a slow body: %v", err)
			}
		})
	}
	wg.Wait()
	if d := time.Since(start); d > (gate.StrangerWithin+requestWithin)/2 { // no other limit is below that
		t.Errorf("the last one was cut off after %v", d)
	}
	if len(n.gate.Large) != 0 {
		t.Errorf("%d places are still taken", len(n.gate.Large))
	}
}

// takeLarge takes every place for large bodies, those that come free as well, until
// release.
func (n *node) takeLarge(t *testing.T) (release func()) {
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		for taken := 0; ; taken++ {
			select {
			case n.gate.Large <- struct{}{}:
			case <-stop:
				done <- taken
				return
			}
		}
	}()
	release = sync.OnceFunc(func() {
		close(stop)
		for range <-done {
			<-n.gate.Large
		}
	})
	t.Cleanup(release)
	return release
}

// logged is a node whose log the test reads.
type written struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// A caller that hangs up while it waits is no fault of the server's.
func TestHangingUpIsNoError(t *testing.T) {
	t.Parallel()
	var log written
	n := startNodeWith(t, func(cfg *Config) {
		cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	c := found(t, n)
	h := c.newHost("db-1", "prod").accepting()
	open := gated(c, h)
	must(c.api.OpenSession(t.Context(), c.cred(policy.Operator), open))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.api.Request(ctx, c.cred(policy.Operator), open.Request.Hash(), 20*time.Second)
		done <- err
	}()
	eventually(t, "it waits", func() bool { return n.requests.WaitingForTest() > 0 })
	cancel()
	<-done
	eventually(t, "it is noticed", func() bool { return n.Snapshot()["gone"] == 1 })
	if text := log.String(); strings.Contains(text, "level=ERROR") || !strings.Contains(text, "a caller went away") {
		t.Errorf("the log says\n%s", text)
	}
}

// The deadline of a body is not one of what follows: net/http would end a call
// that waits, or an export that streams, with it.
func waitingCallsOutliveTheirBody(t *testing.T) {
	const within = 4 * time.Second // for a handshake and a call on a busy machine
	c := found(t, startNodeWith(t, nil, func(s *Server) { s.http.ReadTimeout = within }))
	h := c.newHost("db-1", "prod").accepting()
	open := gated(c, h)
	must(c.api.OpenSession(t.Context(), c.cred(policy.Operator), open))
	info, err := c.api.Request(t.Context(), c.cred(policy.Operator), open.Request.Hash(), within+time.Second)
	if err != nil || info.State != wire.RequestPending {
		t.Fatalf("%+v, %v", info, err)
	}
}

// Close takes the database away; whoever uses it has ended by then.
func TestSweepEndsBeforeTheDatabase(t *testing.T) {
	noLeaks(t)
	var log written
	n := startNodeWith(t, func(cfg *Config) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	found(t, n)
	if err := n.Close(); err != nil { // not by way of Run's context
		t.Fatal(err)
	}
	if err := n.sweepUntilClosed(); err != nil {
		t.Fatal(err)
	}
	if n.base.Err() == nil || strings.Contains(log.String(), "level=ERROR") || strings.Contains(log.String(), "level=WARN") {
		t.Errorf("the log says\n%s", log.String())
	}
}

// TestCloseWaitsForHandlers: closing a connection does not end the handler behind
// it. One that has decided something must still find the database.
func TestCloseWaitsForHandlers(t *testing.T) {
	noLeaks(t)
	entered, closed, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var after error
	n := startNodeWith(t, nil, func(s *Server) {
		s.grace = 10 * time.Millisecond
		s.gate.Routes = []gate.Route{{Method: "GET", Path: "/slow", Handle: func(c *gate.Call) (any, error) {
			defer close(left)
			close(entered)
			<-c.HTTP.Context().Done()
			select {
			case <-closed:
			case <-time.After(300 * time.Millisecond): // as long as its last query takes
			}
			after = s.store.Ping(context.WithoutCancel(c.HTTP.Context()))
			return nil, c.HTTP.Context().Err()
		}}}
	})
	conn := raw(t, n)
	_, _ = io.WriteString(conn, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	_ = n.Close()
	close(closed)
	<-left
	n.stop()
	if after != nil {
		t.Errorf("the database of a call under way: %v", after)
	}
	if _, err := n.hold(); refusal.Of(err) != refusal.Unavailable {
		t.Errorf("a call that comes after: %v", err)
	}
}
