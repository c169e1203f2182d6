package transport

import (
	"io"
	"testing"
	"time"
)

// burst is a pipe whose reader now and then has no processor until much has
// gathered.
type burst struct {
	*pipe
	read int
}

const (
	burstEvery = 2000
	burstSize  = 700 // packets; more than the library's queue holds
)

func (b *burst) ReadPackets(pkts []Packet) (int, error) {
	n, err := b.pipe.ReadPackets(pkts)
	if b.read += n; b.read >= burstEvery {
		b.read = 0
		for end := time.Now().Add(100 * time.Millisecond); len(b.in) < burstSize && time.Now().Before(end); {
			select {
			case <-b.stop:
				return 0, io.EOF
			case <-time.After(time.Millisecond):
			}
		}
	}
	return n, err
}

// TestABurstOverflowsNoQueue: what gathered while the reader waited is handled in
// time, and the sender is not told of losses that no network made.
func TestABurstOverflowsNoQueue(t *testing.T) {
	a, b := newPipes()
	operator, agent := connect(t, &burst{pipe: a}, b)
	defer operator.Close()
	defer agent.Close()
	s, err := agent.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const size = 24 << 20
	go func() {
		_, _ = s.Write(make([]byte, size))
		_ = s.CloseWrite()
	}()
	r, err := operator.AcceptStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); n != size || err != nil {
		t.Fatalf("%d bytes: %v", n, err)
	}
	if st := agent.Stats(); st.Lost > 0 {
		t.Errorf("%d of %d packets were taken for lost", st.Lost, st.Sent)
	}
}
