package bench

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// What attack A14 sends to a live session, and how; the number is the attack's,
// the rest our choice.
const (
	forgedCount  = 1 << 20
	forgedSize   = 512 // bytes of each datagram
	forgedTrain  = 50  // datagrams of one system call
	forgedRate   = 50_000
	settleTime   = 5 * time.Second  // until the stream has its rate
	peaceTime    = 10 * time.Second // of the stream alone, before and after
	liveTime     = 20 * time.Second // how long we look for the session's index
	sealedHeader = 32               // bytes of the shortest sealed datagram
)

// forged lets a stream run for half a minute and has a stranger, who has seen the
// session's index and knows no key, send datagrams to the machine's socket in the
// middle of it.
func (r *run) forged() error {
	var peace, beside, grown, lost []float64
	for range r.cfg.Repeat {
		var m attacked
		err := r.apart(func(r *run) (err error) { m, err = r.forge(); return err })
		if err != nil {
			r.add("stream", "rate", "Mbit/s", peace, err)
			return r.Err()
		}
		peace, beside = append(peace, m.peace), append(beside, m.beside)
		grown, lost = append(grown, m.grown), append(lost, m.lost)
	}
	r.add("stream alone", "rate", "Mbit/s", peace, nil)
	r.add(fmt.Sprintf("beside %d forged datagrams", forgedCount), "rate", "Mbit/s", beside, nil)
	r.add("agent and session process", "growth", "MiB", grown, nil)
	r.add("forged datagrams", "not read by the machine", "%", lost, nil)
	return r.Err()
}

// attacked is what one flood did.
type attacked struct {
	peace, beside float64 // of the stream, Mbit/s
	grown         float64 // MiB of memory
	lost          float64 // per cent of the datagrams that the machine's kernel dropped
}

func (r *run) forge() (m attacked, err error) {
	s := r.newStage()
	seat := s.seat("seat", netlab.WAN{Delay: halfTrip, Rate: wanRate / 4})
	live := s.watchForLive()
	cmd := s.tucdesk("tucdesk", "never").exec(seat, "cat", "/dev/zero")
	stream, err := s.pour(cmd)
	if err != nil {
		return m, err
	}
	defer stream.end()
	if err := r.pause(settleTime); err != nil {
		return m, err
	}
	to, index, err := live()
	if err != nil {
		return m, err
	}
	before, err := stream.over(r, peaceTime)
	if err != nil {
		return m, err
	}
	memory, dropped := s.memory(), s.dropped()
	_, down := s.target.Count()
	bytes, start := stream.bytes.Load(), time.Now()
	if err := s.flood(s.inet.Host("stranger"), to, index); err != nil {
		return m, err
	}
	m.beside = mbits(stream.bytes.Load()-bytes, time.Since(start))
	if _, now := s.target.Count(); now.Packets-down.Packets < forgedCount {
		return m, fmt.Errorf("only %d packets arrived", now.Packets-down.Packets)
	}
	m.grown = float64(s.memory()-memory) / (1 << 20)
	m.lost = float64(s.dropped()-dropped) * 100 / forgedCount
	after, err := stream.over(r, peaceTime)
	m.peace = (before + after) / 2
	s.say("%s Mbit/s, beside the flood %s, then %s", number(before), number(m.beside), number(after))
	return m, err
}

// watchForLive looks at what arrives at the target. The function it returns waits
// for the address and the index of the session that is there.
func (s *stage) watchForLive() func() (netip.AddrPort, uint32, error) {
	type seen struct {
		to    netip.AddrPort
		index uint32
	}
	var last atomic.Pointer[seen]
	s.target.Tap(func(up bool, ip []byte) [][]byte {
		if to, index, ok := sealed(ip); ok && !up {
			last.Store(&seen{to, index})
		}
		return [][]byte{ip}
	})
	return func() (netip.AddrPort, uint32, error) {
		defer s.target.Tap(nil)
		for start := time.Now(); last.Load() == nil; {
			if time.Since(start) > liveTime {
				return netip.AddrPort{}, 0, errors.New("the session is not direct")
			}
			if err := s.pause(10 * time.Millisecond); err != nil {
				return netip.AddrPort{}, 0, err
			}
		}
		at := last.Load()
		return at.to, at.index, nil
	}
}

// sealed reports where an IPv4 packet goes whose UDP datagram is a sealed one that
// passes no relay, and the index in it (protocol 2.4).
func sealed(ip []byte) (to netip.AddrPort, index uint32, ok bool) {
	const head = 20 + 8
	if len(ip) < head+sealedHeader || ip[0] != 0x45 || ip[9] != unix.IPPROTO_UDP || ip[head] != 0xd8 {
		return to, 0, false
	}
	to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), binary.BigEndian.Uint16(ip[22:]))
	return to, binary.BigEndian.Uint32(ip[head+4:]), true
}

// flood sends all forged datagrams at a steady rate; the kernel takes the trains
// apart where they leave the lab.
func (s *stage) flood(from *netlab.Host, to netip.AddrPort, index uint32) error {
	var c net.Conn
	err := from.Do(func() (err error) {
		if c, err = net.Dial("udp4", to.String()); err == nil {
			err = segments(c.(*net.UDPConn), forgedSize)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("forging datagrams to %v: %v", to, err)
	}
	defer c.Close()
	train := make([]byte, forgedTrain*forgedSize)
	_, _ = rand.Read(train)
	for start, sent := time.Now(), 0; sent < forgedCount; sent += forgedTrain {
		for i := range forgedTrain {
			b := train[i*forgedSize:]
			b[0], b[1], b[2], b[3] = 0xd8, 0, 0, 0
			binary.BigEndian.PutUint32(b[4:], index)
			binary.BigEndian.PutUint64(b[8:], uint64(sent+i))
		}
		if _, err := c.Write(train); err != nil {
			return fmt.Errorf("forging datagrams to %v: %v", to, err)
		}
		if early := time.Duration(sent)*time.Second/forgedRate - time.Since(start); early > time.Millisecond {
			if err := s.pause(early); err != nil {
				return err
			}
		}
	}
	return nil
}

// segments has the kernel cut what is written into datagrams of size bytes.
func segments(c *net.UDPConn, size int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) })
	return errors.Join(err, failed)
}

// pouring is a command whose output is thrown away and counted.
type pouring struct {
	bytes atomic.Int64
	end   func() // kills the command and waits
}

func (s *stage) pour(cmd *exec.Cmd) (*pouring, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &pouring{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 256<<10)
		for {
			n, err := out.Read(b)
			p.bytes.Add(int64(n))
			if err != nil {
				_, _ = io.Copy(io.Discard, out)
				return
			}
		}
	}()
	p.end = sync.OnceFunc(func() { _ = cmd.Process.Kill(); <-done; _ = cmd.Wait() })
	return p, nil
}

// over is the rate over the next d, in Mbit/s.
func (p *pouring) over(r *run, d time.Duration) (float64, error) {
	bytes, start := p.bytes.Load(), time.Now()
	if err := r.pause(d); err != nil {
		return 0, err
	}
	n := p.bytes.Load() - bytes
	if n == 0 {
		return 0, fmt.Errorf("nothing came for %v", d)
	}
	return mbits(n, time.Since(start)), nil
}

func mbits(bytes int64, d time.Duration) float64 { return float64(bytes) * 8 / 1e6 / d.Seconds() }

// memory is how many bytes the agent and its session processes occupy.
func (s *stage) memory() (n int64) {
	for _, pid := range s.agents() {
		text, _ := os.ReadFile(filepath.Join("/proc", pid, "status"))
		for line := range strings.Lines(string(text)) {
			var kib int64
			if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
				n += kib << 10
			}
		}
	}
	return n
}

// dropped is how many datagrams the target's kernel has thrown away because nobody
// read them in time.
func (s *stage) dropped() (n int64) {
	for _, pid := range s.agents()[:1] {
		for _, file := range []string{"udp", "udp6"} {
			text, _ := os.ReadFile(filepath.Join("/proc", pid, "net", file))
			for line := range strings.Lines(string(text)) {
				fields := strings.Fields(line)
				if drops, err := strconv.ParseInt(fields[len(fields)-1], 10, 64); err == nil {
					n += drops
				}
			}
		}
	}
	return n
}

// agents are the processes of the agent's program: its own and those of sessions.
func (s *stage) agents() (pids []string) {
	list, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, path := range list {
		if exe, err := os.Readlink(path); err == nil && exe == s.team.program("tucdesk-agent") {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	if len(pids) < 2 {
		s.Fatalf("%d processes of an agent with a session", len(pids))
	}
	return pids
}
