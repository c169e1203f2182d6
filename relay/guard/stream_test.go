package guard

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// feed returns a guarded server stream and the end that writes into it.
func feed(t *testing.T, s *Stats) (*Conn, net.Conn) {
	t.Helper()
	far, near := net.Pipe()
	c, err := NewConn(near, Options{Side: Server, Stats: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close(); c.Close() })
	return c, far
}

func dataFrame(payload string) []byte {
	b := make([]byte, PaddedSize(len(payload)))
	PutChannelHeader(b, Channel, len(payload))
	copy(b[ChannelHeaderSize:], payload)
	return b
}

func TestStreamReturnsOneFramePerRead(t *testing.T) {
	refresh := message(RefreshRequest, attr(AttrLifetime, 0, 0, 0, 1))
	want := [][]byte{dataFrame("hello"), refresh, dataFrame(""), dataFrame(string(make([]byte, MaxPayload)))}
	all := bytes.Join(want, nil)
	for _, piece := range []int{1, 3, 7, 1499, len(all)} {
		c, far := feed(t, nil)
		go func() {
			for b := all; len(b) > 0; b = b[min(piece, len(b)):] {
				far.Write(b[:min(piece, len(b))])
			}
		}()
		buf := make([]byte, MaxFrame)
		for i, w := range want {
			n, err := c.Read(buf)
			if err != nil || !bytes.Equal(buf[:n], w) {
				t.Fatalf("pieces of %d, frame %d: %d bytes, %v", piece, i, n, err)
			}
		}
	}
}

func TestM4OversizedFramesEndTheStreamAtTheHeader(t *testing.T) {
	for name, probe := range map[string][]byte{
		"T1 STUN":        unhex(t, probeT1STUN),
		"T1 channel":     unhex(t, probeT1Channel),
		"60 KB announce": {0x40, 0, 0xea, 0x60},
		"1501 bytes":     {0x40, 0, 0x05, 0xd9},
		"odd length":     {0x00, 0x03, 0x00, 0x05},
		"TLS hello":      {0x16, 0x03, 0x01, 0x01, 0x00, 0x01, 0x00, 0x00},
	} {
		var s Stats
		c, far := feed(t, &s)
		go far.Write(probe)
		_, err := c.Next()
		if err != error(BadLength) && err != error(BadType) {
			t.Errorf("%s: %v", name, err)
		}
		if s.Drops(BadLength)+s.Drops(BadType) != 1 {
			t.Errorf("%s: not counted: %v", name, s.Snapshot())
		}
	}
}

func TestM4DripDoesNotProlongTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Stats
		c, far := feed(t, &s)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, b := range dataFrame(string(make([]byte, 1000))) {
				if _, err := far.Write([]byte{b}); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		}()
		start := time.Now()
		_, err := c.Next()
		if err != error(TooSlow) || time.Since(start) != FirstFrameTimeout {
			t.Errorf("ended after %v with %v", time.Since(start), err)
		}
		if s.Drops(TooSlow) != 1 {
			t.Error("not counted")
		}
		far.Close()
		<-done
	})
}

func TestIdleStreamEndsAfterIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, far := feed(t, nil)
		go far.Write(dataFrame("x"))
		if _, err := c.Next(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err := c.Next()
		if err != error(TooSlow) || time.Since(start) != IdleTimeout {
			t.Errorf("ended after %v with %v", time.Since(start), err)
		}
	})
}

func TestRefusedMessagesOnAStreamAreDroppedAndDoNotProlongIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Stats
		c, far := feed(t, &s)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				if _, err := far.Write(unhex(t, probeT2)); err != nil {
					return
				}
				<-time.After(900 * time.Millisecond)
			}
		}()
		start := time.Now()
		if _, err := c.Next(); err != error(TooSlow) || time.Since(start) != FirstFrameTimeout {
			t.Errorf("ended after %v with %v", time.Since(start), err)
		}
		if s.Drops(BadAttribute) != 6 {
			t.Errorf("counted %v", s.Snapshot())
		}
		far.Close()
		<-done
	})
}

func TestPendingTellsWhetherNextWouldWait(t *testing.T) {
	c, far := feed(t, nil)
	go far.Write(append(append(dataFrame("one"), dataFrame("two")...), 0x40))
	if c.Pending() {
		t.Error("pending before anything was read")
	}
	for _, want := range []bool{true, false} {
		if _, err := c.Next(); err != nil {
			t.Fatal(err)
		}
		if c.Pending() != want {
			t.Errorf("pending is %v, want %v", c.Pending(), want)
		}
	}
}

func TestReadIntoTooSmallABufferFails(t *testing.T) {
	c, far := feed(t, nil)
	go far.Write(dataFrame("hello"))
	if _, err := c.Read(make([]byte, 8)); !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("got %v", err)
	}
}

func TestNewConnNeedsASide(t *testing.T) {
	if _, err := NewConn(nil, Options{}); err == nil {
		t.Error("a connection without a side was made")
	}
}

func FuzzStream(f *testing.F) {
	f.Add(dataFrame("hello"), 3)
	f.Add(unhex(f, probeT1STUN), 20)
	f.Add(unhex(f, probeT1Channel), 1)
	f.Add(append(message(RefreshRequest), dataFrame("x")...), 5)
	f.Fuzz(func(t *testing.T, stream []byte, piece int) {
		if piece < 1 || len(stream) > 1<<16 {
			return
		}
		var got []byte
		c := newConn(&replay{left: stream, piece: piece}, Options{Side: Server}, time.Hour, time.Hour)
		for {
			frame, err := c.Next()
			if err != nil {
				break
			}
			if Server.Check(frame) != nil {
				t.Fatalf("handed out %x", frame)
			}
			got = append(got, frame...)
		}
		if len(got) > len(stream) {
			t.Fatal("handed out more than came in")
		}
	})
}

// replay is a connection that delivers fixed bytes in pieces, then ends.
type replay struct {
	net.Conn
	left  []byte
	piece int
}

func (r *replay) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.left[:min(r.piece, len(r.left))])
	r.left = r.left[n:]
	return n, nil
}

func (r *replay) SetReadDeadline(time.Time) error { return nil }
