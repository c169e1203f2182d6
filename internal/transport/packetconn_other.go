//go:build !linux

package transport

import "net"

// probe is empty: only Linux can be asked to segment.
type probe struct{}

func (c *packetConn) conn() net.PacketConn { return c }
func (c *packetConn) release()             { c.stop() }
