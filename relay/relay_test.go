package relay

import (
	"fmt"
	"testing"
	"time"

	"github.com/pion/stun"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

func TestPairsExchangeDatagramsOverEveryMixOfTransports(t *testing.T) {
	for _, mix := range [][2]string{{"udp", "udp"}, {"tcp", "tcp"}, {"udp", "tcp"}, {"tcp", "udp"}} {
		t.Run(mix[0]+"-"+mix[1], func(t *testing.T) {
			s := serve(t, nil)
			oc, ac := mint(s)
			o, err := dialPion(t, s, mix[0], oc)
			if err != nil {
				t.Fatal(err)
			}
			a, err := dialPion(t, s, mix[1], ac)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 5 { // first as Send and Data indications, then as ChannelData
				o.tell(t, a, fmt.Sprint("from operator ", i))
				a.tell(t, o, fmt.Sprint("from agent ", i))
			}
			if snap := s.Snapshot(); snap.Allocations != 2 || snap.Pairs != 1 || snap.Frames < 10 || snap.Bytes == 0 {
				t.Errorf("%+v", snap)
			}
		})
	}
}

func TestChannelDataIsForwardedUnchanged(t *testing.T) {
	for _, mix := range [][2]string{{"udp", "udp"}, {"tcp", "tcp"}, {"udp", "tcp"}, {"tcp", "udp"}} {
		t.Run(mix[0]+"-"+mix[1], func(t *testing.T) {
			s := serve(t, nil)
			oc, ac := mint(s)
			o, a := dialRaw(t, s, mix[0], oc).join(), dialRaw(t, s, mix[1], ac).join()
			for _, payload := range []string{"", "x", "four", "seven b", repeat('y', 1248), repeat('z', guard.MaxPayload)} {
				o.send(frame(payload))
				a.hears(payload)
				a.send(frame(payload))
				o.hears(payload)
			}
		})
	}
}

func TestUnboundPeerGetsDataIndications(t *testing.T) {
	s := serve(t, nil)
	oc, ac := mint(s)
	o, a := dialRaw(t, s, "udp", oc).join(), dialRaw(t, s, "udp", ac)
	if got := a.allocate(); got != 0 {
		t.Fatal(got)
	}
	if got := code(a.exchange(a.signed(stun.MethodCreatePermission, pairPeer()), patience)); got != 0 {
		t.Fatalf("permission: %d", got)
	}
	o.send(frame("early"))
	b := a.receive(patience)
	if guard.Client.Check(b) != nil || guard.TypeOf(b) != guard.DataIndication {
		t.Fatalf("received %x", b)
	}
	if data, _ := guard.Find(b, guard.AttrData); string(data) != "early" {
		t.Errorf("received %q", data)
	}
}

func TestRefreshWithLifetimeZeroEndsAnAllocation(t *testing.T) {
	s := serve(t, nil)
	oc, _ := mint(s)
	o := dialRaw(t, s, "udp", oc).join()
	if got := code(o.exchange(o.signed(stun.MethodRefresh, attribute(stun.AttrLifetime, 0, 0, 0, 0)), patience)); got != 0 {
		t.Fatalf("refresh: %d", got)
	}
	until(t, "the allocation to end", func() bool { return s.Snapshot().Allocations == 0 })
	if got := o.allocate(); got != 0 { // the credential is free again, from the same address
		t.Errorf("second allocation: %d", got)
	}
}

func TestClosingAStreamEndsItsAllocation(t *testing.T) {
	s := serve(t, nil)
	oc, ac := mint(s)
	o := dialRaw(t, s, "tcp", oc).join()
	dialRaw(t, s, "udp", ac).join()
	until(t, "the pair", func() bool { return s.Snapshot().Pairs == 1 })
	o.conn.Close()
	until(t, "the stream to end", func() bool {
		snap := s.Snapshot()
		return snap.Allocations == 1 && snap.Pairs == 0 && snap.Connections == 0
	})
	dialRaw(t, s, "tcp", oc).join()
	if s.Snapshot().Pairs != 1 {
		t.Error("the pair did not come back")
	}
}

func TestRenewedCredentialProlongsAnAllocation(t *testing.T) {
	s := serve(t, nil)
	now := time.Now()
	oc, _ := credential.MintPair(secret(s), now, 30*time.Second)
	n, err := credential.Parse(oc.Username)
	if err != nil {
		t.Fatal(err)
	}
	o := dialRaw(t, s, "udp", oc).join()
	o.cred = credential.Mint(secret(s), n.Pair, n.Role, now, 30*time.Minute)
	if got := code(o.exchange(o.signed(stun.MethodRefresh), patience)); got != 0 {
		t.Fatalf("refresh: %d", got)
	}
	expired, _ := s.table.sweep(now.Add(time.Minute))
	if len(expired) != 0 {
		t.Error("the allocation ends with its first credential")
	}
	expired, _ = s.table.sweep(now.Add(31 * time.Minute))
	if len(expired) != 1 {
		t.Error("the allocation outlives its second credential")
	}
}

func TestCloseIsIdempotentAndWorksWithoutRun(t *testing.T) {
	s, err := Start(t.Context(), Config{UDP: anyPort(), TCP: anyPort(), Secret: credential.NewSecret()})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Run(t.Context()); err == nil {
		return // it may start and end at once
	}
}

func TestRunEndsWithLiveClients(t *testing.T) {
	s := serve(t, nil)
	oc, ac := mint(s)
	dialRaw(t, s, "udp", oc).join()
	dialRaw(t, s, "tcp", ac).join()
	s.Close() // the cleanup of serve waits for Run, goleak for the rest
	until(t, "allocations to end", func() bool { return s.Snapshot().Allocations == 0 })
}
