package portmap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// keep runs until stop is called; at is what was told last.
func keep(t *testing.T, cfg Config) (at func() netip.AddrPort, again chan struct{}, stop func()) {
	t.Helper()
	var told atomic.Pointer[netip.AddrPort]
	told.Store(&netip.AddrPort{})
	cfg.Changed = func(a netip.AddrPort) { told.Store(&a) }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	again = make(chan struct{}, 1)
	go func() { defer close(done); Run(ctx, cfg, again) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return func() netip.AddrPort { return *told.Load() }, again, stop
}

// awaitMapping waits for the first one. A router that a busy machine has not heard in time
// is asked again at once, not in minutes.
func awaitMapping(t *testing.T, at func() netip.AddrPort, again chan struct{}) {
	t.Helper()
	failed := time.Now().Add(searchLimit + time.Second)
	until(t, "a mapping", func() bool {
		if time.Now().After(failed) && !at().IsValid() {
			failed = time.Now().Add(searchLimit + time.Second)
			select {
			case again <- struct{}{}:
			default:
			}
		}
		return at().IsValid()
	})
	select {
	case <-again: // a question too many
	default:
	}
}

func TestMappingByNATPMPIsGivenBack(t *testing.T) {
	t.Parallel()
	r := newRouter(t)
	r.udp(5351, r.pmp)
	at, again, stop := keep(t, Config{Port: 40000, Gateway: r.gateway})
	awaitMapping(t, at, again)
	if at() != netip.AddrPortFrom(outer, 40001) || r.mapped(40000) != 40001 {
		t.Errorf("told %v, the router has %v", at(), r.mapped(40000))
	}
	again <- struct{}{} // the network has changed; the port that we have is wished for
	until(t, "a renewal", func() bool { return at() == netip.AddrPortFrom(outer, 40002) })
	stop()
	if r.mapped(40000) != 0 {
		t.Error("the mapping was not given back")
	}
}

func TestMappingByUPnPIsGivenBack(t *testing.T) {
	t.Parallel()
	r := newRouter(t)
	r.upnp(func(control string) string { return fmt.Sprintf(device, "", control) })
	at, again, stop := keep(t, Config{Port: 40000, Gateway: r.gateway})
	awaitMapping(t, at, again)
	if got := at(); got.Addr() != outer || got.Port() == 40000 || r.mapped(40000) != got.Port() {
		t.Errorf("told %v, the router has %v", got, r.mapped(40000))
	}
	stop()
	if r.mapped(40000) != 0 {
		t.Error("the mapping was not given back")
	}
}

// keeping is a keeper for a router, and what it tells.
func keeping(r *router) (k *keeper, told *[]netip.AddrPort) {
	told = new([]netip.AddrPort)
	return &keeper{cfg: Config{
		Port: 40000, Gateway: r.gateway, Logger: slog.New(slog.DiscardHandler),
		Changed: func(a netip.AddrPort) { *told = append(*told, a) },
	}}, told
}

// TestRouterThatDropsOneRenewal has not taken back what it agreed to: the address
// stays, until its time is over, and the router is asked again soon.
func TestRouterThatDropsOneRenewal(t *testing.T) {
	t.Parallel()
	r := newRouter(t)
	r.udp(5351, r.pmp)
	k, told := keeping(r)
	if wait := k.renew(t.Context()); wait != lease/2 || len(*told) != 1 {
		t.Fatalf("again after %v, told %v", wait, *told)
	}
	r.set(true, false)
	if wait := k.renew(t.Context()); wait > askSoon || len(*told) != 1 || r.missed() == 0 {
		t.Errorf("again after %v, told %v", wait, *told)
	}
	r.set(false, false)
	if wait := k.renew(t.Context()); wait != lease/2 || len(*told) != 2 || !(*told)[1].IsValid() {
		t.Errorf("again after %v, told %v", wait, *told)
	}
	r.set(true, false)
	k.end = time.Now()
	if wait := k.renew(t.Context()); wait != askAgain || len(*told) != 3 || (*told)[2].IsValid() {
		t.Errorf("again after %v, told %v", wait, *told)
	}
}

// TestAnotherRouterHasAgreedToNothing: what the last one forwards is no address
// of ours any more, although the new one does not answer.
func TestAnotherRouterHasAgreedToNothing(t *testing.T) {
	t.Parallel()
	r, other := newRouter(t), newRouter(t)
	r.udp(5351, r.pmp)
	k, told := keeping(r)
	k.renew(t.Context())
	k.cfg.Gateway = func() (Gateway, error) { return Gateway{}, errors.New("no route for a moment") }
	if wait := k.renew(t.Context()); wait > askSoon || len(*told) != 1 {
		t.Errorf("again after %v, told %v", wait, *told)
	}
	k.cfg.Gateway = other.gateway
	if wait := k.renew(t.Context()); wait != askAgain || len(*told) != 2 || (*told)[1].IsValid() {
		t.Errorf("again after %v, told %v", wait, *told)
	}
}

// TestSessionThatEndsDuringARenewalGivesTheMappingBack, which stands all the while.
func TestSessionThatEndsDuringARenewalGivesTheMappingBack(t *testing.T) {
	t.Parallel()
	r := newRouter(t)
	r.udp(5351, r.pmp)
	at, again, stop := keep(t, Config{Port: 40000, Gateway: r.gateway})
	awaitMapping(t, at, again)
	r.set(true, false)
	again <- struct{}{}
	until(t, "a renewal", func() bool { return r.missed() > 0 })
	stop()
	if r.mapped(40000) != 0 {
		t.Error("the mapping was not given back")
	}
}

// TestMappingWhoseAnswerNeverComesIsTakenBack, by UPnP when the session ends in
// the meantime, by NAT-PMP when the time is over.
func TestMappingWhoseAnswerNeverComesIsTakenBack(t *testing.T) {
	t.Parallel()
	r := newRouter(t)
	r.upnp(func(control string) string { return fmt.Sprintf(device, "", control) })
	r.set(false, true)
	_, _, stop := keep(t, Config{Port: 40000, Gateway: r.gateway})
	until(t, "a mapping", func() bool { return r.mapped(40000) != 0 })
	stop()
	if r.mapped(40000) != 0 {
		t.Error("the mapping by UPnP stands")
	}
	r = newRouter(t)
	r.udp(5351, r.pmp)
	r.set(false, true)
	g, _ := r.gateway()
	if m, err := natPMP(t.Context(), g, 40000, 0); err == nil || r.mapped(40000) != 0 {
		t.Errorf("the mapping by NAT-PMP stands: %v, %v", m.external, err)
	}
}

// TestMappingOfAnotherMachineIsNotTakenBack: many routers would.
func TestMappingOfAnotherMachineIsNotTakenBack(t *testing.T) {
	t.Parallel()
	r := newRouter(t)
	r.upnp(func(control string) string { return fmt.Sprintf(device, "", control) })
	g, _ := r.gateway()
	at, err := search(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	root, err := describe(t.Context(), boundedClient(g.Addr), at)
	if err != nil {
		t.Fatal(err)
	}
	undo(t.Context(), forwarders(root, at, boundedClient(g.Addr))[0], g, 40000, 40000) // the router complains
}

// TestRouterSendsUsToAnother: neither its description nor its services may be at
// another host's.
func TestRouterSendsUsToAnother(t *testing.T) {
	t.Parallel()
	victim, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer victim.Close()
	called := make(chan struct{})
	go func() {
		if c, err := victim.Accept(); err == nil {
			c.Close()
			close(called)
		}
	}()
	elsewhere := "http://" + victim.Addr().String()
	for name, page := range map[string]func(string) string{
		"control": func(string) string { return fmt.Sprintf(device, "", elsewhere+"/control") },
		"base": func(c string) string {
			return fmt.Sprintf(device, "<URLBase>"+elsewhere+"</URLBase>", c)
		},
	} {
		r := newRouter(t)
		r.upnp(page)
		g, _ := r.gateway()
		if m, err := uPnP(t.Context(), g, 40000, 0); err == nil {
			t.Errorf("%s: %v", name, m.external)
		}
	}
	select {
	case <-called:
		t.Error("somebody else was called")
	default:
	}
	g := netip.MustParseAddr("192.0.2.1")
	for _, at := range []string{elsewhere, "https://192.0.2.1/", "http://a@192.0.2.1/", "file:///etc/passwd", "http://192.0.2.11/", "", "http://[::ffff:192.0.2.1]/", ":"} {
		if u := location(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nLocation: %s\r\n\r\n", at), g); u != nil {
			t.Errorf("%q is the router's", at)
		}
	}
	if u := location([]byte("HTTP/1.1 200 OK\r\nLocation: http://192.0.2.1:80/x\r\n\r\n"), g); u == nil {
		t.Error("the router's own is not")
	}
}

// TestRouterThatNeverStopsTalking: an answer without end.
func TestRouterThatNeverStopsTalking(t *testing.T) {
	t.Parallel()
	r := newRouter(t)
	r.upnp(func(string) string { return "<root>" + strings.Repeat("<device>", maxBody) })
	g, _ := r.gateway()
	if _, err := uPnP(t.Context(), g, 40000, 0); err == nil {
		t.Error("it was believed")
	}
}

func TestRouterThatRedirectsIsNotFollowed(t *testing.T) {
	client := boundedClient(netip.MustParseAddr("127.0.0.1"))
	if err := client.CheckRedirect(nil, nil); !errors.Is(err, http.ErrUseLastResponse) {
		t.Errorf("got %v", err)
	}
}

// TestAnswersNobodyCanUse: what a router says must be an address that others can
// send to.
func TestAnswersNobodyCanUse(t *testing.T) {
	for _, text := range []string{"0.0.0.0:1", "127.0.0.1:1", "224.0.0.1:1", "169.254.169.254:80", "203.0.113.9:0", "[2001:db8::1]:1"} {
		if (mapping{external: netip.MustParseAddrPort(text)}).check() == nil {
			t.Errorf("%s is taken", text)
		}
	}
	if err := (mapping{external: netip.MustParseAddrPort("203.0.113.9:1")}).check(); err != nil {
		t.Error(err)
	}
	private, public := netip.MustParseAddr("192.168.1.7"), netip.MustParseAddr("203.0.113.9")
	for _, g := range []Gateway{{}, {Addr: private}, {Addr: private, Source: public}, {Addr: netip.MustParseAddr("fe80::1"), Source: private}} {
		if g.check() == nil {
			t.Errorf("%v is asked", g)
		}
	}
}

// TestNobodyThere costs no more than a try.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	r := newRouter(t)
	at, _, stop := keep(t, Config{Port: 40000, Gateway: r.gateway})
	began := time.Now()
	stop()
	if d := time.Since(began); d > 10*time.Second || at().IsValid() {
		t.Errorf("%v, %v", d, at())
	}
}

// TestShortLeaseDoesNotMakeUsSpin: a router may grant a second.
func TestShortLeaseDoesNotMakeUsSpin(t *testing.T) {
	t.Parallel()
	r := newRouter(t)
	r.life = 1
	r.udp(5351, r.pmp)
	k, _ := keeping(r)
	if wait := k.renew(t.Context()); wait < leaseLeast/2 {
		t.Errorf("again after %v", wait)
	}
}

func FuzzDescription(f *testing.F) {
	f.Add(fmt.Sprintf(device, "", "/control"))
	f.Add(fmt.Sprintf(device, "<URLBase>http://[::1</URLBase>", "http://%zz"))
	at, _ := url.Parse("http://192.0.2.1/root.xml")
	f.Fuzz(func(t *testing.T, text string) {
		root, err := parseDescription(strings.NewReader(text), at)
		if err != nil {
			return
		}
		forwarders(root, at, boundedClient(netip.MustParseAddr("192.0.2.1")))
	})
}

func FuzzSearchReply(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nLocation: http://192.0.2.1:80/x\r\n\r\n"))
	g := netip.MustParseAddr("192.0.2.1")
	f.Fuzz(func(t *testing.T, reply []byte) {
		if at := location(bytes.Clone(reply), g); at != nil && at.Hostname() != g.String() {
			t.Errorf("%q", at)
		}
	})
}
