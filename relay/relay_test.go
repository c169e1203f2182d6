package relay

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun"
	"github.com/tucdesk/tucdesk/internal/udp"
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
	expired, _, _ := s.table.sweep(now.Add(time.Minute))
	if len(expired) != 0 {
		t.Error("the allocation ends with its first credential")
	}
	expired, _, _ = s.table.sweep(now.Add(31 * time.Minute))
	if len(expired) != 1 {
		t.Error("the allocation outlives its second credential")
	}
}

// TestM10NobodyElseProlongsAnAllocation: what another user signs on this
// five-tuple, as from a forged source, is dropped, and what nobody can have
// signed is refused; the end stays where it was.
func TestM10NobodyElseProlongsAnAllocation(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		s := serve(t, nil)
		now := time.Now()
		oc, _ := credential.MintPair(secret(s), now, 30*time.Second)
		own, err := credential.Parse(oc.Username)
		if err != nil {
			t.Fatal(err)
		}
		o := dialRaw(t, s, network, oc).join()
		longer := func(p credential.Pair, r credential.Role) credential.Credential {
			return credential.Mint(secret(s), p, r, now, 30*time.Minute)
		}
		forged := longer(own.Pair, own.Role)
		forged.Password = oc.Password
		foreign := credential.Mint(credential.NewSecret(), own.Pair, own.Role, now, 30*time.Minute)
		for name, cred := range map[string]credential.Credential{
			"old password":    forged,
			"another secret":  foreign,
			"beyond one hour": credential.Mint(secret(s), own.Pair, own.Role, now.Add(2*time.Hour), time.Hour),
		} {
			o.cred = cred
			if got := code(o.exchange(o.signed(stun.MethodRefresh), patience)); got != 400 {
				t.Errorf("%s, %s: error %d", network, name, got)
			}
		}
		for _, cred := range []credential.Credential{longer(credential.Pair{1}, own.Role), longer(own.Pair, own.Role.Other())} {
			o.cred = cred
			o.send(o.signed(stun.MethodRefresh).Raw)
		}
		o.cred = oc
		if got := code(o.exchange(o.signed(stun.MethodRefresh), patience)); got != 0 {
			t.Errorf("%s: the owner is refused with %d", network, got)
		}
		if n := s.Snapshot().Events["foreign_user"]; n != 2 {
			t.Errorf("%s: %d requests of other users", network, n)
		}
		if expired, _, _ := s.table.sweep(now.Add(31 * time.Second)); len(expired) != 1 {
			t.Errorf("%s: the allocation outlives its credential", network)
		}
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
	if err := s.Run(t.Context()); err != nil {
		t.Errorf("run after close: %v", err)
	}
}

// A receive may join data, control messages and rubbish of one sender.
func TestJoinedReceiveIsSplitIntoRuns(t *testing.T) {
	s := serve(t, nil)
	oc, ac := mint(s)
	o, a := dialRaw(t, s, "udp", oc).join(), dialRaw(t, s, "udp", ac).join()
	from := netip.MustParseAddrPort(o.conn.LocalAddr().String())
	refresh := o.signed(stun.MethodRefresh).Raw
	size := len(refresh)
	full := func(c byte) []byte { return frame(repeat(c, size-guard.ChannelHeaderSize)) }
	wrong := full('w')
	wrong[1] = 1 // another channel
	parts := [][]byte{full('a'), full('b'), refresh, wrong, full('c'), frame("short")}
	buf := bytes.Join(parts, nil)
	out := udp.NewCoalescer(s.sock, nil)
	s.receive(&udp.Message{Buf: buf, N: len(buf), Addr: from, SegmentSize: size}, out, time.Now())
	out.Flush()
	for _, c := range []byte("abc") {
		a.hears(repeat(c, size-guard.ChannelHeaderSize))
	}
	a.hears("short")
	if b := o.receive(patience); guard.TypeOf(b) != guard.RefreshSuccess {
		t.Errorf("the refresh was answered with %x", b)
	}
	if n := s.Snapshot().Events["not_bound"]; n != 1 {
		t.Errorf("%d frames dropped", n)
	}
}

func TestStreamThatDoesNotDrainLosesDataOnly(t *testing.T) {
	s := serve(t, nil)
	oc, ac := mint(s)
	o, a := dialRaw(t, s, "udp", oc).join(), dialRaw(t, s, "tcp", ac).join()
	big := frame(repeat('x', 1248))
	until(t, "the queue to fill", func() bool {
		for range 100 {
			o.send(big)
		}
		return s.Snapshot().Events["queue_full"] > 0
	})
	s.mu.Lock()
	for st := range s.streams {
		st.mu.Lock()
		if len(st.queue) > maxQueued {
			t.Errorf("%d bytes queued", len(st.queue))
		}
		st.mu.Unlock()
	}
	s.mu.Unlock()
	a.hears(repeat('x', 1248)) // it is still framed and still served
	a.send(frame("back"))
	o.hears("back")
}

func TestRunEndsWithLiveClients(t *testing.T) {
	s := serve(t, nil)
	oc, ac := mint(s)
	dialRaw(t, s, "udp", oc).join()
	dialRaw(t, s, "tcp", ac).join()
	s.Close() // the cleanup of serve waits for Run, goleak for the rest
	until(t, "allocations to end", func() bool { return s.Snapshot().Allocations == 0 })
}
