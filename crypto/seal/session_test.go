package seal

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestNeedsRekeyAtTheSoftLimits(t *testing.T) {
	op, _ := peers(t)
	out := op.send.Load()
	if op.NeedsRekey(start.Add(SoftAge-1)) || !op.NeedsRekey(start.Add(SoftAge)) {
		t.Error("age")
	}
	out.next.Store(SoftDatagrams - 1)
	out.bytes.Store(SoftBytes - 1)
	if op.NeedsRekey(start) {
		t.Error("too early")
	}
	out.next.Store(SoftDatagrams)
	if !op.NeedsRekey(start) {
		t.Error("datagrams")
	}
	out.next.Store(0)
	out.bytes.Store(SoftBytes)
	if !op.NeedsRekey(start) {
		t.Error("bytes")
	}
	op.Close()
	if op.NeedsRekey(start) {
		t.Error("a closed session needs nothing")
	}
}

func TestSealAndOpenAllocateNothing(t *testing.T) {
	if raceDetector {
		t.Log("allocations cannot be counted under the race detector")
		return
	}
	op, ag := peers(t)
	buf, out, text := make([]byte, 0, 2048), make([]byte, 0, 2048), make([]byte, 1216)
	n := testing.AllocsPerRun(5000, func() {
		d, err := op.Seal(buf, text, start)
		if err != nil {
			t.Error(err)
		}
		if _, _, err := ag.Open(out, d, start); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("a datagram costs %.1f allocations", n)
	}
}

func TestInPlace(t *testing.T) {
	op, ag := peers(t)
	buf := make([]byte, 5, 200)
	copy(buf, "head ")
	text := buf[5+HeaderSize : 5+HeaderSize+7]
	copy(text, "payload")
	d, err := op.Seal(buf, text, start)
	if err != nil || &d[0] != &buf[0] || string(d[:5]) != "head " {
		t.Fatalf("sealing in place: %v", err)
	}
	d = d[5:]
	got, o, err := ag.Open(d[HeaderSize:HeaderSize], d, start)
	if err != nil || string(got) != "payload" || o != (Opened{Newest: true}) || &got[0] != &d[HeaderSize] {
		t.Errorf("opening in place: %q, %+v, %v", got, o, err)
	}
}

func TestOpenAppendsAndKeepsWhatWasThere(t *testing.T) {
	op, ag := peers(t)
	got, _, err := ag.Open([]byte("before "), mustSeal(t, op, "after"), start)
	if err != nil || string(got) != "before after" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRefusedDatagramLeavesNoPlaintext(t *testing.T) {
	op, ag := peers(t)
	d := mustSeal(t, op, "secret text")
	d[len(d)-1] ^= 1
	buf := make([]byte, 0, 64)
	mustDrop(t, ag, d, start, refusal.OpenFailed)
	if _, _, err := ag.Open(buf, d, start); err == nil || bytes.Contains(buf[:64], []byte("secret")) {
		t.Errorf("%v: %q", err, buf[:64])
	}
}

func TestNewestFollowsTheHighestCounter(t *testing.T) {
	op, ag := peers(t)
	open := func(s *Session, d []byte, want Opened) {
		t.Helper()
		if _, got, err := s.Open(nil, d, start); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	first, second, third := mustSeal(t, op, "1"), mustSeal(t, op, "2"), mustSeal(t, op, "3")
	late := mustSeal(t, op, "4")
	open(ag, second, Opened{Counter: 1, Newest: true})
	open(ag, first, Opened{})
	open(ag, third, Opened{Counter: 2, Newest: true})
	roll(t, op, ag, start)
	open(ag, late, Opened{Counter: 3}) // the highest of its epoch, which is not the newest
	open(ag, mustSeal(t, op, "5"), Opened{Counter: 1, Newest: true})
}

func TestFirstDatagramOfAnEpochIsTheNewest(t *testing.T) {
	op, ag := peers(t)
	agree(t, op, ag, start)
	if _, o, err := ag.Open(nil, mustSeal(t, op, "x"), start); err != nil || !o.Newest {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestIndex(t *testing.T) {
	op, ag := peers(t)
	d := mustSeal(t, op, "")
	if i, ok := Index(d); !ok || i != ag.local {
		t.Errorf("index %x, %t", i, ok)
	}
	for _, bad := range [][]byte{nil, d[:Overhead-1], append([]byte{0xD3}, d[1:]...)} {
		if _, ok := Index(bad); ok {
			t.Errorf("%x has an index", bad)
		}
	}
}

func TestTooMuchPlaintext(t *testing.T) {
	op, ag := peers(t)
	if _, err := op.Seal(nil, make([]byte, MaxPlaintext+1), start); refusal.Of(err) != refusal.TooLarge {
		t.Errorf("%v", err)
	}
	d, err := op.Seal(nil, make([]byte, MaxPlaintext), start)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := ag.Open(nil, d, start); err != nil || len(got) != MaxPlaintext {
		t.Errorf("%v", err)
	}
}

func TestOneSessionPerKeys(t *testing.T) {
	k, _ := keys(t)
	if _, err := New(k, 0, start); err == nil {
		t.Error("a session without a side")
	}
	session(t, k, Operator)
	if _, err := New(k, Operator, start); !errors.Is(err, handshake.ErrSpent) {
		t.Errorf("a second session under the same keys would use its nonces twice: %v", err)
	}
}

func TestClosedSessionDoesNothing(t *testing.T) {
	op, ag := peers(t)
	d := mustSeal(t, op, "x")
	for _, s := range []*Session{op, ag} {
		s.Close()
		s.Close()
		if s.epochs != (epochs{}) || s.rekey.chain.Get() != nil {
			t.Error("keys are still there")
		}
	}
	_, sealing := op.Seal(nil, nil, start)
	_, _, opening := ag.Open(nil, d, start)
	_, starting := op.StartRekey()
	_, answering := ag.AnswerRekey(nil, start)
	for _, err := range []error{sealing, opening, starting, answering, op.FinishRekey(nil, start)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%v, want closed", err)
		}
	}
}

func TestCloseWhileBusy(t *testing.T) {
	op, ag := peers(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				d, err := op.Seal(nil, []byte("x"), start)
				if errors.Is(err, ErrClosed) {
					return
				}
				if _, _, err := ag.Open(nil, d, start); err != nil && !errors.Is(err, ErrClosed) && refusal.Of(err) == "" {
					t.Error(err)
				}
			}
		})
	}
	for ag.Stats().Opened < 100 {
		mustOpenAny(t, op, ag)
	}
	ag.Close()
	op.Close()
	wg.Wait()
}

func mustOpenAny(t *testing.T, op, ag *Session) {
	t.Helper()
	d, err := op.Seal(nil, []byte("x"), start)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ag.Open(nil, d, start); err != nil && refusal.Of(err) != refusal.TooOld {
		t.Fatal(err)
	}
}

// FuzzOpen: nothing but the one honest datagram opens.
func FuzzOpen(f *testing.F) {
	op, ag := peers(f)
	d := mustSeal(f, op, "honest")
	f.Add(d)
	f.Add(d[:Overhead])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _, err := ag.Open(nil, b, start)
		if err == nil && (!bytes.Equal(b, d) || string(got) != "honest") {
			t.Errorf("opened %x", b)
		}
		if err != nil && refusal.Of(err) == "" {
			t.Errorf("%v has no code", err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	op, _ := peers(b)
	text, buf := make([]byte, 1248-Overhead), make([]byte, 0, 2048)
	b.SetBytes(1248)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := op.Seal(buf, text, start); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSealOpen(b *testing.B) {
	op, ag := peers(b)
	text, buf, out := make([]byte, 1248-Overhead), make([]byte, 0, 2048), make([]byte, 0, 2048)
	b.SetBytes(1248)
	b.ReportAllocs()
	for b.Loop() {
		d, err := op.Seal(buf, text, start)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := ag.Open(out, d, start); err != nil {
			b.Fatal(err)
		}
	}
}
