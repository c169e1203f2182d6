package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// cipher is the one whose speed the loopback row is about.
const cipher = "aes256-gcm@openssh.com"

// stallTime ends a transfer in which nothing arrives any more; our choice.
const stallTime = 60 * time.Second

func fast(loss float64) netlab.WAN {
	return netlab.WAN{Delay: halfTrip, Rate: wanRate, Loss: loss}
}

func (r *run) bulk() error {
	s := r.newStage()
	return s.copying(s.cfg.Bulk, fast(0), s.ssh("ssh"), s.tucdesk("tucdesk", "never"))
}

// bulkRelayed has a firewall at the target that lets UDP pass to the relay alone.
func (r *run) bulkRelayed() error {
	s := r.newStage()
	hub := s.team.hub.IPv4()
	s.target.Allow(func(up bool, p netlab.Packet) bool {
		far := p.Src
		if up {
			far = p.Dst
		}
		return p.Proto != netlab.UDP || far.Addr() == hub
	})
	return s.copying(s.cfg.Bulk, fast(0), s.ssh("ssh"), s.tucdesk("tucdesk", "never"))
}

// bulkLoss has several OpenSSHs: how one copes with loss is its kernel's matter.
func (r *run) bulkLoss() error {
	var list []subject
	s := r.newStage()
	for i, name := range s.controls() {
		x := s.sshAt(sshPort+i, "ssh, "+name)
		plain := x.exec
		x.exec = func(h *netlab.Host, argv ...string) *exec.Cmd { // what counts is when the connection is made
			s.target.Sysctl("ipv4/tcp_congestion_control", name)
			return plain(h, argv...)
		}
		list = append(list, x)
	}
	// A quarter: what copes badly takes twenty times as long.
	return s.copying(s.cfg.Bulk/4, fast(0.001), append(list, s.tucdesk("tucdesk", "never"))...)
}

// controls are the ways to control congestion that a namespace may choose, the
// system's own first. Reno stands in where Cubic is not among them.
func (s *stage) controls() []string {
	own, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		s.Fatalf("%v", err)
	}
	list := strings.Fields(string(own))
	allowed, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
	for _, name := range []string{"bbr", "cubic", "reno"} {
		if slices.Contains(strings.Fields(string(allowed)), name) && !slices.Contains(list, name) && !(name == "reno" && slices.Contains(list, "cubic")) {
			list = append(list, name)
		}
	}
	return list
}

// copying measures subjects in turn, since they would share processor and disk.
func (s *stage) copying(size int64, w netlab.WAN, subjects ...subject) error {
	seats := make([]*netlab.Host, len(subjects))
	for i, x := range subjects {
		seats[i] = s.seat(x.name, w)
	}
	return s.copyingAt(size, seats, subjects)
}

func (s *stage) copyingAt(size int64, seats []*netlab.Host, subjects []subject) error {
	path := s.file(size)
	rates, spent, failed := make([][]float64, len(subjects)), make([][]float64, len(subjects)), make([]error, len(subjects))
	ways := make([]string, len(subjects))
	for n := range s.cfg.Repeat {
		for i, x := range subjects {
			if failed[i] = errors.Join(failed[i], x.missing); failed[i] != nil {
				continue
			}
			t, err := transfer(x.exec(seats[i], "cat", path), size, nil)
			if failed[i] = err; err == nil {
				s.say("%d: %s %s Mbit/s %s", n+1, x.name, number(t.rate()), t.way)
				rates[i], spent[i], ways[i] = append(rates[i], t.rate()), append(spent[i], t.spent.Seconds()*float64(1<<30)/float64(size)), t.way
			}
		}
	}
	for i, x := range subjects {
		s.add(x.name, "rate", "Mbit/s", rates[i], failed[i])
		if _, down := seats[i].Count(); failed[i] == nil {
			s.figures[len(s.figures)-1].Note = strings.TrimSpace(fmt.Sprintf("%d of %d packets lost, %d found the queue full; %s", down.Lost, down.Packets, down.Overflowed, ways[i]))
		}
	}
	for i, x := range subjects {
		s.add(x.name, "processor time of the client per GiB", "s", spent[i], failed[i])
	}
	return s.Err()
}

// moved is a transfer that has ended.
type moved struct {
	bytes   int64         // after the first read
	took    time.Duration // from the first read to the last
	silence time.Duration // the longest, once watched
	spent   time.Duration // of processor, by the command
	way     string        // that the command says it took at last; "" if it says nothing
}

func (m moved) rate() float64 { return float64(m.bytes) * 8 / 1e6 / m.took.Seconds() }

// transfer reads a command's output, which must be size bytes. Watch, if not nil,
// is told after each read how much there is; once it has said true, silences count.
func transfer(cmd *exec.Cmd, size int64, watch func(int64) bool) (moved, error) {
	var said bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &said, grace
	out, err := cmd.StdoutPipe()
	if err != nil {
		return moved{}, err
	}
	if err := cmd.Start(); err != nil {
		return moved{}, err
	}
	watchdog := time.AfterFunc(stallTime, func() { _ = cmd.Process.Kill() })
	m, all, readErr := count(out, watchdog, watch)
	err = cmd.Wait()
	m.spent = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	for line := range strings.Lines(said.String()) { // the last word; changes of path have lines of their own
		if ways, _, ok := strings.Cut(line, "; session after "); ok {
			m.way, _, _ = strings.Cut(strings.TrimPrefix(ways, "path "), ";")
		}
	}
	switch {
	case !watchdog.Stop():
		return m, fmt.Errorf("nothing for %v after %d of %d bytes", stallTime, all, size)
	case err != nil:
		return m, fmt.Errorf("after %d of %d bytes: %v: %s", all, size, err, firstLine(said.String()))
	case all != size:
		return m, fmt.Errorf("%d of %d bytes arrived: %v", all, size, readErr)
	}
	return m, nil
}

func count(out io.Reader, watchdog *time.Timer, watch func(int64) bool) (m moved, all int64, err error) {
	b := make([]byte, 256<<10)
	var first, last time.Time
	counting := false
	for {
		n, err := out.Read(b)
		now := time.Now()
		if n > 0 {
			watchdog.Reset(stallTime)
			if first.IsZero() {
				first = now
			} else {
				m.bytes += int64(n)
			}
			if counting {
				m.silence = max(m.silence, now.Sub(last))
			}
			last, all = now, all+int64(n)
			m.took = last.Sub(first)
			if watch != nil && !counting && watch(all) {
				counting = true
				last = time.Now()
			}
		}
		if err != nil {
			return m, all, err
		}
	}
}

// bulkLoopback has all programs on one host: what one kernel and the programs can
// do.
func (r *run) bulkLoopback() error {
	s := r.newInternet()
	s.target = s.inet.Host("machine")
	s.team = r.found(s.target, nil)
	s.team.join(s.target)
	list := []subject{s.ssh("ssh", "-c", cipher), s.tucdesk("tucdesk", "never")}
	return s.copyingAt(s.cfg.Loopback, []*netlab.Host{s.target, s.target}, list)
}

// relayKilled lets two ends that cannot meet directly copy through one of two
// relays, and kills that one.
func (r *run) relayKilled() error {
	var silences, rates []float64
	for range r.cfg.Repeat {
		var m moved
		err := r.apart(func(r *run) (err error) { m, err = r.killRelay(); return err })
		if err != nil {
			r.add("tucdesk", "silence", "ms", silences, err)
			return r.Err()
		}
		silences, rates = append(silences, milliseconds(m.silence)), append(rates, m.rate())
	}
	r.add("tucdesk", "silence", "ms", silences, nil)
	r.add("tucdesk", "rate of it all", "Mbit/s", rates, nil)
	return r.Err()
}

func (r *run) killRelay() (moved, error) {
	s := r.newInternet()
	relays := []*netlab.Host{s.inet.Host("relay1"), s.inet.Host("relay2")}
	here, there := s.inet.NAT(netlab.Symmetric), s.inet.NAT(netlab.Symmetric)
	s.target = there.Host("target")
	s.team = r.found(s.inet.Host("hub"), relays)
	s.team.join(s.target)
	here.Set(netlab.WAN{Delay: halfTrip, Rate: wanRate / 4})
	size := s.cfg.Bulk / 4
	path := s.file(size)
	cmd := s.tucdesk("tucdesk", "never").exec(here.Host("seat"), "cat", path)
	return transfer(cmd, size, func(have int64) bool {
		if have < size/3 {
			return false
		}
		busy := relays[0]
		if most, _ := traffic(relays[1]); most > first(traffic(busy)) {
			busy = relays[1]
		}
		_ = s.team.relays[busy].Process.Kill()
		return true
	})
}

func first(a, _ uint64) uint64 { return a }
