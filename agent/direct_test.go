package agent

import (
	"fmt"
	"strings"
	"testing"
)

func TestDirectPortsAndAddressesAreReadStrictly(t *testing.T) {
	for _, c := range []struct{ ports, addresses, want string }{
		{"", "", "{0 0 []}"},
		{"40000-40099", "", "{40000 40099 []}"},
		{"41000", "203.0.113.7, 2001:db8::7", "{41000 41000 [203.0.113.7 2001:db8::7]}"},
		{"1-65535", "::ffff:203.0.113.7", "{1 65535 [203.0.113.7]}"},
		{"0-5", "", "ports"}, {"5-4", "", "ports"}, {"1-65536", "", "ports"}, {"-5", "", "ports"}, {"5-", "", "ports"}, {"a", "", "ports"}, {"1-2-3", "", "ports"}, {"+1", "", "ports"},
		{"", "203.0.113.7", "without direct ports"},
		{"1-2", "example.com", "address"}, {"1-2", "0.0.0.0", "address"}, {"1-2", "127.0.0.1", "address"}, {"1-2", "fe80::1", "address"},
		{"1-2", "224.0.0.1", "address"}, {"1-2", "203.0.113.7:4000", "address"}, {"1-2", "2001:db8::1%eth0", "address"}, {"1-2", "203.0.113.7,", "address"},
		{"1-2", strings.Repeat("203.0.113.7,", 4) + "203.0.113.7", "at most 4"},
	} {
		got, err := ParseDirect(c.ports, c.addresses)
		text := fmt.Sprint(got)
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, c.want) || err != nil && fmt.Sprint(got) != "{0 0 []}" {
			t.Errorf("%q at %q: %v, %v; want %s", c.ports, c.addresses, got, err, c.want)
		}
	}
}
