package relay

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

func anyPort() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:0") }

func TestBadConfigurationsAreRefusedWithAReason(t *testing.T) {
	public := netip.MustParseAddrPort("0.0.0.0:0")
	lab := func() *Lab {
		return &Lab{AllowPeers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RelayIP: netip.MustParseAddr("127.0.0.1")}
	}
	good := Config{UDP: anyPort(), Secret: credential.NewSecret()}
	for _, tc := range []struct {
		want string
		edit func(*Config)
	}{
		{"no address", func(c *Config) { c.UDP = netip.AddrPort{} }},
		{"no secret", func(c *Config) { c.Secret = credential.Secret{} }},
		{"realm", func(c *Config) { c.Realm = strings.Repeat("x", maxRealm+1) }},
		{"realm", func(c *Config) { c.Realm = "a\nb" }},
		{"realm", func(c *Config) { c.Realm = "a:b" }},
		{"not loopback", func(c *Config) { c.Lab = lab(); c.UDP = public }},
		{"not loopback", func(c *Config) { c.Lab = lab(); c.TCP = public }},
		{"allowed peers", func(c *Config) { c.Lab = lab(); c.Lab.AllowPeers = nil }},
		{"relay address", func(c *Config) { c.Lab = lab(); c.Lab.RelayIP = netip.IPv4Unspecified() }},
	} {
		cfg := good
		tc.edit(&cfg)
		s, err := Start(t.Context(), cfg)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("want an error about %q, got %v", tc.want, err)
		}
	}
	cfg := good
	cfg.Lab, cfg.UDP = lab(), public
	cfg.Lab.PublicBind = true
	if _, err := cfg.withDefaults(); err != nil {
		t.Errorf("public bind with the second flag: %v", err)
	}
}

func TestOccupiedAddressIsAnError(t *testing.T) {
	s := serve(t, nil)
	udpAddr, tcpAddr := s.Addr()
	for _, cfg := range []Config{{UDP: udpAddr}, {TCP: tcpAddr}, {UDP: anyPort(), TCP: tcpAddr}} {
		cfg.Secret = credential.NewSecret()
		if _, err := Start(t.Context(), cfg); err == nil {
			t.Errorf("%v and %v are taken, but no error", cfg.UDP, cfg.TCP)
		}
	}
}

// The longest realm we accept must keep the first answer within what a padded
// first request has earned.
func TestLongestRealmStillFitsTheFirstAnswer(t *testing.T) {
	const answer = guard.HeaderSize + (8 + 12) + (4 + 80) + (4 + maxRealm) // code and reason, nonce, realm
	if answer > guard.FirstRequestSize*creditPercent/100 {
		t.Errorf("an answer of %d bytes to a request of %d", answer, guard.FirstRequestSize)
	}
	s := serve(t, func(c *Config) { c.Realm = strings.Repeat("r", maxRealm) })
	oc, _ := mint(s)
	dialRaw(t, s, "udp", oc).join()
}
