// Package remote is sessions as the operator's terminal sees them: it asks for one,
// waits for the approvals that it needs, opens it and joins it to our own input
// and output until it ends. Its verbs are ssh and exec.
package remote

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/request"
	"github.com/tucdesk/tucdesk/operator/screen"
)

// want is what a person asked for.
type want struct {
	host    string
	action  wire.Action
	params  wire.Params
	reason  string
	noMap   bool        // never ask the router to forward a port
	noWait  bool        // withdraw and exit with "approval pending" rather than wait
	predict screen.Mode // whether keys are shown before their echo
}

// signedRequest is one request with the handshake that only it can begin: the
// request covers the hash of the ephemeral key.
type signedRequest struct {
	request wire.Request
	signed  statement.Signed
	shake   *handshake.Operator
	machine account.Machine
	asked   time.Time // when it was last sent
}

// opened is a session that stands, and what may be told about it.
type opened struct {
	*session.Conn
	id    wire.SessionID
	renew renewal       // of its place on the relay
	asked time.Time     // when the request that was answered left us
	setup time.Duration // from then until READY
	since time.Time     // when it stood

	trail     trail
	followers sync.WaitGroup // of the session's ways
}

// connect opens a session, waiting for approvals where the policy asks for
// them. What this client knows may be older than what the server and the machine
// know, so one refusal for that reason is answered by learning and trying again.
func connect(ctx context.Context, a *account.Account, io *cli.IO, w want) (*opened, error) {
	conn, err := tryConnect(ctx, a, io, w)
	switch refusal.Of(err) {
	case refusal.RosterBehind, refusal.PolicyMismatch, refusal.NotFound, refusal.UnknownAgent:
		if again := a.Refresh(ctx); again != nil {
			return nil, err
		}
		if _, again := a.FetchAgents(ctx); again != nil {
			return nil, err
		}
		conn, err = tryConnect(ctx, a, io, w)
	}
	return conn, nameVariables(err, a.Rules, w.params.Env)
}

func tryConnect(ctx context.Context, a *account.Account, io *cli.IO, w want) (*opened, error) {
	r, err := first(ctx, a, w, 0)
	if err != nil {
		return nil, err
	}
	ways := dialAhead(a, w)
	reply, r, err := ask(ctx, a, io, r, w)
	defer r.shake.Close() // forgets the ephemeral keys of a session that did not come to be
	if err != nil {
		_ = ways.Close()
		return nil, err
	}
	return establish(ctx, a, r, reply, ways)
}

// first makes the first message of a session by what this client knows now. Its request
// lives at least that long.
func first(ctx context.Context, a *account.Account, w want, least time.Duration) (*signedRequest, error) {
	if err := a.Trusted(); err != nil {
		return nil, err
	}
	if err := a.State.CheckProgram(cli.Version()); err != nil { // the roster may be newer than when we began
		return nil, err
	}
	m, err := a.Find(ctx, w.host)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return prepare(a, m, w, max(least, lifetime(a, m, w, now)), now)
}

// lifetime is how long a request has to live, as far as this side can know: only
// the machine knows which file a command would run.
func lifetime(a *account.Account, m account.Machine, w want, now time.Time) time.Duration {
	q, err := a.Question(m, w.action, w.params)
	if err == nil && a.Rules != nil && a.Rules.Decide(&q, now).Approval.Count > 0 {
		return wire.GatedRequestLifetime
	}
	return wire.RequestLifetime
}

// prepare makes and signs a request that lives that long.
func prepare(a *account.Account, m account.Machine, w want, life time.Duration, now time.Time) (*signedRequest, error) {
	id := wire.NewSessionID()
	shake, err := handshake.NewOperator(handshake.OperatorConfig{Identity: a.Key, Session: id, RosterHash: a.State.Hash()})
	if err != nil {
		return nil, err
	}
	r := &signedRequest{shake: shake, machine: m}
	r.request = wire.Request{
		ID: wire.NewNonce(), IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(life)), Team: a.Member.Team, Session: id,
		Operator: a.Key.ID(), Agent: m.Cert.Agent.ID(), RosterVersion: a.State.Version(), RosterHash: a.State.Hash(),
		PolicyHash: a.State.PolicyHash(), Suites: []uint16{uint16(handshake.Hybrid), uint16(handshake.X25519)},
		Protocols: []uint16{wire.SessionProtocol}, Eph: shake.EphHash(), Action: w.action, Params: w.params, Reason: w.reason,
	}
	if r.signed, err = statement.Sign(a.Key, r.request); err != nil {
		shake.Close()
		return nil, err
	}
	return r, nil
}

// maxRounds is how often one command waits for approvals: the policy here, the one
// at the server and the machine may each ask for more than the one before. It
// bounds what a server that says approved and pending at once can make us do. Our choice.
const maxRounds = 8

// ask sends r, and sends it again each time it is approved. Where an approval turns
// out to be missing for a request that was not made to wait, people would have no
// time to look at it: it is withdrawn and another takes its place, made by the newest
// roster and policy, so that the next command is asked for once. The request that
// was answered is returned, with an error too; the caller closes its handshake.
func ask(ctx context.Context, a *account.Account, io *cli.IO, r *signedRequest, w want) (wire.SessionReply, *signedRequest, error) {
	for range maxRounds {
		reply, err := send(ctx, a, r)
		if err != nil || reply.Pending == nil {
			return reply, r, err
		}
		if life := r.request.ExpiresAt.Time().Sub(r.request.IssuedAt.Time()); life < wire.GatedRequestLifetime && !w.noWait {
			_ = withdraw(ctx, a, r.signed.Hash(), nil)
			if err := a.Refresh(ctx); err != nil {
				return reply, r, err
			}
			longer, err := first(ctx, a, w, wire.GatedRequestLifetime)
			if err != nil {
				return reply, r, err
			}
			r.shake.Close()
			r = longer
			continue
		}
		if err := wait(ctx, a, io, r, *reply.Pending, w.noWait); err != nil {
			return reply, r, err
		}
		if err := a.SignIn(ctx); err != nil { // the JWT may be older than the wait was long
			return reply, r, err
		}
	}
	hash := r.signed.Hash()
	return wire.SessionReply{}, r, withdraw(ctx, a, hash, refusal.New(refusal.ApprovalPending, "request %s still waits after %d approvals", hash.String()[:request.ShortHash], maxRounds))
}

// send asks for the session once.
func send(ctx context.Context, a *account.Account, r *signedRequest) (wire.SessionReply, error) {
	m1, err := r.shake.Open(r.signed.Hash())
	if err != nil {
		return wire.SessionReply{}, err
	}
	r.asked = time.Now()
	return a.Server.OpenSession(ctx, a.Credentials, wire.SessionOpen{Request: r.signed, Open: m1})
}

const (
	pollWait  = 25 * time.Second // how long one question about a waiting request stays open
	pollEvery = time.Second      // between two questions, whatever the server answers; our choice
)

// wait shows what the request waits for until it is decided. When it gives up,
// for Ctrl-C too, it withdraws the request: the ephemeral key that the request
// was signed for goes with this process, so nobody could use an approval.
func wait(ctx context.Context, a *account.Account, io *cli.IO, r *signedRequest, info wire.RequestInfo, noWait bool) error {
	hash := r.signed.Hash()
	short := hash.String()[:request.ShortHash]
	w := request.Waiting{Info: info, Request: r.request, Hash: hash, Host: r.machine.Cert.Name}
	io.Say("request %s waits for an approval: %s on %s", short, w.Command(), w.Host)
	io.Say("  needs %s, until %s", terminal.Escape(request.Needs(info)), cli.When(r.request.ExpiresAt.Time()))
	if noWait {
		return withdraw(ctx, a, hash, notWaiting())
	}
	io.Say("  an approver runs: tucdesk requests approve %s", short)
	for {
		if info.State == wire.RequestApproved {
			io.Say("approved")
			return nil
		}
		if err := request.Settled(info.State, short); err != nil {
			return err
		}
		if !time.Now().Before(r.request.ExpiresAt.Time()) { // whatever the server says
			return refusal.New(refusal.ApprovalExpired, "nobody approved in time")
		}
		next, err := poll(ctx, a, hash)
		switch refusal.Of(err) {
		case refusal.Unreachable, refusal.Unavailable:
			continue // the server may be restarting; the request is in its database
		}
		if err != nil {
			told := cancel(ctx, a, hash)
			if ctx.Err() != nil {
				sayStopped(io, r, short, told)
			}
			return err
		}
		info = next
	}
}

// sayStopped says after Ctrl-C what became of the request. A terminal has shown ^C on
// the line that it is at.
func sayStopped(io *cli.IO, r *signedRequest, short string, told error) {
	if io.In != nil && terminal.IsTerminal(io.In) {
		io.Say("")
	}
	if told != nil {
		io.Say("request %s is left: the server could not be told; nobody can use it, and it ends at %s", short, cli.When(r.request.ExpiresAt.Time()))
		return
	}
	io.Say("request %s is withdrawn", short)
}

// notWaiting is how --nowait ends. To look for the request would be in vain: it is gone.
func notWaiting() error {
	return &cli.Error{Err: refusal.New(refusal.ApprovalPending, "only a client that waits can use an approval; the request is withdrawn"), Hints: []string{
		"the same without --nowait waits until somebody has approved, and runs it then"}}
}

// poll asks once how a request stands. It takes at least pollEvery, so that a
// server which answers at once cannot make this client spin.
func poll(ctx context.Context, a *account.Account, hash key.Hash) (wire.RequestInfo, error) {
	pause := time.NewTimer(pollEvery)
	defer pause.Stop()
	var info wire.RequestInfo
	err := a.SignIn(ctx)
	if err == nil {
		info, err = a.Server.Request(ctx, a.Credentials, hash, pollWait)
	}
	if err == nil && info.State != wire.RequestPending {
		return info, nil
	}
	select {
	case <-pause.C:
	case <-ctx.Done():
		return info, ctx.Err()
	}
	return info, err
}

// withdrawLimit bounds the farewell to the server; our choice.
const withdrawLimit = 3 * time.Second

// withdraw cancels a request that nobody waits for any more and returns cause.
// It also works after Ctrl-C. When it fails, the request stays until it expires.
func withdraw(ctx context.Context, a *account.Account, hash key.Hash, cause error) error {
	_ = cancel(ctx, a, hash)
	return cause
}

// cancel is withdraw for who tells what came of it.
func cancel(ctx context.Context, a *account.Account, hash key.Hash) error {
	late, done := context.WithTimeout(context.WithoutCancel(ctx), withdrawLimit)
	defer done()
	_, err := a.Server.Cancel(late, a.Credentials, hash)
	return err
}

// sameProtocol looks at the version that the machine has chosen, in the flags that it
// sealed (protocol 2.5). One that we did not offer is what a broken agent says.
func sameProtocol(flags uint32) error {
	if v := uint16(flags); v != wire.SessionProtocol {
		return refusal.New(refusal.NoCommonSuite, "we offer session protocol %d and the machine answers in %d: update tucdesk-agent there", wire.SessionProtocol, v)
	}
	return nil
}

// establish checks the machine's answer and opens the sealed session. The
// machine's key comes from its certificate, verified here, not from the answer. It
// takes ways over.
func establish(ctx context.Context, a *account.Account, r *signedRequest, reply wire.SessionReply, ways *link.Link) (*opened, error) {
	cert := r.machine.Cert
	m3, accepted, keys, err := r.shake.Confirm(reply.Accept, func(kid key.ID) (key.Public[key.Agent], error) {
		if kid != cert.Agent.ID() {
			return key.Public[key.Agent]{}, refusal.New(refusal.UnknownAgent, "another machine than %q answered", cert.Name)
		}
		return cert.Agent, nil
	})
	if err != nil {
		_ = ways.Close()
		return nil, err
	}
	err = sameProtocol(accepted.Flags)
	if accepted.GrantHash != reply.Grant {
		err = refusal.New(refusal.GrantMismatch, "the server told the machine and us of two different grants")
	}
	if err != nil {
		keys.Erase()
		_ = ways.Close()
		return nil, err
	}
	conn, err := dialThrough(ctx, ways, reply.Relay, session.DialConfig{M3: m3, Keys: keys, Many: r.request.Action == wire.Forward, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	keepRelays(a.Home, reply.Relay.Endpoints)
	o := &opened{Conn: conn, id: r.request.Session, asked: r.asked, setup: time.Since(r.asked), since: time.Now()}
	o.renew.account, o.renew.link, o.renew.conn, o.renew.request, o.renew.lease = a, ways, conn, r.signed, reply.Lease
	o.renew.ending = ending{session: r.request.Session, machine: cert.Agent}
	o.follow()
	return o, nil
}
