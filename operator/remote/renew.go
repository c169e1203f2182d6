package remote

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
)

// renewal keeps an open session's place on the relay, which would end with its
// credential (protocol 6.2), and asks whether a session that is silent has ended.
type renewal struct {
	account *account.Account // its from keep until leave: nobody else may use it meanwhile
	one     sync.Mutex       // serialises what this does with account, calls to the server among it
	link    *link.Link
	conn    *session.Conn
	request statement.Signed
	lease   wire.Lease
	ending
}

// keep renews the credential until leave is called, which waits. warn is told
// once what goes wrong, while there is time left to do something about it.
func (r *renewal) keep(warn func(string)) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var keeper sync.WaitGroup
	keeper.Go(func() {
		link.Keep(ctx, r.lease, r.next, func(left time.Duration, err error) {
			warn(fmt.Sprintf("this session cannot be prolonged and ends in %s: %s", left.Round(time.Second), terminal.Escape(err.Error())))
		})
	})
	keeper.Go(func() { r.watchEnd(ctx) })
	return func() {
		cancel()
		keeper.Wait()
	}
}

// next gets the next credential and shows it to the relay.
func (r *renewal) next(ctx context.Context, have wire.Lease) (wire.Lease, error) {
	r.one.Lock()
	defer r.one.Unlock()
	if err := r.account.SignIn(ctx); err != nil { // a JWT lives for minutes, a session for hours
		return wire.Lease{}, err
	}
	renewed, err := r.account.Server.RenewRelay(ctx, r.account.Credentials, r.request, have.Ticket)
	if err != nil {
		return wire.Lease{}, err
	}
	return renewed.Lease, r.link.Renew(ctx, renewed.Relay)
}

// warn tells the person something while a session runs. On a raw terminal a line
// end is no return, and the line of the program stays apart from ours.
func (p *player) warn(text string) {
	if !p.raw {
		p.io.Say("warning: %s", text)
		return
	}
	p.remark(text)
}

// remark is a line of ours while a session runs.
func (p *player) remark(text string) {
	if !p.raw {
		p.io.Say("tucdesk: %s", text)
		return
	}
	_, _ = io.WriteString(p.talk(), "\r\ntucdesk: "+text+"\r\n")
}
