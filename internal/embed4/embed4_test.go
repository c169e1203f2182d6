package embed4

import (
	"net/netip"
	"slices"
	"testing"
)

func TestEveryFormIsFound(t *testing.T) {
	for text, want := range map[string]string{
		"::127.0.0.1":                    "127.0.0.1",
		"::ffff:127.0.0.1":               "127.0.0.1",
		"::ffff:0:169.254.169.254":       "169.254.169.254",
		"64:ff9b::a9fe:a9fe":             "169.254.169.254",
		"64:ff9b:1::a9fe:a9fe":           "169.254.169.254", // prefix of 96 bits
		"64:ff9b:1:a9fe:a9:fe00::":       "169.254.169.254", // 48
		"64:ff9b:1:a9:fe:a9fe::":         "169.254.169.254", // 56
		"64:ff9b:1:0:a9:fea9:fe00:0":     "169.254.169.254", // 64
		"2002:7f00:1::":                  "127.0.0.1",
		"2002:a9fe:a9fe::1":              "169.254.169.254",
		"2001:0:7f00:1::":                "127.0.0.1",
		"2001::80ff:fffe":                "127.0.0.1",
		"2001:db8::5efe:127.0.0.1":       "127.0.0.1",
		"2001:db8::200:5efe:169.254.1.2": "169.254.1.2",
	} {
		if got := Of(netip.MustParseAddr(text)); !slices.Contains(got, netip.MustParseAddr(want)) {
			t.Errorf("%s holds %v, want %s among them", text, got, want)
		}
	}
	for _, text := range []string{"127.0.0.1", "2001:db8::1", "fe80::1", "2606:4700::1111", "2003::1", "64:ff9c::1", "fd00::1"} {
		if got := Of(netip.MustParseAddr(text)); len(got) > 0 {
			t.Errorf("%s holds %v", text, got)
		}
	}
}
