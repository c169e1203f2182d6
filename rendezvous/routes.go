package rendezvous

import (
	"net/http"

	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
)

// routes is the whole API. The matrix of attack K10 is generated from it.
func (s *Server) routes() []gate.Route {
	return []gate.Route{
		{Method: http.MethodGet, Path: wire.PathHealth, Handle: s.health},
		{Method: http.MethodGet, Path: wire.ControlPath, Handle: s.agents.Control},
		{Method: http.MethodPost, Path: wire.PathSetup, Limit: gate.LimitLarge, Handle: s.setup},
		{Method: http.MethodPost, Path: wire.PathLogin, Limit: gate.LimitSmall, Handle: s.login},
		{Method: http.MethodPost, Path: wire.PathLogout, Auth: gate.Proof, Role: policy.Viewer, Action: wire.ActLogout, Handle: s.logout},

		{Method: http.MethodGet, Path: wire.PathRoster, Auth: gate.Token, Role: policy.Viewer,
			Query: []string{"from"}, Handle: s.rosters.News},
		{Method: http.MethodPost, Path: wire.PathRoster, Auth: gate.Proof, Role: policy.Operator,
			Action: wire.ActRoster, Limit: gate.LimitLarge, Handle: s.rosters.Publish},
		{Method: http.MethodPost, Path: wire.PathOffer, Limit: gate.LimitLarge, Handle: s.rosters.Offer},

		{Method: http.MethodGet, Path: wire.PathTokens, Auth: gate.Token, Role: policy.Viewer, Handle: s.rosters.Tokens},
		{Method: http.MethodPost, Path: wire.PathTokens, Auth: gate.Proof, Role: policy.Operator,
			Action: wire.ActToken, Limit: gate.LimitSmall, Handle: s.rosters.PublishToken},

		{Method: http.MethodGet, Path: wire.PathAgents, Auth: gate.Token, Role: policy.Viewer,
			Query: []string{"after"}, Handle: s.agents.List},
		{Method: http.MethodDelete, Path: wire.PathAgent, Auth: gate.Proof, Role: policy.Admin,
			Action: wire.ActAgent, Subject: s.agents.Subject, Handle: s.agents.Delete},

		{Method: http.MethodPost, Path: wire.PathSessions, Auth: gate.Proof, Role: policy.Operator,
			Action: wire.ActSession, Limit: gate.LimitRequest, Subject: s.sessions.Subject, Handle: s.sessions.Open},
		{Method: http.MethodPost, Path: wire.PathRelay, Auth: gate.Proof, Role: policy.Operator,
			Action: wire.ActRenew, Limit: gate.LimitSmall, Subject: s.leases.Subject, Handle: s.leases.Renew},
		{Method: http.MethodGet, Path: wire.PathEnd, Auth: gate.Token, Role: policy.Operator,
			Query: []string{"agent"}, Handle: s.sessions.Ended},

		{Method: http.MethodPost, Path: wire.PathRelayCheck, Auth: gate.Proof, Role: policy.Viewer,
			Action: wire.ActCheck, Handle: s.leases.Check},

		{Method: http.MethodGet, Path: wire.PathRequests, Auth: gate.Token, Role: policy.Viewer, Handle: s.requests.List},
		{Method: http.MethodGet, Path: wire.PathRequest, Auth: gate.Token, Role: policy.Viewer,
			Query: []string{"wait"}, Handle: s.requests.Request},
		{Method: http.MethodPost, Path: wire.PathApprovals, Auth: gate.Proof, Role: policy.Operator,
			Action: wire.ActApprove, Limit: gate.LimitRequest, Subject: s.requests.Subject, Handle: s.requests.Approve},
		{Method: http.MethodPost, Path: wire.PathCancel, Auth: gate.Proof, Role: policy.Operator,
			Action: wire.ActCancel, Subject: s.requests.Subject, Handle: s.requests.Cancel},

		{Method: http.MethodGet, Path: wire.PathAudit, Auth: gate.Proof, Role: policy.Admin,
			Action: wire.ActAudit, Handle: s.logs.Export},
		{Method: http.MethodGet, Path: wire.PathCheckpoint, Auth: gate.Token, Role: policy.Viewer,
			Query: []string{"from"}, Handle: s.logs.Checkpoint},
		{Method: http.MethodPost, Path: wire.PathCheckpoint, Auth: gate.Proof, Role: policy.Viewer,
			Action: wire.ActCosign, Limit: gate.LimitSmall, Handle: s.logs.Cosign},
	}
}
