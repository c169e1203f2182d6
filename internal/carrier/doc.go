// Package carrier dials a relay from an endpoint over everything but plain UDP:
// TCP, TLS, DTLS and WebSocket. It carries frames and understands none; parsing is
// the business of relay/guard, allocating that of internal/link.
//
//	kind   what is on the wire                          read it through
//	tcp    frames one behind the other                  guard.NewConn
//	tls    the same inside TLS 1.3                      guard.NewConn
//	ws     the same as bytes of binary WebSocket        guard.NewConn
//	       messages, inside TLS 1.3, path /relay
//	dtls   one frame in each DTLS 1.2 record            guard.NewDatagrams
//
// # Keys
//
// tls, dtls and ws end at a key whose hash the grant names (protocol 6.5): no name
// and no authority counts. tcp has no key; what it carries is sealed end to end.
//
// # Proxies
//
// The stream kinds go through the proxy that Target.Proxy names: http and https
// proxies by CONNECT, socks5 ones by their own protocol. A proxy sees an address,
// and TLS. It is trusted with nothing: the key is checked behind it.
//
// Every error names the leg that failed (Error.Leg), because "connection refused"
// alone sends people to the wrong machine.
package carrier
