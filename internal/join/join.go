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

// Sizes of a direction's buffer, in bytes; our choice. It grows while reads fill
// it: ten thousand quiet connections must not hold ten thousand large buffers.
const (
	firstBuffer = 2 << 10
	mostBuffer  = 64 << 10
)

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
	buf := make([]byte, firstBuffer)
	for {
		got, err := src.Read(buf)
		if got > 0 {
			w, bad := dst.Write(buf[:got])
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
		if got == len(buf) && len(buf) < mostBuffer {
			buf = make([]byte, 4*len(buf))
		}
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
