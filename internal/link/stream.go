package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/carrier"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// Limits of connections; our choice.
const (
	tcpWriteBuffer = 256 << 10 // more would only queue: the streams above have their own control
	tcpWriteLimit  = 10 * time.Second
)

// frames reads a connection frame by frame, behind the guard.
type frames interface {
	Next() ([]byte, error)
	net.Conn
}

// connLeg is a connection to one relay: TCP, TLS, WebSocket or DTLS.
type connLeg struct {
	conn frames     // read by one goroutine
	mu   sync.Mutex // serialises writes: a frame must not be split by another
	size bool       // one frame per write: DTLS
}

// connect reaches a relay by one kind of connection.
func connect(ctx context.Context, k Kind, e wire.RelayEndpoint, stats *guard.Stats) (*connLeg, error) {
	kind := carriers[k]
	raw, err := carrier.Dial(ctx, carrier.Target{Kind: kind, Addr: k.address(e), Pin: e.Key, Proxy: carrier.FromEnvironment()})
	if err != nil {
		return nil, err
	}
	return guarded(raw, kind, stats)
}

func guarded(raw net.Conn, kind carrier.Kind, stats *guard.Stats) (*connLeg, error) {
	if t, ok := raw.(*net.TCPConn); ok {
		_ = t.SetWriteBuffer(tcpWriteBuffer) // only a hint
	}
	opt := guard.Options{Side: guard.Client, Stats: stats}
	var conn frames
	var err error
	if kind.Stream() {
		conn, err = guard.NewConn(raw, opt)
	} else {
		conn, err = guard.NewDatagrams(raw, opt)
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return &connLeg{conn: conn, size: !kind.Stream()}, nil
}

// read is the connection's reader until it ends; the allocation ends with it. The
// guard ends a stream whose lengths are impossible, or that stops inside a frame
// or for good (attack A18).
func (l *connLeg) read(a *allocation, in *inbox) {
	home := newBatches()
	b := <-home
	for {
		b.data = b.data[:0]
		room := b.msgs[0].Buf
		for len(room) >= guard.MaxFrame {
			frame, err := l.conn.Next()
			if err != nil {
				a.fail(broken(err))
				return
			}
			if payload := a.sort(frame); len(payload) > 0 {
				n := copy(room, payload)
				b.add(a.via, room[:n:n])
				room = room[n:]
			}
			if !l.pending() {
				break
			}
		}
		if len(b.data) == 0 {
			continue
		}
		if b = in.put(b); b == nil {
			return
		}
	}
}

// pending reports whether the next frame has arrived already.
func (l *connLeg) pending() bool {
	c, ok := l.conn.(interface{ Pending() bool })
	return ok && c.Pending()
}

func broken(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return errDone
	}
	return fmt.Errorf("receiving from the relay: %v", err)
}

func (l *connLeg) segments(b []byte, size int) error {
	if !l.size {
		return l.write(b)
	}
	for len(b) > 0 {
		n := min(size, len(b))
		if err := l.write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (l *connLeg) frame(b []byte) error { return l.write(b) }

// write ends the connection when it cannot write everything: the rest of a frame
// would be taken for the next one.
func (l *connLeg) write(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(tcpWriteLimit))
	if _, err := l.conn.Write(b); err != nil {
		_ = l.conn.Close()
		return fmt.Errorf("sending to the relay: %v", err)
	}
	return nil
}

func (l *connLeg) close() { _ = l.conn.Close() }
