// Package netlab is a small internet inside one process, for tests and benchmarks:
// hosts in network namespaces, home routers that translate addresses, firewalls,
// and links with delay, jitter, loss, rate and queue, all of which can change
// while programs run over them.
//
//	lab := netlab.New(t)
//	inet := lab.Internet()
//	relay := inet.Host("relay")
//	home := inet.NAT(netlab.PortRestricted)
//	laptop := home.Host("laptop")
//	home.Set(netlab.WAN{Delay: 25 * time.Millisecond, Loss: 0.01})
//	out, err := laptop.Command(ctx, "ping", "-c1", relay.IPv4().String()).CombinedOutput()
//
// # How it works
//
// Every host is an anonymous network namespace with one Ethernet interface, eth0.
// Everything between the interfaces, routing, translation, filtering and the
// links, happens in user space, on one thread of this process:
//
//	program -> eth0 of host A =TAP=> tap, firewall, link up -> network -> (NAT: link up -> outer network)
//	program <- eth0 of host B <=TAP= link down, firewall, tap <- network <-------------'
//
// The kernel's own parts would have been less exact. Its masquerading is none of
// the four behaviours of RFC 4787 as soon as two flows want one port, and a full
// cone it does not have at all; and not every kernel has an emulator of links.
// What remains of the kernel are the hosts' own stacks, as they are in reality.
//
// The interfaces offload segmentation as a network card does, so that a whole
// train of up to 64 KiB passes in one piece. A link takes trains apart as far as
// its rate and its losses demand: losses, rate and queue are per packet of the
// wire, and departures are exact to 0.25 ms of the link's rate.
//
// # What is left behind
//
// Nothing: namespaces without a name and interfaces end with the last process that
// holds them. At the end of a test, also of one that panics, every process inside
// the lab's namespaces is killed. When this process itself was killed, the next
// lab on the machine finds what still runs in its namespaces by a mark and kills it.
//
// # Limits
//
// IPv4 and IPv6 with TCP and UDP; NATs pass nothing else, and no fragments. There
// are no ICMP errors from routers, and a router has no address of its own inside:
// what nobody owns is dropped in silence, the hardest case for a program.
// Packets are counted and delayed by their IP length, without Ethernet's 38 bytes.
//
// It needs Linux, root, /dev/net/tun and the programs ip and nsenter.
package netlab
