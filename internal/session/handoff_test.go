package session

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

// pour gives text in pieces, each in the memory that the one before it has freed, and
// returns how many buffers that took.
func pour(h *handoff, text []byte, size int) (buffers int) {
	var buf []byte
	for part := range slices.Chunk(text, size) {
		if buf == nil {
			buf = make([]byte, size+3)
			buffers++
		}
		n := copy(buf[3:], part) // data is not all of its memory
		buf = h.give(piece{buf[3:][:n], buf})
	}
	h.finish()
	return buffers
}

func TestWhatIsHandedOverArrivesInTwoBuffers(t *testing.T) {
	text := []byte(strings.Repeat("what was given is what is read. ", 1000))
	for name, read := range map[string]func(*handoff) ([]byte, error){
		"Read":        func(h *handoff) ([]byte, error) { return io.ReadAll(struct{ io.Reader }{h}) },
		"Read a byte": func(h *handoff) ([]byte, error) { return io.ReadAll(iotest.OneByteReader(h)) },
		"WriteTo":     func(h *handoff) ([]byte, error) { var b bytes.Buffer; _, err := io.Copy(&b, h); return b.Bytes(), err },
		"one and then": func(h *handoff) ([]byte, error) {
			var b bytes.Buffer
			_, err := io.CopyN(&b, struct{ io.Reader }{h}, 1)
			_, err2 := io.Copy(&b, h)
			return b.Bytes(), errors.Join(err, err2)
		},
	} {
		h := newHandoff()
		buffers := make(chan int)
		go func() { buffers <- pour(h, text, 100) }()
		got, err := read(h)
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %d of %d bytes, %v", name, len(got), len(text), err)
		}
		if n := <-buffers; n > 2 {
			t.Errorf("%s: %d buffers", name, n)
		}
	}
}

func TestEndOfDataWaitsUntilAllWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandoff()
		finished := make(chan struct{})
		go func() {
			h.give(piece{data: []byte("ab")})
			h.finish()
			close(finished)
		}()
		one := make([]byte, 1)
		for _, want := range []string{"a", "b"} {
			synctest.Wait()
			select {
			case <-finished:
				t.Fatalf("the end came before %q was read", want)
			default:
			}
			if _, err := h.Read(one); err != nil || string(one) != want {
				t.Fatalf("read %q, %v", one, err)
			}
		}
		<-finished
		if _, err := h.Read(one); err != io.EOF {
			t.Error(err)
		}
	})
}

// Who gives up does not wait for a reader that stands in a write to a terminal that is
// stopped; and the reader's memory stays its own.
func TestGivingUpWaitsForNoReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stuck, cause := newHandoff(), make(chan struct{}), errors.New("gone")
		var got []byte
		read := make(chan error)
		go func() {
			_, err := h.WriteTo(writerFunc(func(p []byte) (int, error) {
				<-stuck
				got = append(got, p...)
				return len(p), nil
			}))
			read <- err
		}()
		buf := []byte("kept")
		if spare := h.give(piece{buf, buf}); spare != nil {
			t.Error("the memory came back while it was read")
		}
		given := make(chan struct{})
		go func() {
			h.give(piece{data: []byte("dropped")})
			h.finish()
			close(given)
		}()
		synctest.Wait()
		h.close(cause)
		h.close(io.EOF) // the first call counts
		<-given
		close(stuck)
		if err := <-read; err != cause || string(got) != "kept" {
			t.Errorf("%q, %v", got, err)
		}
		if b := []byte("x"); &h.give(piece{b, b})[0] != &b[0] {
			t.Error("memory that nobody reads any more did not stay")
		}
	})
}

func TestAFailingWriterKeepsWhatItDidNotTake(t *testing.T) {
	h, full := newHandoff(), errors.New("full")
	go pour(h, []byte("abcdef"), 6)
	n, err := h.WriteTo(writerFunc(func(p []byte) (int, error) { return 2, full }))
	rest, _ := io.ReadAll(h)
	if n != 2 || err != full || string(rest) != "cdef" {
		t.Errorf("%d, %v, rest %q", n, err, rest)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
