package portmap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	natpmp "github.com/jackpal/go-nat-pmp"
)

// pmpLimit bounds one question. The library knows no contexts, so an end of the
// session waits for it; a router that is there answers within a few milliseconds.
// Our choice: one repetition fits.
const pmpLimit = 300 * time.Millisecond

// natPMP asks by NAT-PMP (RFC 6886). The library takes 16 bytes at most, from the
// gateway's address.
func natPMP(ctx context.Context, g Gateway, port, wish uint16) (mapping, error) {
	if ctx.Err() != nil {
		return mapping{}, ctx.Err()
	}
	client := natpmp.NewClientWithTimeout(g.Addr.AsSlice(), pmpLimit)
	// The address comes first: who does not answer has made no mapping either.
	at, err := client.GetExternalAddress()
	if err != nil {
		return mapping{}, fmt.Errorf("asking %v by NAT-PMP for its address: %v", g.Addr, err)
	}
	release := func(context.Context) error {
		_, err := client.AddPortMapping("udp", int(port), 0, 0)
		return err
	}
	like := wish
	if wish == 0 {
		like = port
	}
	got, err := client.AddPortMapping("udp", int(port), int(like), int(lease/time.Second))
	if err == nil && (got.InternalPort != port || got.PortMappingLifetimeInSeconds == 0) {
		err = errors.New("the answer is about another mapping")
	}
	if err != nil {
		if wish == 0 {
			_ = release(ctx) // the answer may have been lost, and the mapping made
		}
		return mapping{}, fmt.Errorf("asking %v by NAT-PMP: %v", g.Addr, err)
	}
	return mapping{
		external: netip.AddrPortFrom(netip.AddrFrom4(at.ExternalIPAddress), got.MappedExternalPort),
		life:     time.Duration(got.PortMappingLifetimeInSeconds) * time.Second, release: release,
	}, nil
}
