package relay

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// quiet is how long a test listens for something that must not come.
const quiet = 150 * time.Millisecond

// evilPeers are addresses a client may want to reach through a relay.
var evilPeers = []string{
	"127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "172.16.0.1", "100.64.0.1", "8.8.8.8",
	"0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.2", "192.0.2.0",
	"::", "::1", "fe80::1", "fc00::1", "ff02::1",
	"::ffff:127.0.0.1", "::ffff:192.0.2.1", "::192.0.2.1", "::ffff:0:192.0.2.1",
	"64:ff9b::c000:201", "2002:c000:201::1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
}

// That nothing leaves is seen where every packet is: internal/labtest.
func TestM1ForeignPeersAreRefused(t *testing.T) {
	s := serve(t, nil)
	oc, _ := mint(s)
	o := dialRaw(t, s, "udp", oc).join()
	to := peerAddress(netip.MustParseAddrPort("127.0.0.1:80"))
	if got := code(o.exchange(o.signed(stun.MethodCreatePermission, to), patience)); got == 0 {
		t.Errorf("permission: %d", got)
	}
	if got := code(o.exchange(o.signed(stun.MethodChannelBind, to, channel()), patience)); got != 401 {
		t.Errorf("channel: %d", got)
	}
}

func TestM1RelayOpensNoSocketForAnAllocation(t *testing.T) {
	s := serve(t, nil)
	before := descriptors(t)
	oc, ac := mint(s)
	o, a := dialRaw(t, s, "udp", oc).join(), dialRaw(t, s, "udp", ac).join()
	if got := descriptors(t); got != before+2 { // the two clients' own
		t.Errorf("%d descriptors, were %d", got, before)
	}
	o.send(frame("x"))
	a.hears("x")
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		skip(t, "this system has no /proc/self/fd; run on Linux")
	}
	return len(list)
}

// skip skips, or fails where everything must be there.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func TestM2OnlyThePlainFormOfThePeerIsPermitted(t *testing.T) {
	s := &Server{}
	for _, ip := range evilPeers {
		a := netip.MustParseAddr(ip)
		if s.permit(nil, a.AsSlice()) {
			t.Errorf("%s is permitted", ip)
		}
		if isPeer(netip.AddrPortFrom(a, guard.PeerAddr().Port())) {
			t.Errorf("%s passes for the peer", ip)
		}
	}
	for _, raw := range [][]byte{nil, {1}, make([]byte, 5), make([]byte, 17)} {
		if s.permit(nil, raw) {
			t.Errorf("%x is permitted", raw)
		}
	}
	if !s.permit(nil, guard.PeerAddr().Addr().AsSlice()) {
		t.Error("the peer is not permitted")
	}
}

func TestM2EveryFormIsRefusedEndToEnd(t *testing.T) {
	s := serve(t, func(c *Config) { c.Limits.ControlPerSecond = 10000 })
	oc, ac := mint(s)
	o := dialRaw(t, s, "udp", oc)
	if got := o.allocate(); got != 0 {
		t.Fatal(got)
	}
	a := dialRaw(t, s, "udp", ac).join()
	for _, ip := range evilPeers {
		to := peerAddress(netip.AddrPortFrom(netip.MustParseAddr(ip), 9))
		if strings.HasPrefix(ip, "::ffff:192.0.2.1") {
			continue // the test's encoder would write it as plain IPv4
		}
		if got := code(o.exchange(o.signed(stun.MethodCreatePermission, to), patience)); got == 0 {
			t.Errorf("permission for %s", ip)
		}
		o.send(stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication), to, attribute(stun.AttrData, 'e')).Raw)
	}
	if b := a.receive(quiet); b != nil {
		t.Errorf("the other side heard %x", b)
	}
}

func TestM2LabModeAllowsListedNetworksOnly(t *testing.T) {
	l := Lab{AllowPeers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("fd00::/8")}}
	for ip, want := range map[string]bool{
		"127.0.0.1": true, "::ffff:127.0.0.1": true, "fd00::1": true,
		"0.0.0.0": false, "::": false, "::1": false, "::127.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false,
		"224.0.0.1": false, "255.255.255.255": false, "10.0.0.1": false, "fe80::1%lo": false, "::ffff:10.0.0.1": false,
	} {
		if l.allows(netip.MustParseAddr(ip)) != want {
			t.Errorf("%s: want %v", ip, want)
		}
	}
}

func TestM3OnlyTheOppositeRoleOfTheSamePairHears(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	oc, ac := mint(s)
	third, _ := mint(s)
	o, x := dialRaw(t, s, "udp", oc).join(), dialRaw(t, s, "udp", third).join()
	o.send(frame("to nobody"))
	until(t, "the drop", func() bool { return s.Snapshot().Events["no_peer"] == 1 })
	a := dialRaw(t, s, "udp", ac).join()
	o.send(frame("to the agent"))
	a.hears("to the agent")
	for name, c := range map[string]*raw{"itself": o, "third session": x} {
		if b := c.receive(quiet); b != nil {
			t.Errorf("%s heard %x", name, b)
		}
	}
	same := dialRaw(t, s, "udp", oc)
	same.challenge()
	same.send(frame("as operator"))
	if b := a.receive(quiet); b != nil {
		t.Errorf("the agent heard %x from a client without allocation", b)
	}
	same.join() // takes the first one's place
	same.send(frame("as operator"))
	a.hears("as operator")
	o.send(frame("from the place that was"))
	if b := a.receive(quiet); b != nil {
		t.Errorf("the agent heard %x from the old place", b)
	}
}

func TestM4StreamProbesAreClosedAndTheCPUStaysIdle(t *testing.T) {
	s := serve(t, nil)
	_, tcpAddr := s.Addr()
	for _, probe := range []string{
		"0000ffec2112a442000000000000000000000000", "4000fffc00000000000000000000000000000000", "4000ea60",
	} {
		conn, err := net.Dial("tcp", tcpAddr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		b, _ := hex.DecodeString(probe)
		conn.Write(b)
		conn.SetReadDeadline(time.Now().Add(patience))
		if n, err := conn.Read(make([]byte, 10)); n != 0 || os.IsTimeout(err) {
			t.Errorf("%s: read %d, %v", probe, n, err)
		}
	}
	until(t, "the connections to go", func() bool { return s.Snapshot().Connections == 0 })
	before := cpu(t)
	<-time.After(200 * time.Millisecond) // what is measured is that nothing happens
	if used := cpu(t) - before; used > 100*time.Millisecond {
		t.Errorf("%v of CPU in 200 ms of idleness", used)
	}
	if s.Snapshot().Drops["bad_length"] != 3 {
		t.Errorf("%v", s.Snapshot().Drops)
	}
}

func TestM5ProbesAgainstAnAllocationKillNobody(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s := serve(t, nil)
			oc, ac := mint(s)
			o, a := dialRaw(t, s, network, oc).join(), dialRaw(t, s, network, ac).join()
			for _, probe := range []string{
				"0016000c2112a442000000000000000000000000001300040000000000120000", // T2
				"0017000c2112a442000000000000000000000000001300040000000000120000", // T3
			} {
				b, _ := hex.DecodeString(probe)
				o.send(b)
			}
			until(t, "two drops", func() bool { return s.Snapshot().Drops["bad_attribute"] == 2 })
			o.send(frame("alive"))
			a.hears("alive")
		})
	}
}

func TestM6AnswersToStrangersStayWithinWhatTheySent(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c := dialRaw(t, s, "udp", credential.Credential{})
	plain := compose(stun.MethodAllocate, transport())
	const requests = 40
	for range requests {
		c.send(plain.Raw)
	}
	until(t, "an answer to be withheld", func() bool { return s.Snapshot().Events["amplification"] > 0 })
	sent, got := requests*len(plain.Raw), len(c.receive(patience))
	for b := c.receive(quiet); b != nil; b = c.receive(quiet) {
		got += len(b)
	}
	if got == 0 || got > sent*3/2 {
		t.Errorf("%d bytes answered to %d sent", got, sent)
	}
	for _, method := range []stun.Method{stun.MethodBinding, stun.MethodRefresh} {
		d := dialRaw(t, s, "udp", credential.Credential{}, "127.0.0.9:0")
		d.send(compose(method).Raw)
		if b := d.receive(quiet); b != nil {
			t.Errorf("%v was answered with %d bytes", method, len(b))
		}
	}
}

func TestM6FloodIsCutByRateBeforeParsing(t *testing.T) {
	const perSecond, burst = 5, 5 * burstSeconds
	s := serve(t, func(c *Config) { c.Limits.ControlPerSecond = perSecond })
	c := dialRaw(t, s, "udp", credential.Credential{})
	began := time.Now()
	for range 100 {
		c.send([]byte("\x00garbage"))
	}
	until(t, "the flood to be counted", func() bool {
		snap := s.Snapshot()
		return snap.Events["rate_limited"]+snap.Drops["bad_length"] == 100
	})
	most := uint64(burst + 1 + perSecond*time.Since(began)/time.Second) // a slow machine gives it time to refill
	if n := s.Snapshot().Drops["bad_length"]; n > most {
		t.Errorf("%d of 100 were parsed, want %d at most", n, most)
	}
	other := dialRaw(t, s, "udp", credential.Credential{}, "127.0.0.2:0")
	other.challenge() // another source is served meanwhile
}

func TestM7AllocationsAreBoundedPerNetworkAndInTotal(t *testing.T) {
	s := serve(t, func(c *Config) {
		c.Limits = Limits{Allocations: 12, AllocationsPerSource: 10, ControlPerSecond: 10000}
	})
	codes := make(map[int]int)
	for i := range 30 {
		from := "127.0.0.1:0"
		if i >= 15 {
			from = "127.0.1.1:0" // another /24
		}
		oc, _ := mint(s)
		codes[dialRaw(t, s, "udp", oc, from).allocate()]++
	}
	snap := s.Snapshot()
	if codes[0] != 12 || codes[508] != 18 || snap.Allocations != 12 {
		t.Errorf("answers %v, %d allocations", codes, snap.Allocations)
	}
	if snap.Events["quota_source"] != 5 || snap.Events["quota_total"] != 13 {
		t.Errorf("events %v", snap.Events)
	}
}

func TestM8PermissionAndChannelFloodsDoNotGrowTables(t *testing.T) {
	s := serve(t, func(c *Config) { c.Limits.ControlPerSecond = 10000 })
	oc, _ := mint(s)
	o := dialRaw(t, s, "udp", oc).join()
	for i := range 50 {
		to := peerAddress(netip.AddrPortFrom(guard.PeerAddr().Addr(), uint16(1000+i)))
		o.send(o.signed(stun.MethodChannelBind, to, attribute(stun.AttrChannelNumber, 0x40, byte(i+1), 0, 0)).Raw)
		o.send(o.signed(stun.MethodCreatePermission, pairPeer(), pairPeer()).Raw)
	}
	until(t, "all to be dropped", func() bool { return s.Snapshot().Drops["not_paired"] == 100 })
}

func TestM9CredentialsThatMustNotWork(t *testing.T) {
	s := serve(t, nil)
	good, _ := mint(s)
	now := time.Now()
	expired, _ := credential.MintPair(secret(s), now.Add(-time.Hour), time.Minute)
	long := good
	long.Username = strings.Replace(good.Username, "v1.1", "v1.9", 1)
	long.Password = credential.Password(secret(s), long.Username)
	role := good
	role.Username = strings.TrimSuffix(good.Username, "o") + "a"
	altered := good
	altered.Password = append([]byte{good.Password[0] ^ 1}, good.Password[1:]...)
	foreign, _ := credential.MintPair(credential.NewSecret(), now, time.Minute)
	other := good
	other.Username = "1767225600:alice" // the older REST form of TURN credentials
	other.Password = credential.Password(secret(s), other.Username)
	for _, tc := range []struct {
		name, event string
		cred        credential.Credential
	}{
		{"expired", "stale_user", expired}, {"lives too long", "stale_user", long}, {"role changed", "bad_password", role},
		{"password altered", "bad_password", altered}, {"another secret", "bad_password", foreign}, {"another form", "bad_user", other},
	} {
		before := s.Snapshot().Events[tc.event]
		if got := dialRaw(t, s, "udp", tc.cred).allocate(); got != 400 {
			t.Errorf("%s: answer %d", tc.name, got)
		}
		if s.Snapshot().Events[tc.event] != before+1 {
			t.Errorf("%s: not counted as %s: %v", tc.name, tc.event, s.Snapshot().Events)
		}
	}
	if n := s.Snapshot().Allocations; n != 0 {
		t.Errorf("%d allocations", n)
	}
}

func TestM9RotatedSecret(t *testing.T) {
	s := serve(t, nil)
	old, older := secret(s), credential.NewSecret()
	s.Rotate(credential.NewSecret())
	for _, tc := range []struct {
		secret credential.Secret
		want   int
	}{{old, 0}, {secret(s), 0}, {older, 400}} {
		c, _ := credential.MintPair(tc.secret, time.Now(), time.Minute)
		if got := dialRaw(t, s, "udp", c).allocate(); got != tc.want {
			t.Errorf("after a rotation: %d, want %d", got, tc.want)
		}
	}
	s.Rotate(credential.NewSecret())
	c, _ := credential.MintPair(old, time.Now(), time.Minute)
	if got := dialRaw(t, s, "udp", c).allocate(); got != 400 {
		t.Errorf("a secret two rotations old: %d", got)
	}
}

func TestM9AllocationEndsWithItsCredential(t *testing.T) {
	s := serve(t, nil)
	oc, _ := mint(s)
	o := dialRaw(t, s, "udp", oc).join()
	expired, _, _ := s.table.sweep(time.Now().Add(2 * time.Minute))
	if len(expired) != 1 {
		t.Fatalf("%d expired", len(expired))
	}
	s.closeAll(expired, evExpired)
	if got := code(o.exchange(o.signed(stun.MethodRefresh), quiet)); got == 0 {
		t.Error("an ended allocation was refreshed")
	}
}

func TestIdleAllocationEndsThoughItIsRefreshed(t *testing.T) {
	s := serve(t, func(c *Config) { c.Limits.Idle = 2 * patience })
	oc, ac := credential.MintPair(secret(s), time.Now(), time.Hour) // which ends later
	o, a := dialRaw(t, s, "udp", oc).join(), dialRaw(t, s, "udp", ac).join()
	o.send(frame("x"))
	a.hears("x")
	if _, _, idle := s.table.sweep(time.Now()); len(idle) != 0 {
		t.Errorf("%d idle at once", len(idle))
	}
	if _, _, idle := s.table.sweep(time.Now().Add(3 * patience)); len(idle) != 2 {
		t.Errorf("%d idle", len(idle))
	}
}

// A credential holder who can forge a source must not touch another's allocation.
func TestM10RequestsOfAnotherUserOnTheSameTupleAreDropped(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	oc, ac := mint(s)
	o := dialRaw(t, s, "udp", oc).join()
	dialRaw(t, s, "udp", ac).join()
	thief, _ := mint(s)
	o.cred = thief // same socket, other user: what the relay would see of a forged source
	for i, m := range []*stun.Message{
		o.signed(stun.MethodRefresh, attribute(stun.AttrLifetime, 0, 0, 0, 0)), o.signed(stun.MethodChannelBind, pairPeer(), channel()),
		o.signed(stun.MethodCreatePermission, pairPeer()), o.signed(stun.MethodAllocate, transport()),
	} {
		if res := o.exchange(m, quiet); res != nil {
			t.Errorf("request %d was answered", i)
		}
	}
	until(t, "four drops", func() bool { return s.Snapshot().Events["foreign_user"] == 4 })
	if n := s.Snapshot().Allocations; n != 2 {
		t.Errorf("%d allocations", n)
	}
}

func TestM11ManyIdleConnectionsLeaveRoomForOthers(t *testing.T) {
	s := serve(t, func(c *Config) { c.Limits.ConnectionsPerSource = 50 })
	_, tcpAddr := s.Addr()
	for range 80 {
		conn, err := net.Dial("tcp", tcpAddr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	until(t, "the cap", func() bool { return s.Snapshot().Drops["too_many_connections"] == 30 })
	oc, ac := mint(s)
	o, a := dialRaw(t, s, "udp", oc).join(), dialRaw(t, s, "udp", ac).join()
	o.send(frame("meanwhile"))
	a.hears("meanwhile")
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn, err := d.Dial("tcp", tcpAddr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	other, _ := mint(s)
	(&raw{t: t, conn: guarded(t, conn, "tcp"), cred: other}).join() // another source is let in
}

func TestM14ByteQuotaStopsAnAllocation(t *testing.T) {
	s := serve(t, func(c *Config) { c.Limits.BytesPerAllocation = 10 })
	oc, ac := mint(s)
	o, a := dialRaw(t, s, "udp", oc).join(), dialRaw(t, s, "udp", ac).join()
	o.send(frame("12345678"))
	a.hears("12345678")
	o.send(frame("9abc"))
	until(t, "the quota", func() bool { return s.Snapshot().Events["byte_quota"] == 1 })
	a.send(frame("own data")) // the other side has its own
	o.hears("own data")
}

func TestM15UserNamesAreEscapedInTheLog(t *testing.T) {
	log, out := newLog()
	s := serve(t, func(c *Config) { c.Logger = log })
	evil := "v1\nlevel=ERROR msg=\"forged\"\x1b[2J\u202e" + repeat('B', 400)
	c := dialRaw(t, s, "udp", credential.Credential{Username: evil, Password: make([]byte, 32)})
	if got := c.allocate(); got != 400 {
		t.Errorf("answer %d", got)
	}
	var text string
	until(t, "the log", func() bool { text += out.drain(); return strings.Contains(text, "credential refused") })
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "level=ERROR") || strings.ContainsAny(line, "\x1b\u202e") || strings.Count(line, "B") > maxLogged {
			t.Errorf("logged %q", line)
		}
	}
	if strings.Contains(text, credential.Text(c.cred.Password)) {
		t.Error("the password is in the log")
	}
}

func TestEscapedIsOneBoundedLineOfASCII(t *testing.T) {
	for _, s := range []string{"", "plain", "a\nb\rc\x00d\x1b[0m", "\u2028\u202e\xff", repeat('x', 10000)} {
		e := escaped(s)
		if len(e) > 4*maxLogged+2 || strings.ContainsFunc(e, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q became %q", s, e)
		}
	}
}

// What the guard lets through, the STUN library behind it must decode and its
// getters must survive.
func FuzzGuardedMessagesAreSafeForPion(f *testing.F) {
	f.Add([]byte{0, 22, 0, 12, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x13, 0, 4, 0, 0, 0, 0, 0, 0x12, 0, 0})
	f.Add(compose(stun.MethodAllocate, transport()).Raw)
	f.Add(compose(stun.MethodChannelBind, pairPeer(), channel()).Raw)
	f.Add(compose(stun.MethodRefresh, attribute(stun.AttrLifetime, 0, 0, 0, 1), stun.NewUsername("x"), stun.NewRealm("tucdesk"), stun.NewNonce("00"), attribute(stun.AttrMessageIntegrity, make([]byte, 20)...)).Raw)
	f.Add(frame("data"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if guard.Server.Check(b) != nil && guard.Client.Check(b) != nil || guard.IsChannelData(b) {
			return
		}
		m := &stun.Message{Raw: bytes.Clone(b)}
		if err := m.Decode(); err != nil {
			t.Fatalf("the guard accepts what the STUN library refuses: %v", err)
		}
		for _, typ := range []stun.AttrType{stun.AttrXORPeerAddress, stun.AttrXORRelayedAddress, stun.AttrXORMappedAddress} {
			var x stun.XORMappedAddress
			_ = x.GetFromAs(m, typ) // panics on a short value (probe T2)
		}
		var e stun.ErrorCodeAttribute
		var m4 stun.MappedAddress
		_, _ = e.GetFrom(m), m4.GetFrom(m)
	})
}
