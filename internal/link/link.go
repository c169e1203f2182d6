// Package link carries datagrams between the two ends of a session.
package link

// Headroom is the room in bytes that the link needs in front of every datagram
// it is to send: a ChannelData header (RFC 8656, section 12.4).
const Headroom = 4
