// Scan makes a session, looks for its keys in the memory of this process, closes
// the session and looks again. It is run by TestA19NoKeysInMemoryAfterClose in a
// build of its own. Output: "erases=<bool> open=<hits> closed=<hits>".
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/harden"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	// A shared mapping is told from the heap by its permissions, so that what was
	// read is not found again.
	buf, err := syscall.Mmap(-1, 0, 1<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED|syscall.MAP_ANON)
	if err != nil {
		return err
	}
	var needles [][]byte
	op, ag, err := sessions(&needles)
	if err != nil {
		return err
	}
	if err := use(op, ag); err != nil {
		return err
	}
	open, err := scan(buf, needles)
	if err != nil {
		return err
	}
	op.Close()
	ag.Close()
	op, ag = nil, nil
	runtime.GC()
	runtime.GC()
	closed, err := scan(buf, needles)
	if err != nil {
		return err
	}
	fmt.Printf("erases=%t open=%d closed=%d\n", harden.Erases, open, closed)
	return nil
}

// mask hides what is looked for from the search itself.
const mask = 0xA5

// sessions runs a handshake, exports and imports the keys as the agent does, and
// stores masked copies of every secret in the export.
func sessions(needles *[][]byte) (op, ag *seal.Session, err error) {
	opID, err := key.Generate[key.Operator]()
	if err != nil {
		return nil, nil, err
	}
	agentID, err := key.Generate[key.Agent]()
	if err != nil {
		return nil, nil, err
	}
	o, err := handshake.NewOperator(handshake.OperatorConfig{Identity: opID})
	if err != nil {
		return nil, nil, err
	}
	m1, err := o.Open(key.Hash{1})
	if err != nil {
		return nil, nil, err
	}
	a, m2, err := handshake.Accept(handshake.AgentConfig{Identity: agentID, Operator: opID.Public()}, m1)
	if err != nil {
		return nil, nil, err
	}
	m3, _, ok, err := o.Confirm(m2, func(key.ID) (key.Public[key.Agent], error) { return agentID.Public(), nil })
	if err != nil {
		return nil, nil, err
	}
	ak, err := a.Confirm(m3)
	if err != nil {
		return nil, nil, err
	}
	defer a.Close()
	raw := ak.Export()
	defer clear(raw)
	block := raw[len(raw)-handshake.TrafficSize:]
	for _, at := range []int{0, 44, 88, 120} { // two keys, exporter, chain
		n := make([]byte, 32)
		for i := range n {
			n[i] = block[at+i] ^ mask
		}
		*needles = append(*needles, n)
	}
	imported, err := handshake.ImportKeys(raw)
	if err != nil {
		return nil, nil, err
	}
	defer imported.Erase()
	defer ak.Erase()
	defer ok.Erase()
	if op, err = seal.New(ok, seal.Operator, time.Now()); err != nil {
		return nil, nil, err
	}
	ag, err = seal.New(imported, seal.Agent, time.Now())
	return op, ag, err
}

// use sends datagrams both ways.
func use(op, ag *seal.Session) error {
	for range 1000 {
		for _, p := range [][2]*seal.Session{{op, ag}, {ag, op}} {
			d, err := p[0].Seal(nil, []byte("text"), time.Now())
			if err != nil {
				return err
			}
			if _, _, err := p[1].Open(nil, d, time.Now()); err != nil {
				return err
			}
		}
	}
	return nil
}

// scan counts the needles in all private writable memory.
func scan(buf []byte, needles [][]byte) (hits int, err error) {
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return 0, err
	}
	defer mem.Close()
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		var perm string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &perm); err != nil {
			continue // addresses of the kernel's own pages
		}
		if perm != "rw-p" {
			continue
		}
		n, err := scanRange(mem, from, to, buf, needles)
		if err != nil {
			return 0, err
		}
		hits += n
	}
	return hits, nil
}

func scanRange(mem *os.File, from, to int64, buf []byte, needles [][]byte) (hits int, err error) {
	const overlap = 31 // a needle may lie across two reads
	for at := from; at < to; at += int64(len(buf) - overlap) {
		n, err := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
		if err != nil {
			return hits, fmt.Errorf("reading memory at %x: %v", at, err)
		}
		hits += count(buf[:n], needles)
		clear(buf[:n])
	}
	return hits, nil
}

func count(text []byte, needles [][]byte) (hits int) {
	for _, n := range needles {
		for i := 0; i+len(n) <= len(text); i++ {
			if text[i]^mask == n[0] && matches(text[i:], n) {
				hits++
			}
		}
	}
	return hits
}

func matches(text, needle []byte) bool {
	for i := range needle {
		if text[i]^mask != needle[i] {
			return false
		}
	}
	return true
}
