package netlab

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pair is two hosts on one network, with a socket on each.
func pair(t *testing.T) (a, b *Host, ca, cb *net.UDPConn) {
	t.Helper()
	inet := New(t).Internet()
	a, b = inet.Host("a"), inet.Host("b")
	return a, b, socket(t, a), socket(t, b)
}

// sigma5 is how far a count of n trials of probability p may stray: five standard
// deviations of the binomial distribution, once in 1.7 million runs.
func sigma5(n int, p float64) float64 { return 5 * math.Sqrt(float64(n)*p*(1-p)) }

func TestDelayIsExact(t *testing.T) {
	a, _, ca, cb := pair(t)
	a.SetUp(WAN{Delay: 20 * time.Millisecond})
	a.SetDown(WAN{Delay: 10 * time.Millisecond})
	var up, down []time.Duration
	onceOf(t, 10, func() string {
		up, down = nil, nil
		for range 30 {
			start := time.Now()
			send(t, ca, own(cb), "there")
			expect(t, cb, "there")
			middle := time.Now()
			send(t, cb, own(ca), "back")
			expect(t, ca, "back")
			up, down = append(up, middle.Sub(start)), append(down, time.Since(middle))
		}
		return within(t, "up", up, 20*time.Millisecond, 1500*time.Microsecond) + within(t, "down", down, 10*time.Millisecond, 1500*time.Microsecond)
	})
}

// onceOf measures so many times at most, until nothing is wrong: a busy machine is late
// at times, even with most of what it measures, and a link that is wrong is so each time.
func onceOf(t *testing.T, times int, wrong func() string) {
	t.Helper()
	var all []string
	for range times {
		text := wrong()
		if text == "" {
			return
		}
		all = append(all, text)
	}
	t.Errorf("wrong each time: %s", strings.Join(all, "; "))
}

// within says what is wrong unless a quarter is at most slack slower than least. Faster
// than that nothing may ever be.
func within(t *testing.T, what string, list []time.Duration, least, slack time.Duration) (wrong string) {
	t.Helper()
	slices.Sort(list)
	if list[0] < least {
		t.Fatalf("%s: %v, want %v at least", what, list[0], least)
	}
	if quarter := list[len(list)/4]; quarter > least+slack {
		return fmt.Sprintf("%s: of a quarter %v, want %v and at most %v more", what, quarter, least, slack)
	}
	return ""
}

// burst sends n datagrams of size bytes of IP, waiting whenever a link has taken
// nothing for a while, so that no socket overflows.
func burst(t *testing.T, link *Link, c *net.UDPConn, to netip.AddrPort, n, size int) {
	t.Helper()
	before, _ := link.Count()
	b := make([]byte, size-28)
	for i := range n {
		if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
			t.Fatal(err)
		}
		if i%100 == 99 || i == n-1 {
			eventually(t, "the link takes them", func() bool { now, _ := link.Count(); return now.Packets-before.Packets > uint64(i) })
		}
	}
}

// drained counts what has arrived once nothing is on its way.
func drained(t *testing.T, c *net.UDPConn, want uint64) (n uint64) {
	t.Helper()
	for range want {
		heard(t, c)
		n++
	}
	_ = c.SetReadDeadline(time.Now())
	if _, _, err := c.ReadFromUDP(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("more than %d datagrams arrived: %v", want, err)
	}
	return n
}

func TestLossIsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	const rounds, n, p = 50, 200, 0.1
	a, b, ca, cb := pair(t)
	a.SetUp(WAN{Loss: p})
	var lost uint64
	for range rounds {
		burst(t, a.Link, ca, own(cb), n, 100)
		up, _ := a.Count()
		drained(t, cb, n-(up.Lost-lost))
		lost = up.Lost
	}
	if got, want := float64(lost), rounds*n*p; math.Abs(got-want) > sigma5(rounds*n, p) {
		t.Errorf("lost %.0f of %d, want %.0f within %.0f", got, rounds*n, want, sigma5(rounds*n, p))
	}
	if _, down := b.Count(); down.Packets != rounds*n-lost {
		t.Errorf("the receiver's link counted %d, want %d", down.Packets, rounds*n-lost)
	}
}

func TestRateIsWhatWasAskedFor(t *testing.T) {
	const n, size, rate = 1000, 1400, 50e6
	const want = time.Duration((n - 1) * size * 8 * int64(time.Second) / rate)
	a, _, ca, cb := pair(t)
	a.SetUp(WAN{Rate: rate, Queue: n * size, Delay: 10 * time.Millisecond})
	onceOf(t, 20, func() string {
		if got := timed(t, ca, cb, n, size); (got - want).Abs() > want/33 {
			return fmt.Sprintf("%d packets took %v, want %v within 3%%", n, got, want)
		}
		return ""
	})
}

// timed is how long n datagrams of size bytes of IP arrive for that are sent at once.
func timed(t *testing.T, from, to *net.UDPConn, n, size int) time.Duration {
	t.Helper()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range n {
			_, _ = from.WriteToUDPAddrPort(make([]byte, size-28), own(to))
		}
	}()
	heard(t, to)
	start := time.Now()
	for range n - 1 {
		heard(t, to)
	}
	took := time.Since(start)
	<-sent
	return took
}

func TestQueueDropsWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	const n, size = 100, 1000
	a, _, ca, cb := pair(t)
	a.SetUp(WAN{Rate: 80, Queue: 10 * size}) // one packet in a hundred seconds: nothing leaves during the burst
	burst(t, a.Link, ca, own(cb), n, size)
	if up, _ := a.Count(); up.Overflowed != n-11 {
		t.Errorf("%d found no room, want %d: ten wait, one is being sent", up.Overflowed, n-11)
	}
}

func TestJitterIsEvenAndKeepsOrder(t *testing.T) {
	const n, jitter = 100, 20 * time.Millisecond
	a, _, ca, cb := pair(t)
	a.SetUp(WAN{Delay: 5 * time.Millisecond, Jitter: jitter})
	onceOf(t, 10, func() string {
		var list []time.Duration
		for i := range n { // one at a time: each shows its own delay
			start := time.Now()
			send(t, ca, own(cb), string(rune('a'+i%26)))
			expect(t, cb, string(rune('a'+i%26)))
			list = append(list, time.Since(start))
		}
		// Even distribution, of which a busy machine moves the upper part only.
		slices.Sort(list)
		least, quarter, most := list[0], list[len(list)/4], list[len(list)-1]
		if least < 5*time.Millisecond || quarter < 5*time.Millisecond+jitter/8 || most < 5*time.Millisecond+jitter*3/4 {
			t.Fatalf("delays from %v, a quarter up to %v, all up to %v", least, quarter, most)
		}
		if quarter > 5*time.Millisecond+jitter/2 {
			return fmt.Sprintf("a quarter of the delays up to %v", quarter)
		}
		return ""
	})
	if swapped := overtakes(t, ca, cb); swapped {
		t.Error("packets overtook each other")
	}
	a.SetUp(WAN{Jitter: jitter, Reorder: true})
	if swapped := overtakes(t, ca, cb); !swapped {
		t.Error("no packet of a hundred overtook another")
	}
}

// overtakes sends a hundred numbered datagrams at once and reports whether they
// arrive in another order.
func overtakes(t *testing.T, from, to *net.UDPConn) (swapped bool) {
	t.Helper()
	for i := range 100 {
		send(t, from, own(to), string([]byte{byte(i)}))
	}
	for i := range 100 {
		text, _ := heard(t, to)
		swapped = swapped || text[0] != byte(i)
	}
	return swapped
}

func TestCutAndMend(t *testing.T) {
	t.Parallel()
	a, _, ca, cb := pair(t)
	a.Cut()
	send(t, ca, own(cb), "lost")
	eventually(t, "the cut link takes it", func() bool { up, _ := a.Count(); return up.Blocked == 1 })
	a.Mend()
	send(t, ca, own(cb), "arrives")
	expect(t, cb, "arrives")
	a.Set(WAN{Loss: 1})
	send(t, ca, own(cb), "lost")
	eventually(t, "it is lost", func() bool { up, _ := a.Count(); return up.Lost == 1 })
	a.Set(WAN{})
	send(t, ca, own(cb), "arrives again")
	expect(t, cb, "arrives again")
}

func TestOrderStaysWhenTheDelayShrinks(t *testing.T) {
	t.Parallel()
	a, _, ca, cb := pair(t)
	a.SetUp(WAN{Delay: 100 * time.Millisecond})
	send(t, ca, own(cb), "first")
	eventually(t, "the link takes it", func() bool { up, _ := a.Count(); return up.Packets == 1 })
	a.SetUp(WAN{})
	send(t, ca, own(cb), "second")
	expect(t, cb, "first")
	expect(t, cb, "second")
}

func TestFirewalls(t *testing.T) {
	t.Parallel()
	type try struct {
		name string
		wall Firewall
		udp  bool
		open map[uint16]bool // TCP ports of the server
	}
	for _, x := range []try{
		{"anything", Anything, true, map[uint16]bool{443: true, 3478: true}},
		{"only TCP 443", OnlyTCP443, false, map[uint16]bool{443: true}},
		{"only UDP", OnlyUDP, true, nil},
		{"no UDP", NoUDP, false, map[uint16]bool{443: true, 3478: true}},
		{"nothing", Nothing, false, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			a, b, ca, cb := pair(t)
			a.Allow(x.wall)
			for _, port := range []uint16{443, 3478} {
				listenTCP(t, b, port)
				limit := closedFor
				if x.open[port] {
					limit = patience
				}
				if got := connects(t, a, netip.AddrPortFrom(b.IPv4(), port), limit); got != x.open[port] {
					t.Errorf("TCP port %d open: %v", port, got)
				}
			}
			before, _ := a.Count()
			send(t, ca, own(cb), "datagram")
			if x.udp {
				expect(t, cb, "datagram")
				return
			}
			eventually(t, "the datagram is stopped", func() bool { up, _ := a.Count(); return up.Blocked > before.Blocked })
		})
	}
}

// closedFor is how long nobody gets through where nobody may.
const closedFor = 300 * time.Millisecond

// connects dials for so long.
func connects(t testing.TB, h *Host, to netip.AddrPort, limit time.Duration) bool {
	t.Helper()
	err := h.Do(func() error {
		c, err := net.DialTimeout("tcp", to.String(), limit)
		if err != nil {
			return err
		}
		return c.Close()
	})
	return err == nil
}

func TestOnlyTCP443LetsNobodyIn(t *testing.T) {
	t.Parallel()
	a, b, _, _ := pair(t)
	a.Allow(OnlyTCP443)
	listenTCP(t, a, 443)
	if connects(t, b, netip.AddrPortFrom(a.IPv4(), 443), closedFor) {
		t.Error("a connection came in")
	}
}

func TestManInTheMiddle(t *testing.T) {
	t.Parallel()
	a, _, ca, cb := pair(t)
	a.Tap(func(up bool, ip []byte) [][]byte {
		switch {
		case bytes.HasSuffix(ip, []byte("swallow")):
			return nil
		case bytes.HasSuffix(ip, []byte("twice")):
			return [][]byte{ip, ip}
		case bytes.HasSuffix(ip, []byte("change")):
			return [][]byte{append(ip[:len(ip)-6], "CHANGE"...)}
		case !up:
			return [][]byte{append(ip[:len(ip)-1], '!')}
		}
		return [][]byte{ip}
	})
	for _, text := range []string{"swallow", "twice", "change", "as is"} {
		send(t, ca, own(cb), text)
	}
	for _, text := range []string{"twice", "twice", "CHANGE", "as is"} {
		expect(t, cb, text)
	}
	send(t, cb, own(ca), "down.")
	expect(t, ca, "down!")
	a.Tap(nil)
	send(t, ca, own(cb), "swallow")
	expect(t, cb, "swallow")
}

func TestTrainsArePacketsOfTheWire(t *testing.T) {
	t.Parallel()
	const segments, size = 20, 1000
	a, b, ca, cb := pair(t)
	raw := must(ca.SyscallConn())
	_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_UDP, 103 /* UDP_SEGMENT */, size) })
	train := func() {
		text := make([]byte, segments*size)
		for i := range text {
			text[i] = byte(i / size)
		}
		send(t, ca, own(cb), string(text))
	}
	check := func() {
		t.Helper()
		for i := range segments {
			if text, _ := heard(t, cb); len(text) != size || text[0] != byte(i) || text[size-1] != byte(i) {
				t.Fatalf("datagram %d: %d bytes, of datagram %d", i, len(text), text[0])
			}
		}
	}
	train()
	check()
	if up, _ := a.Count(); up.Packets != segments || up.Bytes != segments*(size+28) {
		t.Errorf("counted %+v", up)
	}
	a.SetUp(WAN{Rate: 50e6, Delay: time.Millisecond})
	b.SetDown(WAN{Rate: 80e6})
	train()
	check()
	a.Tap(func(_ bool, ip []byte) [][]byte { return [][]byte{ip} })
	train()
	check()
}
