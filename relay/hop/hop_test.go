package hop

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/sidebyside"
	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/relay/guard"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	sidebyside.Tests(8)
	goleak.VerifyTestMain(m)
}

const patience = 30 * time.Second // bounds every wait of a test

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// skip skips, or fails where everything must be there.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func newIdentity(t testing.TB) *Identity {
	t.Helper()
	id, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// served is a listener on loopback that sends back what it hears.
type served struct {
	*Listener
	id    *Identity
	stats Stats
	gate  *guard.Gate
}

func (s *served) echo(c *Conn) {
	defer c.Close()
	b := make([]byte, maxDatagram)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

func serve(t testing.TB) *served {
	t.Helper()
	sock, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &served{id: newIdentity(t), gate: guard.NewGate(0, 0)}
	s.Listener, err = Listen(sock, ListenerOptions{
		Identity: s.id, Enter: s.gate.Enter, Take: func(netip.Addr, int) bool { return true }, Stats: &s.stats,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(s.echo)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
		if n := s.gate.Open(); n != 0 {
			t.Errorf("%d places are still taken", n)
		}
	})
	return s
}

func (s *served) dial(t testing.TB, pin Pin) (*Conn, net.Conn, error) {
	t.Helper()
	sock, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := ClientDTLS(t.Context(), sock, pin)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, sock, err
}

func (s *served) connected(t testing.TB) (*Conn, net.Conn) {
	t.Helper()
	c, sock, err := s.dial(t, s.id.Pin())
	if err != nil {
		t.Fatal(err)
	}
	return c, sock
}

// echoes checks that the connection lives.
func echoes(t testing.TB, c net.Conn, what string) {
	t.Helper()
	b := make([]byte, maxDatagram)
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte(what)); err != nil {
		t.Fatalf("write %q: %v", what, err)
	}
	if n, err := c.Read(b); err != nil || string(b[:n]) != what {
		t.Fatalf("%q came back as %q, %v", what, b[:n], err)
	}
}

func TestKeyIsMadeOnceAndKeepsItsPin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.key")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	made, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("a second key: %v", err)
	}
	read, err := Load(path)
	if err != nil || read.Pin() != made.Pin() || read.Pin().IsZero() {
		t.Fatalf("%v, %v, %v", read, made, err)
	}
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("%d files", len(left))
	}
}

func TestB17OpenKeyFileIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("file modes do not say who may read here")
	}
	path := filepath.Join(t.TempDir(), "relay.key")
	if _, err := Create(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); refusal.Of(err) != refusal.BadFileMode {
		t.Fatalf("mode 0640: %v", err)
	}
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(link); refusal.Of(err) != refusal.BadFileMode {
		t.Fatalf("symbolic link: %v", err)
	}
}

func TestOtherFilesAreNoKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.key")
	if _, err := Create(path); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"empty": nil, "cut": good[:100], "twice": append(bytes.Clone(good), good...),
		"no PEM": []byte("hello"), "long": append(bytes.Clone(good), make([]byte, maxKeyFile)...),
		"another type": bytes.ReplaceAll(good, []byte("PRIVATE"), []byte("PUBLIC")),
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := Load(path); err == nil || id != nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestPinsHaveOneSpelling(t *testing.T) {
	want := newIdentity(t).Pin()
	if got, err := ParsePin(want.String()); err != nil || got != want {
		t.Fatalf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "00", want.String() + "00", string(bytes.ToUpper([]byte("ab" + want.String()[2:]))), "x" + want.String()[1:]} {
		if _, err := ParsePin(bad); err == nil {
			t.Errorf("%q is a pin", bad)
		}
	}
}

func TestDatagramsKeepTheirBoundaries(t *testing.T) {
	s := serve(t)
	c, _ := s.connected(t)
	for _, n := range []int{1, 4, 100, 1252, 1500} {
		echoes(t, c, string(bytes.Repeat([]byte{byte(n)}, n)))
	}
}

func TestM18AnotherKeyIsRefused(t *testing.T) {
	s := serve(t)
	for name, pin := range map[string]Pin{"another": newIdentity(t).Pin(), "none": {}} {
		if _, _, err := s.dial(t, pin); refusal.Of(err) != refusal.PinMismatch {
			t.Errorf("%s: %v", name, err)
		}
	}
	pin := s.id.Pin()
	for i := range pin {
		pin[i] ^= 1
		if pin.check(nil) == nil {
			t.Errorf("byte %d: taken", i)
		}
		pin[i] ^= 1
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	s := serve(t)
	errs := make(chan error, 20)
	for range cap(errs) {
		go func() {
			sock, err := net.Dial("udp", s.Addr().String())
			if err != nil {
				errs <- err
				return
			}
			c, err := ClientDTLS(context.Background(), sock, s.id.Pin())
			if err == nil {
				_, err = c.Write([]byte("x"))
				_, err2 := c.Read(make([]byte, 100))
				err = errors.Join(err, err2, c.Close())
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	until(t, "places to be given back", func() bool { return s.gate.Open() == 0 })
}

func TestCloseOfTheListenerEndsConnections(t *testing.T) {
	s := serve(t)
	c, _ := s.connected(t)
	echoes(t, c, "x")
	s.Close()
	until(t, "the connection to be given up", func() bool { return s.gate.Open() == 0 })
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// TestADeadlineIsOverWhenItIsTakenBack: what a deadline was set for has ended, and
// what is read next has none.
func TestADeadlineIsOverWhenItIsTakenBack(t *testing.T) {
	p := newPeer(&Listener{}, netip.AddrPort{})
	p.l.pool.New = func() any { return new([]byte) }
	for range 20000 {
		b := []byte{1}
		p.mu.Lock()
		p.waiting = append(p.waiting, &b)
		p.mu.Unlock()
		_ = p.SetReadDeadline(time.Now().Add(time.Microsecond))
		_ = p.SetReadDeadline(time.Time{})
		runtime.Gosched()
		if n, err := p.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
}

func TestADeadlineEndsAReadThatWaits(t *testing.T) {
	p := newPeer(&Listener{}, netip.AddrPort{})
	for name, set := range map[string]func(){
		"before": func() {},
		"during": func() {
			for asleep := false; !asleep; runtime.Gosched() {
				p.mu.Lock()
				asleep = p.asleep
				p.mu.Unlock()
			}
			_ = p.SetReadDeadline(time.Unix(0, 1))
		},
	} {
		_ = p.SetReadDeadline(time.Time{})
		if name == "before" {
			_ = p.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		}
		read := make(chan error, 1)
		go func() {
			_, err := p.Read(make([]byte, 1))
			read <- err
		}()
		set()
		if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
