package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tucdesk/tucdesk/internal/embed4"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// What no yes covers unless a rule that matches names the very target (attack P4). Decide
// answers so for a request with a target; who dials asks again for what a name has
// turned out to be.
var (
	// ErrMetadata is for addresses at which clouds hand out credentials to whoever asks
	// from inside; see Guarded.
	ErrMetadata = refusal.New(refusal.PolicyDenied, "no forward goes to cloud metadata unless a rule names the address itself")
	// ErrSocket is for every socket: too many of them run commands for whoever reaches them.
	ErrSocket = refusal.New(refusal.PolicyDenied, "no forward goes to a socket unless a rule names its path in targets")
	// ErrListen is for listeners beyond Loopback.
	ErrListen = refusal.New(refusal.PolicyDenied, "a forward listens on localhost unless a rule names the address")
	// ErrListenSocket is for listeners at a path: programs trust whoever listens there.
	ErrListenSocket = refusal.New(refusal.PolicyDenied, "no forward listens at a socket unless a rule names its path in targets")
)

// never are addresses of machines' own clouds: link-local ones, where most have their
// metadata service and its like (AWS also for containers, 169.254.170.2 and .23; Tencent
// 169.254.0.23; Scaleway 169.254.42.42; OpenStack fe80::a9fe:a9fe), and those of clouds that
// have it elsewhere, as the document named beside each has it. AWS and Oracle keep more
// such services under the prefix, so all of it is closed. There is no register of them: a
// cloud that is not here needs targets in the rules for forwards.
var never = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fd00:ec2::/32"),         // AWS, ::254 and for pods ::23; EC2 User Guide "IMDS", EKS "Pod Identity Agent"
	netip.MustParsePrefix("fd20:ce::254/128"),      // Google; Compute Engine "About VM metadata"
	netip.MustParsePrefix("fd00:42::42/128"),       // Scaleway; cloud-init, datasource Scaleway
	netip.MustParsePrefix("fd00:c1::/32"),          // Oracle, ::a9fe:a9fe; OCI SDK, instance principals
	netip.MustParsePrefix("fd00:a9fe:a9fe::1/128"), // Akamai (Linode); Metadata Service API, cloud-init, datasource Akamai
	netip.MustParsePrefix("fd00:100::100:200/128"), // Alibaba; cloud-init, datasource AliYun
	netip.MustParsePrefix("100.100.100.200/32"),    // Alibaba; ECS "Instance metadata"
	netip.MustParsePrefix("168.63.129.16/32"),      // Azure; "What is IP address 168.63.129.16"
	netip.MustParsePrefix("192.0.0.192/32"),        // Oracle; Compute Classic "Retrieving instance metadata"
}

// Guarded reports whether an address is one that only a rule which names the
// target opens.
func Guarded(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, n := range never {
		if n.Contains(addr) {
			return true
		}
	}
	return slices.ContainsFunc(embed4.Of(addr), Guarded) // a router may deliver there
}

// Loopback reports a host that a listener may have without a rule that names it, as
// with sshd's "GatewayPorts no": all words for "here", and nothing said, in every spelling
// that Target takes. Everywhere is none of them: who asks for it is told no, and not that
// it is done while it is not.
func Loopback(host string) bool {
	if host == "" {
		return true
	}
	host = plainHost(host)
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && (addr.Unmap() == here4 || addr == netip.IPv6Loopback())
}

// Everywhere is the host of a listener on all addresses of the machine, as operators ask
// for it. Rules have it as 0.0.0.0, which is the same to who listens.
const Everywhere = "*"

var here4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// closed is why q's target is not reached although rules allow it and none names it, or
// nil. A name is judged when it was looked up, by who dials.
func (q *Request) closed() *refusal.Error {
	if q.Target == "" {
		return nil
	}
	socket := q.Target[0] == '/'
	host, _, _ := cutPort(q.Target)
	switch {
	case q.Action == ForwardLocal && socket:
		return ErrSocket
	case q.Action == ForwardRemote && socket:
		return ErrListenSocket
	case q.Action == ForwardRemote && !Loopback(host):
		return ErrListen
	case q.Action != ForwardLocal:
		return nil
	}
	if addr, err := netip.ParseAddr(host); err == nil && Guarded(addr) {
		return ErrMetadata
	}
	return nil
}

// DialTarget is Target for what a forward reaches, which has a port.
func DialTarget(host string, port uint16) (text string, ok bool) {
	text, ok = Target(host, port)
	return text, ok && port > 0
}

// ListenTarget is Target for where a forward listens: rules know every word for loopback
// as "localhost", and Everywhere as 0.0.0.0. Port 0 is any.
func ListenTarget(host string, port uint16) (text string, ok bool) {
	switch {
	case Loopback(host):
		host = "localhost"
	case host == Everywhere:
		host = netip.IPv4Unspecified().String()
	}
	return Target(host, port)
}

// ReadTarget is what a person writes for the target of ForwardLocal or ForwardRemote, as
// requests have it: HOST:PORT, an IPv6 address in brackets, or the path of a socket; to
// listen also PORT alone, which is on loopback, and "*:PORT" and ":PORT", which are Everywhere.
// Refusals: BadArgument.
func ReadTarget(a Action, text string) (string, error) {
	bad := refusal.New(refusal.BadArgument, "%q is no target: write HOST:PORT, an IPv6 address in brackets, or the absolute path of a socket", text)
	if strings.HasPrefix(text, "/") {
		target, ok := SocketTarget(text)
		if !ok {
			return "", bad
		}
		return target, nil
	}
	read := DialTarget
	if a == ForwardRemote {
		if read = ListenTarget; !strings.Contains(text, ":") {
			text = "localhost:" + text
		} else if text[0] == ':' {
			text = Everywhere + text
		}
	}
	host, number, ok := cutPort(text)
	port, err := strconv.ParseUint(number, 10, 16)
	if !ok || err != nil {
		return "", bad
	}
	target, ok := read(host, uint16(port))
	if !ok {
		return "", bad
	}
	return target, nil
}
