// Package forward is the connections that an operator's own client forwards: it
// listens here or has the machine listen, and joins what connects to one channel
// of a session each (protocol 2.7, "Connections").
//
// A Set outlives its sessions. When one ends, the listeners here stay, whoever
// connects waits for the next one, and what the machine listened at is asked for
// again.
//
// # Who can connect
//
// A listener is on loopback unless the person names an address or asks for all of
// them (attack P2). Every user of this computer can connect to a port on loopback;
// where that is too many, the listener is a socket in a file, which belongs to this
// user alone from its first moment on (attack P3).
package forward
