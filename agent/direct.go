package agent

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/tucdesk/tucdesk/agent/pair"
)

// Direct is what an administrator has arranged for direct paths to sessions.
type Direct = pair.Direct

// maxPublic is how many public addresses a machine has at most: beside them others have to
// fit into the sixteen that an end announces; our choice.
const maxPublic = 4

// ParseDirect reads UDP ports, "FIRST-LAST" or one number, and addresses separated by
// commas at which a firewall or a router lets these ports through to this machine. Both
// may be "", addresses without ports not: sessions at any port could not be reached there.
func ParseDirect(ports, addresses string) (d Direct, err error) {
	if d.First, d.Last, err = parsePorts(ports); err != nil {
		return Direct{}, err
	}
	if addresses == "" {
		return d, nil
	}
	if d.First == 0 {
		return Direct{}, fmt.Errorf("a direct address %q without direct ports: say which ports are let through", addresses)
	}
	for text := range strings.SplitSeq(addresses, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil || a.Zone() != "" || !a.Unmap().IsGlobalUnicast() {
			return Direct{}, fmt.Errorf("direct address %q: want an IP address at which others reach this machine, as 203.0.113.7", text)
		}
		d.Public = append(d.Public, a.Unmap())
	}
	if len(d.Public) > maxPublic {
		return Direct{}, fmt.Errorf("%d direct addresses: a machine has at most %d", len(d.Public), maxPublic)
	}
	return d, nil
}

func parsePorts(s string) (first, last uint16, err error) {
	if s == "" {
		return 0, 0, nil
	}
	from, to, is := strings.Cut(s, "-")
	if !is {
		to = from
	}
	a, err := strconv.ParseUint(from, 10, 16)
	b, err2 := strconv.ParseUint(to, 10, 16)
	if err != nil || err2 != nil || a == 0 || a > b {
		return 0, 0, fmt.Errorf("direct ports %q: want FIRST-LAST, as 40000-40099", s)
	}
	return uint16(a), uint16(b), nil
}
