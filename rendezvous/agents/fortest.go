package agents

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// ConnsForTest is how many channels there are, also those that have not registered.
func (d *Desk) ConnsForTest() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conns
}

// AttachForTest is the last step of a registration that was verified while state was
// in force, whatever has happened since.
func (d *Desk) AttachForTest(ctx context.Context, ch *channel.Conn, t *team.Team, agent key.ID, state chain.State) error {
	_, err := d.attach(ctx, ch, &newcomer{kid: agent, team: t, state: state}, time.Now())
	return err
}

// NotableForTest reports whether a registration of agent would be an entry in the log.
func NotableForTest(tx *store.Tx, agent key.ID, frame wire.Register, reg wire.Registration, now time.Time) (bool, error) {
	return (&newcomer{kid: agent, frame: frame, reg: reg}).notable(tx, now)
}

// NoteForTest notes that the agent was here as the heartbeat at now would.
func (c *Conn) NoteForTest(ctx context.Context, now time.Time) error { return c.note(ctx, now) }

// NoteNextForTest makes the next heartbeat's answer one that is noted.
func (c *Conn) NoteNextForTest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noted = time.Time{}
}

// HeardForTest is when the agent said something last.
func (c *Conn) HeardForTest() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard
}
