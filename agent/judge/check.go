package judge

import (
	"path/filepath"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/drive"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// checkRequest compares the request with the handshake message beside it, with
// this agent and with the clock.
func (j *Judge) checkRequest(q *Question, now time.Time) error {
	r := &q.Request
	switch {
	case r.Eph != q.Open.EphHash():
		return refusal.New(refusal.EphMismatch, "the request was signed for another ephemeral key")
	case q.Open.RequestHash != q.Hash, q.Open.Session != [16]byte(r.Session), q.Open.RosterHash != r.RosterHash:
		return refusal.New(refusal.BadMessage, "OPEN and the request beside it do not belong together")
	case len(r.Suites) == 0 || r.Suites[0] != uint16(q.Open.Suite):
		return refusal.New(refusal.NoCommonSuite, "OPEN begins with another suite than the signed request")
	case !slices.Contains(r.Protocols, wire.SessionProtocol):
		return noProtocol(r.Protocols)
	case r.Agent != j.cfg.Agent:
		return refusal.New(refusal.WrongAgent, "the request is for another agent")
	case r.Team != j.cfg.Team:
		return refusal.New(refusal.WrongTeam, "the request is of another team")
	}
	return inTime("request", r.IssuedAt, r.ExpiresAt, wire.GatedRequestLifetime, now)
}

// noProtocol says which end is the older one: nobody else can tell.
func noProtocol(offered []uint16) error {
	older := "update the operator's program"
	if len(offered) > 0 && slices.Min(offered) > wire.SessionProtocol {
		older = "update tucdesk-agent on this machine"
	}
	return refusal.New(refusal.NoCommonSuite, "the operator offers session protocols %v and this agent speaks %d: %s", offered[:min(len(offered), 8)], wire.SessionProtocol, older)
}

// inTime checks a statement's times against this clock. Only issue times get an
// allowance: a late end would keep a withdrawn right alive.
func inTime(what string, issued, expires wire.Millis, longest time.Duration, now time.Time) error {
	switch {
	case issued.Time().After(now.Add(wire.ClockSkew)):
		return refusal.New(refusal.NotYetValid, "the %s is issued in the future: compare the clocks", what)
	case expires <= issued || expires.Time().Sub(issued.Time()) > longest:
		return refusal.New(refusal.BadTime, "the %s lives more than 0 and at most %v", what, longest)
	case !now.Before(expires.Time()):
		return refusal.New(refusal.Expired, "the %s expired at %s", what, expires.Time().Format(time.RFC3339))
	}
	return nil
}

// checkGrant demands the rendezvous' consent to this very request.
func (j *Judge) checkGrant(q *Question, now time.Time) error {
	t, _ := j.cfg.Keeper.Get()
	grant, _, err := statement.Open[wire.Grant](q.Offer.Grant, t.Roster.FindGrant)
	if err != nil {
		return err
	}
	switch {
	case grant.RequestHash != q.Hash || grant.Agent != j.cfg.Agent || grant.Team != j.cfg.Team:
		return refusal.New(refusal.GrantMismatch, "the grant is for another request")
	case len(grant.Relay.Endpoints) > wire.MaxRelayEndpoints:
		return refusal.New(refusal.TooMany, "the grant lists %d relays; at most %d", len(grant.Relay.Endpoints), wire.MaxRelayEndpoints)
	}
	q.Grant = grant
	return inTime("grant", grant.IssuedAt, grant.ExpiresAt, wire.GrantLifetime, now)
}

// resolve finds out what the request means on this host: which user, which
// folder, which file (protocol 4.3, "command identity").
func (q *Question) resolve() error {
	r := &q.Request
	but := r.Params
	but.User = ""
	switch n := len(r.Params.Argv); {
	case !slices.Contains([]wire.Action{wire.Shell, wire.Exec, wire.Copy, wire.Forward, wire.Ping}, r.Action):
		return refusal.New(refusal.BadArgument, "this version of the agent knows no such action")
	case (r.Action == wire.Copy || r.Action == wire.Forward) && !but.Empty():
		return refusal.New(refusal.BadArgument, "copying and forwarding take no parameters but the user")
	case r.Action == wire.Exec && n == 0:
		return refusal.New(refusal.BadArgument, "exec has no arguments")
	case r.Action == wire.Shell && n > 1:
		return refusal.New(refusal.BadArgument, "shell has more than one command line")
	case r.Params.Keep != nil:
		if err := checkKeep(r); err != nil {
			return err
		}
	case r.Action == wire.Ping && !r.Params.Empty():
		return refusal.New(refusal.BadArgument, "ping runs nothing and takes no parameters")
	}
	for _, arg := range r.Params.Argv {
		if slices.Contains(arg, 0) {
			return refusal.New(refusal.BadArgument, "an argument holds a zero byte")
		}
	}
	var err error
	if r.Action == wire.Ping { // nothing runs in it, so it needs no rights
		q.Account, err = process.Nobody()
		return err
	}
	if q.Account, err = process.LookUp(r.Params.User); err != nil {
		return err
	}
	q.Dir = q.Account.Home
	if cwd := string(r.Params.Cwd); cwd != "" {
		if !filepath.IsAbs(cwd) || !drive.Own(cwd) || slices.Contains(r.Params.Cwd, 0) {
			return refusal.New(refusal.BadArgument, "the working directory is not an absolute path on this host")
		}
		q.Dir = cwd
	}
	if err := process.CheckVariables(pair.Variables(r.Params.Env)); err != nil {
		return err
	}
	if r.Action == wire.Exec {
		q.File, err = process.Resolve(string(r.Params.Argv[0]), q.Dir)
	}
	return err
}

// checkKeep refuses a kept shell whose parameters make no sense, before anything is
// looked up by its name. One without a terminal would have no screen to come back to.
func checkKeep(r *wire.Request) error {
	k := r.Params.Keep
	but := r.Params
	but.User, but.Keep, but.TTY = "", nil, false
	switch {
	case r.Action != wire.Shell || !k.Valid():
		return refusal.New(refusal.BadArgument, "only a shell can be kept, under a name of at most 32 letters, digits, dots, dashes and underscores")
	case k.Runs() != r.Params.TTY:
		return refusal.New(refusal.BadArgument, "a kept shell has a terminal, and listing or ending some has none")
	case k.Do != wire.KeepOpen && !but.Empty():
		return refusal.New(refusal.BadArgument, "%s takes no parameters but user and name", k.Do)
	case len(r.Params.Argv) > 1:
		return refusal.New(refusal.BadArgument, "shell has more than one command line")
	}
	return nil
}

// discreet keeps from those who have no right here what files there are: the agent
// may be root and see all of them. Who could run a program of that name may hear
// why it does not run.
func (j *Judge) discreet(q *Question, refused error, now time.Time) error {
	if code := refusal.Of(refused); code != refusal.CommandNotFound && code != refusal.NotExecutable {
		return refused
	}
	t, err := j.cfg.Keeper.Usable(now)
	if err != nil {
		return err
	}
	cert, err := t.Roster.VerifyAgent(j.cfg.Token, j.cfg.Certificate, now)
	if err != nil {
		return err
	}
	asked := j.policyRequest(q, q.Operator, cert)
	asked.Unresolved = true
	if d := t.Rules.Decide(asked, now); d.Effect == policy.Deny {
		return d.Err()
	}
	return refused
}
