// Package join makes one connection of two: what comes from the one goes to the
// other, each direction ends by itself, and a connection that was cut is not passed
// on as one that ended.
package join

import (
	"io"
	"net"
	"sync"
)

// Conn is one of the two. CloseWrite ends what is written to it; Close without
// CloseWrite before it is a cut.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Sizes of a direction's buffers, in bytes; our choice. Ten thousand quiet
// connections must not hold ten thousand large buffers, so each waits with a small
// one and borrows a large one while reads fill it.
const (
	smallBuffer = 512
	largeBuffer = 64 << 10
)

// large are buffers that nobody uses at the moment: memory, not state.
var large = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// buffer is what the next read of one direction goes to.
type buffer struct {
	small    [smallBuffer]byte
	borrowed *[largeBuffer]byte // nil while small is enough
}

func (b *buffer) bytes() []byte {
	if b.borrowed != nil {
		return b.borrowed[:]
	}
	return b.small[:]
}

// took notes how much a read has brought. Who reads may wait for hours now, so a
// large buffer that was not of much use goes back first.
func (b *buffer) took(n int) {
	switch {
	case b.borrowed == nil && n == smallBuffer:
		b.borrowed = large.Get().(*[largeBuffer]byte)
	case b.borrowed != nil && n < largeBuffer/4:
		b.release()
	}
}

func (b *buffer) release() {
	if b.borrowed != nil {
		large.Put(b.borrowed)
		b.borrowed = nil
	}
}

// Both copies both ways until both directions have ended or one was cut, closes
// both and returns the bytes that went from a to b and from b to a.
func Both(a, b Conn) (ab, ba int64) {
	var wg sync.WaitGroup
	wg.Go(func() { ab = one(b, a) })
	ba = one(a, b)
	wg.Wait()
	_ = a.Close()
	_ = b.Close()
	return ab, ba
}

// one copies from src to dst. Whatever breaks here breaks both directions, which
// wakes the other one.
func one(dst, src Conn) (n int64) {
	var buf buffer
	defer buf.release()
	for {
		got, err := src.Read(buf.bytes())
		if got > 0 {
			w, bad := dst.Write(buf.bytes()[:got])
			n += int64(w)
			if bad != nil {
				cut(dst, src)
				return n
			}
		}
		if err == io.EOF {
			_ = dst.CloseWrite()
			return n
		}
		if err != nil {
			cut(dst, src)
			return n
		}
		buf.took(got)
	}
}

// cut closes both; a TCP connection is reset, so that its peer does not take what
// arrived for all there was.
func cut(conns ...Conn) {
	for _, c := range conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}
