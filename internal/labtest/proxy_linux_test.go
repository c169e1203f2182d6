package labtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// TestOnlyTCP443 has a firewall that lets nothing out but TCP port 443.
func TestOnlyTCP443(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name              string
		operator, machine netlab.Firewall
	}{
		{"operator's", netlab.OnlyTCP443, netlab.Anything},
		{"machine's", netlab.Anything, netlab.OnlyTCP443},
		{"both", netlab.OnlyTCP443, netlab.OnlyTCP443},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 0)
			w.place(w.inet, w.inet)
			w.laptop.Allow(c.operator)
			w.machine.Allow(c.machine)
			s := w.open(talking)
			s.goesOn(gapMost)
			way := s.finish()
			t.Logf("prompt after %v by %s", s.opened().Sub(s.begun).Round(time.Millisecond), way)
			if c.name != "machine's" && !strings.HasPrefix(way, "relay-tls ") && !strings.HasPrefix(way, "relay-ws ") {
				t.Errorf("the client says %q, want TLS or WebSocket", way)
			}
		})
	}
}

// TestThroughAProxyAlone lets an end reach nothing but an HTTP proxy.
func TestThroughAProxyAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		behind func(w *world) *netlab.Host
	}{
		{"operator", func(w *world) *netlab.Host { return w.laptop }},
		{"machine", func(w *world) *netlab.Host { return w.machine }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 0)
			p := w.newProxy()
			w.env = []string{"HTTPS_PROXY=http://" + p.addr()}
			w.place(w.inet, w.inet)
			c.behind(w).Allow(p.alone())
			before := p.tunnels()
			s := w.open(talking)
			s.goesOn(gapMost)
			way := s.finish()
			t.Logf("prompt after %v by %s, %d tunnels", s.opened().Sub(s.begun).Round(time.Millisecond), way, p.tunnels())
			if p.tunnels() == before {
				t.Error("nobody asked the proxy")
			}
		})
	}
}

// proxy is an HTTP proxy that knows CONNECT, on a host of its own.
type proxy struct {
	t    testing.TB
	host *netlab.Host
	l    net.Listener

	mu    sync.Mutex
	open  map[net.Conn]bool // guarded by mu; nil when the proxy has ended
	count int               // guarded by mu: tunnels made
	wg    sync.WaitGroup
}

func (w *world) newProxy() *proxy {
	w.t.Helper()
	p := &proxy{t: w.t, host: w.inet.Host("proxy"), open: map[net.Conn]bool{}}
	err := p.host.Do(func() (err error) {
		p.l, err = net.Listen("tcp", net.JoinHostPort(p.host.IPv4().String(), "3128"))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	p.wg.Go(p.serve)
	w.t.Cleanup(func() {
		_ = p.l.Close()
		p.mu.Lock()
		for c := range p.open {
			_ = c.Close()
		}
		p.open = nil
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) tunnels() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// alone is a firewall that lets nothing pass but TCP to the proxy.
func (p *proxy) alone() netlab.Firewall {
	at := p.host.IPv4()
	return func(up bool, q netlab.Packet) bool {
		far := q.Src
		if up {
			far = q.Dst
		}
		return q.Proto == netlab.TCP && far.Addr() == at
	}
}

func (p *proxy) serve() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		if p.keep(c) {
			p.wg.Go(func() { p.tunnel(c) })
		}
	}
}

// keep remembers a connection, or closes it when the proxy has ended.
func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		_ = c.Close()
		return false
	}
	p.open[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
	_ = c.Close()
}

func (p *proxy) tunnel(c net.Conn) {
	defer p.drop(c)
	r := bufio.NewReader(c)
	q, err := http.ReadRequest(r)
	if err != nil || q.Method != http.MethodConnect {
		fmt.Fprint(c, "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
		return
	}
	var far net.Conn
	if err := p.host.Do(func() (err error) {
		far, err = net.DialTimeout("tcp4", q.Host, patience)
		return err
	}); err != nil {
		fmt.Fprint(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	if !p.keep(far) {
		return
	}
	defer p.drop(far)
	p.mu.Lock()
	p.count++
	p.mu.Unlock()
	fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan struct{})
	go func() { _, _ = io.Copy(far, r); _ = far.(*net.TCPConn).CloseWrite(); close(done) }()
	_, _ = io.Copy(c, far)
	_ = c.Close()
	<-done
}
