package labtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// stun is one message of STUN: a type, and attributes as they are.
func stun(typ uint16, attributes ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(len(attributes)))
	b = append(b, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
	return append(b, attributes...)
}

// Types of messages (RFC 8489, 8656).
const (
	bindingRequest  = 0x0001
	allocateRequest = 0x0003
	sendIndication  = 0x0016
	dataIndication  = 0x0017
)

// withoutPeer are 32 bytes that ended processes with a parser of that time: an
// address attribute of no length.
func withoutPeer(typ uint16) []byte {
	return stun(typ, 0, 0x12, 0, 0, 0, 0x13, 0, 4, 1, 2, 3, 4)
}

// dialFrom opens a connection from a host.
func dialFrom(t testing.TB, h *netlab.Host, network string, to netip.AddrPort) (c net.Conn) {
	t.Helper()
	if err := h.Do(func() (err error) {
		c, err = net.DialTimeout(network, to.String(), patience)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// lengthsClosed is when a connection that sends nothing that could be understood
// is closed at the latest: 5 s for the first frame, with room for a busy machine.
const lengthsClosed = 25 * time.Second

// TestA18M4LengthsThenStall opens connections to the relay, by TCP, that name a
// length and then stall, or drip, while a session goes by TCP through the same
// relay. Each must be closed, at no cost worth naming.
func TestA18M4LengthsThenStall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.place(w.inet, w.inet)
	w.laptop.Allow(netlab.NoUDP)
	s := w.open(talking)
	stranger, r := w.inet.Host("stranger"), w.relays[0]
	busy := cpuOf(t, r.proc)
	start := time.Now()
	var all sync.WaitGroup
	for name, first := range map[string][]byte{
		"nothing":                      {},
		"length 0":                     {0, 0},
		"length 1":                     {0, 1},
		"length 65535":                 {0xff, 0xff},
		"a request's length is missed": stun(bindingRequest)[:3],
		"length 0xffec":                append([]byte{0, 1, 0xff, 0xec}, stun(bindingRequest)[4:]...),
		"a channel's length 0xfffc":    {0x40, 0, 0xff, 0xfc},
		"half a header":                stun(bindingRequest)[:10],
	} {
		c := dialFrom(t, stranger, "tcp4", r.addr())
		all.Go(func() {
			if _, err := c.Write(first); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			closedInTime(t, name, c, start)
		})
	}
	drip := dialFrom(t, stranger, "tcp4", r.addr())
	all.Go(func() { dripInto(drip, start) })
	all.Go(func() { closedInTime(t, "a byte at a time", drip, start) })
	all.Wait()
	if used := cpuOf(t, r.proc) - busy; used > time.Second {
		t.Errorf("the relay worked for %v meanwhile", used)
	}
	s.goesOn(gapMost)
	if pause := s.pause(); pause > gapMost {
		t.Errorf("the session stood still for %v", pause)
	}
	if way := s.finish(); !strings.HasPrefix(way, "relay-tcp ") {
		t.Errorf("the session went by %q", way)
	}
}

// closedInTime reads until the other side has closed the connection.
func closedInTime(t testing.TB, name string, c net.Conn, start time.Time) {
	_ = c.SetReadDeadline(start.Add(lengthsClosed))
	b := make([]byte, 1024)
	for n := 0; ; {
		k, err := c.Read(b)
		n += k
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: not closed after %v", name, lengthsClosed)
		}
		if err != nil {
			if n > 0 {
				t.Errorf("%s: answered with %d bytes", name, n)
			}
			return
		}
	}
}

// dripInto sends a frame of 60,000 bytes one by one, until it is stopped.
func dripInto(c net.Conn, start time.Time) {
	frame := append([]byte{0x40, 0, 0xea, 0x60}, make([]byte, 60000)...)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := range frame {
		if _, err := c.Write(frame[i : i+1]); err != nil || time.Since(start) > lengthsClosed {
			return
		}
		<-tick.C
	}
}

// cpuOf is how long a process has worked so far.
func cpuOf(t testing.TB, p *process) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	var user, system int64
	_, _ = fmt.Sscan(fields[11], &user)
	_, _ = fmt.Sscan(fields[12], &system)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// TestM5MessagesThatEndedParsers sends them to the relay from a stranger, and to
// both ends from a stranger and under the relay's address, while a session runs.
func TestM5MessagesThatEndedParsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.place(w.inet, w.inet)
	w.laptop.Allow(w.relayOnly())
	s := w.open(talking)
	s.untilRelayed(patience)
	evil := [][]byte{
		withoutPeer(sendIndication), withoutPeer(dataIndication), withoutPeer(bindingRequest), withoutPeer(0x0101), withoutPeer(0x0104),
		stun(dataIndication, 0, 0x12, 0, 1, 0, 0, 0, 0), {}, {0}, {0x40, 0, 0xff, 0xff}, {0x16, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0},
		{0xd8, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 1500),
	}
	stranger := w.inet.Host("stranger")
	toRelay := dialFrom(t, stranger, "udp4", w.relays[0].addr())
	var injected atomic.Int64
	for _, h := range []*netlab.Host{w.laptop, w.machine} {
		h.Tap(follow(w.relays[0].IPv4(), evil, &injected))
	}
	for range 20 {
		for _, b := range evil {
			_, _ = toRelay.Write(b)
		}
		pass(50 * time.Millisecond)
	}
	eventually(t, "a hundred messages are injected", func() bool { return injected.Load() >= 100 })
	for _, h := range []*netlab.Host{w.laptop, w.machine} {
		h.Tap(nil)
	}
	s.goesOn(gapMost)
	if !w.relays[0].proc.alive() || !w.agent.alive() {
		t.Error("a process has ended")
	}
	s.finish()
	w.open(talking).finish()
}

// follow puts messages behind datagrams that arrive from a relay, under its
// address and on its ports, and once more under a stranger's.
func follow(relay netip.Addr, messages [][]byte, count *atomic.Int64) func(bool, []byte) [][]byte {
	var n int
	return func(up bool, ip []byte) [][]byte {
		d, ok := datagram(ip)
		if up || !ok || d.src().Addr() != relay {
			return [][]byte{ip}
		}
		n++
		m := messages[n%len(messages)]
		count.Add(1)
		other := d.with(m)
		other.setSource(netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, 7}), 3478))
		return [][]byte{ip, d.with(m), other}
	}
}

// answerFactor is how many bytes a relay may send to an address for each that came
// from there before its owner has proved that it is there (attack M6).
const answerFactor = 1.5

// TestM6SpoofedQuestions asks the relay in the name of a victim: slowly, so that
// everything may be answered, and then as fast as it goes.
func TestM6SpoofedQuestions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	stranger, victim := w.inet.Host("stranger"), w.inet.Host("victim")
	to := victim.IPv4()
	stranger.Tap(func(up bool, ip []byte) [][]byte {
		if d, ok := datagram(ip); ok && up {
			d.setSource(netip.AddrPortFrom(to, d.src().Port()))
			return [][]byte{d}
		}
		return [][]byte{ip}
	})
	c := dialFrom(t, stranger, "udp4", w.relays[0].addr())
	for range 20 {
		askRelay(c)
		pass(50 * time.Millisecond)
	}
	asked, answered := spoofed(t, stranger, victim)
	for range 2000 {
		askRelay(c)
	}
	eventually(t, "the flood is on its way", func() bool { now, _ := stranger.Count(); return now.Packets-asked.Packets >= 5000 })
	pass(500 * time.Millisecond)
	asked2, answered2 := spoofed(t, stranger, victim)
	if n := asked2.Packets - asked.Packets; (answered2.Packets-answered.Packets)*10 > n {
		t.Errorf("%d answers to a flood of %d questions: there is no cap", answered2.Packets-answered.Packets, n)
	}
}

// askRelay sends three questions that need no credential.
func askRelay(c net.Conn) {
	_, _ = c.Write(stun(bindingRequest))
	_, _ = c.Write(stun(allocateRequest, 0, 0x19, 0, 4, 17, 0, 0, 0))
	_, _ = c.Write(stun(allocateRequest))
}

// spoofed compares what was asked so far with what the victim got.
func spoofed(t *testing.T, stranger, victim *netlab.Host) (asked, answered netlab.Count) {
	t.Helper()
	asked, _ = stranger.Count()
	_, answered = victim.Count()
	t.Logf("%d questions, %d bytes: %d answers, %d bytes", asked.Packets, asked.Bytes, answered.Packets, answered.Bytes)
	if float64(answered.Bytes) > answerFactor*float64(asked.Bytes) {
		t.Errorf("the victim got %d bytes for %d", answered.Bytes, asked.Bytes)
	}
	return asked, answered
}
