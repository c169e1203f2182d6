package worker

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// crowd is a listener to which somebody always connects.
type crowd struct {
	accepted atomic.Int32
	closed   chan struct{}
}

func (l *crowd) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	l.accepted.Add(1)
	c, _ := net.Pipe()
	return c, nil
}

func (l *crowd) Addr() net.Addr { return &net.TCPAddr{} }

func (l *crowd) Close() error {
	close(l.closed)
	return nil
}

// A listener whose connections have all places ends when the operator ends it, and has
// taken in nobody whom it cannot serve.
func TestAFullListenerEndsWithoutItsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &crowd{closed: make(chan struct{})}
		over, end := context.WithCancel(t.Context())
		hold, returned := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(returned)
			accept(over, l, func(c net.Conn) {
				<-hold
				_ = c.Close()
			})
		}()
		synctest.Wait()
		if n := l.accepted.Load(); n != maxAccepted {
			t.Errorf("%d are accepted", n)
		}
		end()
		_ = l.Close()
		synctest.Wait() // it waits for its connections, and for nothing else
		hold <- struct{}{}
		synctest.Wait()
		if n := l.accepted.Load(); n != maxAccepted {
			t.Errorf("%d were accepted in the end", n)
		}
		close(hold)
		<-returned
	})
}

// out is a listener of a process that has no descriptors left.
type out struct{ crowd }

func (l *out) Accept() (net.Conn, error) {
	l.accepted.Add(1)
	return nil, &net.OpError{Op: "accept"}
}

func TestAListenerThatCannotAcceptTriesAgainUntilItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &out{}
		over, end := context.WithTimeout(t.Context(), 2*maxAccepted*acceptPause+time.Millisecond)
		defer end()
		accept(over, l, func(net.Conn) { t.Error("served") })
		if n := l.accepted.Load(); n != 2*maxAccepted+1 {
			t.Errorf("it tried %d times", n)
		}
	})
}
