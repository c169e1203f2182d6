package portmap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestRoutesAreReadAsTheKernelWritesThem(t *testing.T) {
	want := netip.MustParseAddr("192.168.1.1")
	ip := want.As4()
	hex := fmt.Sprintf("%08X", binary.NativeEndian.Uint32(ip[:]))
	head := "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	line := func(dst, gw, mask string) string {
		return "eth0\t" + dst + "\t" + gw + "\t0003\t0\t0\t0\t" + mask + "\t0\t0\t0\n"
	}
	got, err := parseRoutes(strings.NewReader(head + line("0001A8C0", "00000000", "00FFFFFF") + line("00000000", hex, "00000000")))
	if err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{"", head, line("00000000", "00000000", "00000000"), line("00000000", "zz", "00000000"), line("00000000", hex, "000000FF"), "a b c"} {
		if got, err := parseRoutes(strings.NewReader(text)); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
