package carrier

import (
	"context"
	"net"

	"github.com/tucdesk/tucdesk/relay/hop"
)

// webSocket asks the server behind the pinned key for its relay (protocol 6.5).
func (t Target) webSocket(ctx context.Context) (net.Conn, Leg, error) {
	conn, leg, err := t.secure(ctx, hop.ProtoHTTP)
	if err != nil {
		return nil, leg, err
	}
	ws, err := hop.DialWebSocket(ctx, conn, t.Addr)
	return ws, LegUpgrade, err
}
