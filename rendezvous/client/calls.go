package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// MaxWait is the longest that one Request call waits at the server. It stays
// below the idle limit of common middle boxes; callers ask again. Our choice.
const MaxWait = 25 * time.Second

// Health asks whether the server is up.
func (c *Client) Health(ctx context.Context) error {
	return c.quick(ctx, call{method: http.MethodGet, target: wire.PathHealth}, nil)
}

// Clock asks for the server's time, in whole seconds, and returns it with the
// moment in which this machine's clock should have shown the same: the middle of
// the call. Whoever has a wrong clock cannot log in, and gets this all the same.
func (c *Client) Clock(ctx context.Context) (server, here time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	began := time.Now()
	resp, err := c.send(ctx, call{method: http.MethodGet, target: wire.PathHealth})
	if err != nil {
		return time.Time{}, time.Time{}, err
	}
	defer resp.Body.Close()
	if server, err = http.ParseTime(resp.Header.Get("Date")); err != nil {
		return time.Time{}, time.Time{}, refusal.New(refusal.ProtocolError, "the server does not say what time it is")
	}
	return server, began.Add(time.Since(began) / 2), nil
}

// Setup founds a team with the one-time code that the server printed.
func (c *Client) Setup(ctx context.Context, req wire.SetupRequest) error {
	return c.quick(ctx, call{method: http.MethodPost, target: wire.PathSetup, body: req}, nil)
}

// Roster returns the updates after version from, as many as fit one answer, and
// the root when from is 0. The caller asks again until there are none, and
// verifies every one (roster.State.Apply).
func (c *Client) Roster(ctx context.Context, cred Credentials, from uint64) (wire.RosterNews, error) {
	var news wire.RosterNews
	err := c.quick(ctx, call{method: http.MethodGet, target: wire.PathRoster + "?from=" + strconv.FormatUint(from, 10), cred: &cred}, &news)
	return news, err
}

// PublishRoster offers the next version of the roster.
func (c *Client) PublishRoster(ctx context.Context, cred Credentials, req wire.RosterPublish) error {
	return c.quick(ctx, call{method: http.MethodPost, target: wire.PathRoster, body: req, cred: &cred, proof: about(wire.ActRoster)}, nil)
}

// OfferRoster offers the next version of the roster without a login: the owners'
// signatures in it are the proof. It is for owners who have no operator key that
// still works. What none of the team's owners signed is not_found.
func (c *Client) OfferRoster(ctx context.Context, req wire.RosterPublish) error {
	return c.quick(ctx, call{method: http.MethodPost, target: wire.PathOffer, body: req}, nil)
}

// PublishToken tells the server of a join token, whose uses it will count.
func (c *Client) PublishToken(ctx context.Context, cred Credentials, token statement.Signed) error {
	return c.quick(ctx, call{method: http.MethodPost, target: wire.PathTokens, body: wire.TokenPublish{Token: token}, cred: &cred, proof: about(wire.ActToken)}, nil)
}

// Tokens lists the team's join tokens, newest first.
func (c *Client) Tokens(ctx context.Context, cred Credentials) ([]wire.TokenInfo, error) {
	var list wire.TokenList
	err := c.quick(ctx, call{method: http.MethodGet, target: wire.PathTokens, cred: &cred}, &list)
	return list.Tokens, err
}

// Agents lists one page of the team's agents by name. after is "" for the first
// page and then the Next of the page before; "" as Next ends the list.
func (c *Client) Agents(ctx context.Context, cred Credentials, after string) (wire.AgentList, error) {
	target := wire.PathAgents
	if after != "" {
		target += "?after=" + url.QueryEscape(after)
	}
	var list wire.AgentList
	err := c.quick(ctx, call{method: http.MethodGet, target: target, cred: &cred}, &list)
	return list, err
}

// DeleteAgent removes an agent from the registry. Its certificate stays valid
// until the roster revokes its key or it expires.
func (c *Client) DeleteAgent(ctx context.Context, cred Credentials, agent key.ID) error {
	p := about(wire.ActAgent)
	p.Context.Agent = agent
	target := strings.Replace(wire.PathAgent, "{agent}", agent.String(), 1)
	return c.quick(ctx, call{method: http.MethodDelete, target: target, cred: &cred, proof: p}, nil)
}

// OpenSession asks for a session. A reply with Pending waits for approvals: the
// caller waits with Request and then calls again with the same body.
func (c *Client) OpenSession(ctx context.Context, cred Credentials, open wire.SessionOpen) (wire.SessionReply, error) {
	p, err := aboutRequest(wire.ActSession, cred, open.Request)
	if err != nil {
		return wire.SessionReply{}, err
	}
	var reply wire.SessionReply
	err = c.quick(ctx, call{method: http.MethodPost, target: wire.PathSessions, body: open, cred: &cred, proof: p}, &reply)
	return reply, err
}

// RenewRelay asks for the next relay credential of a session that one opened with
// request (protocol 6.2). ticket is from the lease of the last credential.
func (c *Client) RenewRelay(ctx context.Context, cred Credentials, request, ticket statement.Signed) (wire.RelayRenewed, error) {
	p, err := aboutRequest(wire.ActRenew, cred, request)
	if err != nil {
		return wire.RelayRenewed{}, err
	}
	var reply wire.RelayRenewed
	target := strings.Replace(wire.PathRelay, "{session}", p.Session.String(), 1)
	err = c.quick(ctx, call{method: http.MethodPost, target: target, body: wire.RelayWant{Ticket: ticket}, cred: &cred, proof: p}, &reply)
	return reply, err
}

// SessionEnd asks for an agent's word on the end of one's own session there. The
// caller verifies what it gets: the server can withhold it, and should not be able to
// do more.
func (c *Client) SessionEnd(ctx context.Context, cred Credentials, session wire.SessionID, agent key.ID) (wire.SessionEnded, error) {
	var ended wire.SessionEnded
	target := strings.Replace(wire.PathEnd, "{session}", session.String(), 1) + "?agent=" + agent.String()
	err := c.quick(ctx, call{method: http.MethodGet, target: target, cred: &cred}, &ended)
	return ended, err
}

// CheckRelays asks for a credential to find out with which relays work from here.
func (c *Client) CheckRelays(ctx context.Context, cred Credentials) (wire.RelayChecked, error) {
	var reply wire.RelayChecked
	err := c.quick(ctx, call{method: http.MethodPost, target: wire.PathRelayCheck, cred: &cred, proof: about(wire.ActCheck)}, &reply)
	return reply, err
}

// aboutRequest is a proof's context for an act on one's own session request.
func aboutRequest(action string, cred Credentials, request statement.Signed) (*wire.Proof, error) {
	own := func(key.ID) (statement.Verifier, error) { return cred.Key.Public(), nil }
	req, _, err := statement.Open[wire.Request](request, own)
	if err != nil {
		return nil, err
	}
	p := about(action)
	p.Session = req.Session
	p.Context.Agent = req.Agent
	p.Context.RequestHash = request.Hash()
	return p, nil
}

// Requests lists the team's requests that need approval, newest first.
func (c *Client) Requests(ctx context.Context, cred Credentials) ([]wire.RequestInfo, error) {
	var list wire.RequestList
	err := c.quick(ctx, call{method: http.MethodGet, target: wire.PathRequests, cred: &cred}, &list)
	return list.Requests, err
}

// Request returns one request. With wait > 0 the server answers when the request
// is no longer pending, or after wait, at most MaxWait.
func (c *Client) Request(ctx context.Context, cred Credentials, hash key.Hash, wait time.Duration) (wire.RequestInfo, error) {
	target := strings.Replace(wire.PathRequest, "{request}", hash.String(), 1)
	if seconds := int(min(wait, MaxWait) / time.Second); seconds > 0 {
		target += "?wait=" + strconv.Itoa(seconds)
	}
	var info wire.RequestInfo
	err := c.within(ctx, CallTimeout+MaxWait, call{method: http.MethodGet, target: target, cred: &cred}, &info)
	return info, err
}

// Approve delivers a signed decision, which may also be a denial.
func (c *Client) Approve(ctx context.Context, cred Credentials, hash key.Hash, approval statement.Signed) (wire.RequestInfo, error) {
	return c.decide(ctx, cred, wire.PathApprovals, hash, wire.ActApprove, wire.ApprovalPublish{Approval: approval})
}

// Cancel withdraws one's own request.
func (c *Client) Cancel(ctx context.Context, cred Credentials, hash key.Hash) (wire.RequestInfo, error) {
	return c.decide(ctx, cred, wire.PathCancel, hash, wire.ActCancel, nil)
}

func (c *Client) decide(ctx context.Context, cred Credentials, path string, hash key.Hash, action string, body any) (wire.RequestInfo, error) {
	p := about(action)
	p.Context.RequestHash = hash
	var info wire.RequestInfo
	err := c.quick(ctx, call{method: http.MethodPost, target: strings.Replace(path, "{request}", hash.String(), 1), body: body, cred: &cred, proof: p}, &info)
	return info, err
}

// AuditExport streams the team's log in the format of package audit. The caller
// bounds what it reads, and closes.
func (c *Client) AuditExport(ctx context.Context, cred Credentials) (io.ReadCloser, error) {
	resp, err := c.send(ctx, call{method: http.MethodGet, target: wire.PathAudit, cred: &cred, proof: about(wire.ActAudit)})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Checkpoint returns the newest checkpoint and the proof that it extends the log
// of from entries.
func (c *Client) Checkpoint(ctx context.Context, cred Credentials, from uint64) (wire.AuditGossip, error) {
	var gossip wire.AuditGossip
	err := c.quick(ctx, call{method: http.MethodGet, target: wire.PathCheckpoint + "?from=" + strconv.FormatUint(from, 10), cred: &cred}, &gossip)
	return gossip, err
}

// Cosign tells the server that this operator has verified a checkpoint.
func (c *Client) Cosign(ctx context.Context, cred Credentials, k wire.Cosignature) error {
	return c.quick(ctx, call{method: http.MethodPost, target: wire.PathCheckpoint, body: k, cred: &cred, proof: about(wire.ActCosign)}, nil)
}

func about(action string) *wire.Proof { return &wire.Proof{Context: wire.ProofContext{Action: action}} }

func (c *Client) quick(ctx context.Context, k call, reply any) error {
	return c.within(ctx, CallTimeout, k, reply)
}

func (c *Client) within(ctx context.Context, limit time.Duration, k call, reply any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return c.do(ctx, k, reply)
}
