package link

import (
	"net/netip"
	"time"

	"github.com/tucdesk/tucdesk/internal/portmap"
)

// mapAfter is how long a link stands before a router is asked: nobody waits for
// the answer, and most sessions that run one command are over by then. Our choice.
const mapAfter = 2 * time.Second

// keepMapped has a port forwarded to the IPv4 socket for the life of the link.
func (l *Link) keepMapped() {
	select {
	case <-l.entitled:
	case <-l.ctx.Done():
	}
	if !sleep(l.ctx, mapAfter) {
		return
	}
	portmap.Run(l.ctx, portmap.Config{
		Port: l.socks[0].port(), Logger: l.cfg.Logger,
		Changed: func(a netip.AddrPort) {
			l.mapped.Store(&a)
			l.changed()
		},
	}, l.remap)
}
