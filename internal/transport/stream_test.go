package transport

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A message of one key is one packet: nobody waits for the second half of it.
func TestHeadAndBodyLeaveInOnePacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipes()
		operator, agent := connect(t, a, b)
		defer operator.Close()
		defer agent.Close()
		s, err := operator.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before, _ := a.sent()
		if err := s.WriteAll([]byte("head "), []byte("and "), nil, []byte("body")); err != nil {
			t.Fatal(err)
		}
		peer, err := agent.AcceptStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 64)
		n, err := peer.Read(got)
		if after, _ := a.sent(); err != nil || string(got[:n]) != "head and body" || after != before+1 {
			t.Errorf("%q, %v, in %d packets", got[:n], err, after-before)
		}
	})
}

func TestSlowReaderHoldsUpTheWriterNotMemory(t *testing.T) {
	operator, agent := both(t)
	s, err := operator.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	giveUp := time.AfterFunc(300*time.Millisecond, func() { s.Reset(1) })
	defer giveUp.Stop()
	taken, err := s.Write(make([]byte, 64<<20))
	var reset *ResetError
	if !errors.As(err, &reset) || taken > int(Few.windows().whole) {
		t.Errorf("the writer got rid of %d bytes that nobody reads: %v", taken, err)
	}
	if agent.Err() != nil {
		t.Errorf("agent ended: %v", agent.Err())
	}
}
