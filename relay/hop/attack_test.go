package hop

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/tucdesk/tucdesk/internal/udp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// record puts a head before a body: epoch 0 unless told otherwise.
func record(typ byte, epoch uint16, seq uint64, body []byte) []byte {
	b := []byte{typ, 0xfe, 0xfd}
	b = binary.BigEndian.AppendUint16(b, epoch)
	b = append(b, binary.BigEndian.AppendUint64(nil, seq)[2:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// fragment is a handshake fragment.
func fragment(typ byte, message int, seq uint16, offset int, body []byte) []byte {
	b := []byte{typ, byte(message >> 16), byte(message >> 8), byte(message)}
	b = binary.BigEndian.AppendUint16(b, seq)
	b = append(b, byte(offset>>16), byte(offset>>8), byte(offset), byte(len(body)>>16), byte(len(body)>>8), byte(len(body)))
	return append(b, body...)
}

// hello is a first ClientHello that the library takes.
func hello(t testing.TB) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer b.Close()
	go func() { _, _ = dtls.Client(a, clientDTLS(Pin{1})) }()
	buf := make([]byte, maxDatagram)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, b)
	a.Close()
	return buf[:n]
}

// raw sends one datagram from a socket of its own, which stays open.
func (s *served) raw(t testing.TB, b []byte) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	return c
}

// halfOpen returns how many clients have yet to show that they receive at their
// address.
func (l *Listener) halfOpen() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.half.Len()
}

func TestM12Z3OneDatagramDoesNotKillTheListener(t *testing.T) {
	s := serve(t)
	s.connected(t)
	s.raw(t, unhex(t, "16fefd0000000000000000000100"))
	until(t, "the probe to be refused", func() bool { return s.stats.Strange.Load() == 1 })
	c, _ := s.connected(t)
	echoes(t, c, "after the probe")
}

func TestM12Z2ASilentClientBlocksNobody(t *testing.T) {
	t.Parallel()
	s := serve(t)
	until(t, "somebody to be served while a silent client is not given up", func() bool {
		s.raw(t, hello(t))
		until(t, "a half-open client", func() bool { return s.halfOpen() > 0 })
		c, _ := s.connected(t)
		echoes(t, c, "x")
		return s.halfOpen() > 0 // a machine may be so slow that its time is over
	})
	until(t, "the silent one to be given up", func() bool { return s.halfOpen() == 0 })
}

func TestM12HalfOpenFloodLeavesRoomAndMemoryFlat(t *testing.T) {
	s := serve(t)
	first := hello(t)
	before := heap()
	var peak uint64
	const clients = maxHalfOpen + maxHalfOpen/2
	for i := range clients {
		// Not through the network: a machine has not so many sockets to spare.
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 9)
		s.receive(bytes.Clone(first), from, s.echo)
		if i%(maxHalfOpen/2) == maxHalfOpen/2-1 {
			peak = max(peak, heap())
			if n := s.halfOpen(); n > maxHalfOpen {
				t.Fatalf("%d half open", n)
			}
			c, _ := s.connected(t)
			echoes(t, c, "meanwhile")
		}
	}
	grown := int64(peak) - int64(before)
	t.Logf("%d half-open handshakes: heap +%d KiB at its peak, %d displaced", clients, grown>>10, s.stats.Displaced.Load())
	if grown > 64<<20 {
		t.Errorf("heap grew by %d bytes", grown)
	}
	until(t, "the flood to be given up", func() bool { return s.halfOpen() == 0 })
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestM12Z5EmptyFragmentsAreNotKept(t *testing.T) {
	s := serve(t)
	c, sock := s.connected(t)
	echoes(t, c, "x")
	h := s.raw(t, hello(t))
	until(t, "a half-open client", func() bool { return s.halfOpen() == 1 })
	empty := record(typeHandshake, 0, 5, bytes.Repeat(fragment(clientHello, 100, 5, 0, nil), 90))
	before := heap()
	const datagrams = 2000 // 2 MB
	for i := range datagrams {
		for _, to := range []net.Conn{h, sock} {
			if _, err := to.Write(empty); err != nil && i == 0 {
				t.Fatal(err)
			}
		}
		if i%20 == 19 {
			echoes(t, c, "y") // keeps in step with the reader: what its socket cannot hold is lost
		}
	}
	if grown := int64(heap()) - int64(before); grown > 1<<20 {
		t.Errorf("heap grew by %d bytes", grown)
	}
	if s.stats.Filtered.Load() == 0 {
		t.Error("nothing was filtered")
	}
}

func TestM12FullFragmentsAreBounded(t *testing.T) {
	f := &filter{server: true}
	passed := 0
	for i := range 1000 {
		passed += len(f.pass(record(typeHandshake, 0, uint64(i), fragment(clientHello, 8000, uint16(i&15), 1, make([]byte, 1000)))))
	}
	if passed > maxUnproved {
		t.Errorf("%d bytes of an unproved client", passed)
	}
	f.prove()
	for i := range 1000 {
		passed += len(f.pass(record(typeHandshake, 0, uint64(i), fragment(clientHello, 8000, uint16(i&15), 1, make([]byte, 1000)))))
	}
	if passed > maxHandshake {
		t.Errorf("%d bytes of a handshake", passed)
	}
}

// M6: a forged source gets no more than one and a half times what was sent in its
// name, whatever it sends.
func TestM6UnprovedClientsGetLittle(t *testing.T) {
	t.Parallel()
	s := serve(t)
	first := hello(t)
	c := s.raw(t, first)
	sent, got := len(first), 0
	b := make([]byte, maxDatagram)
	for range 20 { // the same again and again, as a client that hears nothing would
		n, _ := c.Write(first)
		sent += n
	}
	c.SetReadDeadline(time.Now().Add(patience))
	for {
		n, err := c.Read(b)
		if err != nil {
			break
		}
		if got += n; got == n { // the first, which may be late
			c.SetReadDeadline(time.Now().Add(time.Second))
		}
	}
	if got == 0 || got > sent*answerPercent/100 {
		t.Errorf("%d bytes for %d", got, sent)
	}
}

func TestM13Z4ForgedRecordsDoNotEndASession(t *testing.T) {
	s := serve(t)
	c, sock := s.connected(t)
	echoes(t, c, "before")
	forged := [][]byte{
		unhex(t, "15fefd000000000000006300020228"), // Z4
		record(typeAlert, 0, 1<<40, []byte{1, 0}),
		record(typeAlert, 0, 1<<40, []byte{2, 40}),
		record(typeData, 0, 1<<40, []byte("in the clear")),
		record(typeChange, 0, 1<<40, []byte{1}),
		record(typeChange, 1, 1<<40, []byte{1}),
		record(typeChange, 1, 1<<40, bytes.Repeat([]byte{1}, 17)),
		record(typeHandshake, 0, 1<<40, fragment(clientHello, 4, 0, 0, []byte{1, 2, 3, 4})),
		record(typeHandshake, 0, 1<<40, fragment(0, 0, 0, 0, nil)), // hello request
		record(typeHandshake, 1, 1<<40, make([]byte, 40)),
		record(typeAlert, 1, 1<<40, make([]byte, 18)),
		record(typeData, 1, 1<<40, make([]byte, 40)),
		record(typeData, 2, 1<<40, make([]byte, 40)),
		record(typeData, 65535, 1<<48-1, make([]byte, 40)),
		{typeData}, bytes.Repeat([]byte{0xff}, 100), hello(t),
		record(typeHandshake, 0, 3, nil),
	}
	for round := range 3 {
		for i, b := range forged {
			if _, err := sock.Write(b); err != nil { // to the server, with the client's address
				t.Fatal(err)
			}
			echoes(t, c, fmt.Sprintf("round %d, after %d", round, i))
		}
	}
	// And to the client, with the server's address.
	local := netip.MustParseAddrPort(sock.LocalAddr().String())
	for i, b := range forged {
		if err := s.sock.WriteTo(b, local); err != nil {
			t.Fatal(err)
		}
		echoes(t, c, fmt.Sprintf("to the client, after %d", i))
	}
}

func TestM13RecordsOfTheSessionAreTakenOnce(t *testing.T) {
	w := tap(t, serve(t))
	c := w.dial(t)
	echoes(t, c, "once")
	w.replay(t) // everything the client has sent so far
	echoes(t, c, "twice")
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := c.Read(make([]byte, 100)); err == nil {
		t.Errorf("a replayed record was echoed: %d bytes", n)
	}
}

// TestM17NoncesAreSequenceNumbers reads the wire: a record is 13 + payload + 16
// bytes, so no nonce is sent, and sequence numbers go up by one, both ways. That the
// nonce is made of them the suite's test shows.
func TestM17NoncesAreSequenceNumbers(t *testing.T) {
	t.Parallel()
	w := tap(t, serve(t))
	c := w.dial(t)
	const records = 600 // each way, past two turns of the lowest byte
	payload := bytes.Repeat([]byte{7}, 40)
	b := make([]byte, 100)
	c.SetReadDeadline(time.Now().Add(6 * patience))
	for range records {
		if _, err := c.Write(payload); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for way, list := range map[string][][]byte{"client": w.sent, "server": w.came} {
		next, first := uint64(0), uint64(0) // 0 is Finished, and what follows may be it again
		for _, r := range list {
			if r[0] != typeData {
				continue
			}
			if next == 0 {
				first = max(1, binary.BigEndian.Uint64(r[recordEpoch:])&(1<<48-1))
				next = first
			}
			if len(r) != recordHead+len(payload)+16 {
				t.Fatalf("%s: record of %d bytes", way, len(r))
			}
			if got := binary.BigEndian.Uint64(r[recordEpoch:]); got != 1<<48|next {
				t.Fatalf("%s: epoch and sequence number %#x, want %#x", way, got, 1<<48|next)
			}
			next++
		}
		if next != first+records {
			t.Errorf("%s: %d records", way, next-first)
		}
	}
}

// M16: what is on the wire is one suite, and who offers only others is refused.
func TestM16OnlyTheOneSuiteIsOfferedAndTaken(t *testing.T) {
	b := hello(t)
	// record head, fragment head, version, random, session id, cookie
	at := recordHead + fragmentHead + 2 + 32
	at += 1 + int(b[at])
	at += 1 + int(b[at])
	if got := b[at : at+4]; !bytes.Equal(got, []byte{0, 2, 0xcc, 0xa9}) {
		t.Errorf("offered % x", got)
	}
	s := serve(t)
	cfg := clientDTLS(s.id.Pin())
	cfg.CustomCipherSuites, cfg.CipherSuites = nil, nil // the library's defaults: GCM, CBC
	sock, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	if _, err := dtls.Client(sock, cfg); err == nil {
		t.Error("a client without our suite got in")
	}
	until(t, "the refusal", func() bool { return s.stats.Failed.Load() == 1 })
}

// openssl runs a foreign client that types input, and returns what it printed.
func openssl(t *testing.T, s *served, input string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		skip(t, "no openssl here: install openssl")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"s_client", "-connect", s.Addr().String(), "-dtls1_2"}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out lines
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if input != "" {
		until(t, "openssl to connect", func() bool { return strings.Contains(out.String(), "Verify return code") })
		io.WriteString(in, input)
		until(t, "openssl to print the echo", func() bool { return strings.Contains(out.String(), strings.TrimSpace(input)) })
		in.Close()
	}
	err = cmd.Wait()
	return out.String(), err
}

// lines is a buffer for two goroutines.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestM16AForeignClientWithTheSuiteGetsIn(t *testing.T) {
	t.Parallel()
	s := serve(t)
	out, err := openssl(t, s, "hello from another implementation\n", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305")
	if err != nil || !strings.Contains(out, "ECDHE-ECDSA-CHACHA20-POLY1305") || !strings.Contains(out, "Extended master secret: yes") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestM16AForeignClientWithoutTheSuiteIsRefused(t *testing.T) {
	t.Parallel()
	for _, cipher := range []string{
		"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-CCM8:ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-AES256-SHA",
	} {
		s := serve(t)
		out, err := openssl(t, s, "", "-cipher", cipher+":@SECLEVEL=0")
		if err == nil || !strings.Contains(out, "Cipher is (NONE)") {
			t.Errorf("%s: %v\n%s", cipher, err, out)
		}
	}
}

// wire is a forwarder between one client and a listener that keeps the datagrams
// of both.
type wire struct {
	s    *served
	sock *udp.Conn
	up   net.Conn

	mu     sync.Mutex
	client netip.AddrPort
	sent   [][]byte
	came   [][]byte
}

func tap(t testing.TB, s *served) *wire {
	t.Helper()
	sock, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{NoOffload: true})
	if err != nil {
		t.Fatal(err)
	}
	up, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{s: s, sock: sock, up: up}
	var wg sync.WaitGroup
	wg.Go(w.forth)
	wg.Go(w.back)
	t.Cleanup(func() {
		sock.Close()
		up.Close()
		wg.Wait()
	})
	return w
}

func (w *wire) forth() {
	msgs := []udp.Message{{Buf: make([]byte, udp.MaxBatch)}}
	for {
		if _, err := w.sock.ReadBatch(msgs); err != nil {
			return
		}
		b := bytes.Clone(msgs[0].Buf[:msgs[0].N])
		w.mu.Lock()
		w.client = msgs[0].Addr
		w.sent = append(w.sent, b)
		w.mu.Unlock()
		_, _ = w.up.Write(b)
	}
}

func (w *wire) back() {
	b := make([]byte, maxDatagram)
	for {
		n, err := w.up.Read(b)
		if err != nil {
			return
		}
		w.mu.Lock()
		to := w.client
		w.came = append(w.came, bytes.Clone(b[:n]))
		w.mu.Unlock()
		_ = w.sock.WriteTo(b[:n], to)
	}
}

func (w *wire) dial(t testing.TB) *Conn {
	t.Helper()
	sock, err := net.Dial("udp", w.sock.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := ClientDTLS(t.Context(), sock, w.s.id.Pin())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (w *wire) replay(t testing.TB) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.sent {
		if _, err := w.up.Write(b); err != nil {
			t.Fatal(err)
		}
	}
}
