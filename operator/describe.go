package operator

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
)

// waiting is a request of somebody's that this client has opened itself: who
// signed it stands in the roster, and its hash is computed here. What the server
// says besides (state, rule, who agreed) is shown as the server's word.
type waiting struct {
	info    wire.RequestInfo
	request wire.Request
	hash    key.Hash
	email   string // of the requester, from the roster
	host    string // from the machine's verified certificate; "" when it is not known
}

// openRequest verifies what the server shows; hosts are from hostNames.
func (a *account) openRequest(info wire.RequestInfo, hosts map[key.ID]string, now time.Time) (waiting, error) {
	req, signer, err := statement.Open[wire.Request](info.Request, a.state.FindOperator(now))
	if err != nil {
		return waiting{}, err
	}
	hash := info.Request.Hash()
	switch {
	case hash != info.Hash || signer != req.Operator:
		return waiting{}, refusal.New(refusal.BadStatement, "the server shows a request under another one's name")
	case req.Team != a.member.Team:
		return waiting{}, refusal.New(refusal.WrongTeam, "the request is of another team")
	}
	by, err := a.state.Operator(signer, now)
	if err != nil {
		return waiting{}, err
	}
	return waiting{info: info, request: req, hash: hash, email: by.Email, host: hosts[req.Agent]}, nil
}

// hostNames are the verified names of the machines as last seen, by their key.
func (a *account) hostNames(now time.Time) map[key.ID]string {
	names := map[key.ID]string{}
	good, _ := a.verified(a.knownAgents(), now)
	for _, m := range good {
		names[m.cert.Agent.ID()] = m.cert.Name
	}
	return names
}

// command shows exactly what would run, argument by argument.
func (w waiting) command() string {
	if w.request.Action == wire.Shell && len(w.request.Params.Argv) == 0 {
		return "an interactive shell"
	}
	parts := make([]string, len(w.request.Params.Argv))
	for i, arg := range w.request.Params.Argv {
		parts[i] = terminal.Quote(arg)
	}
	return strings.Join(parts, " ")
}

// doubts lists everything in the request that may not be what it looks like.
func (w waiting) doubts() (list []string) {
	p := w.request.Params
	for i, arg := range p.Argv {
		if why := terminal.Suspicious(arg); why != "" {
			list = append(list, fmt.Sprintf("argument %d %s", i, why))
		}
	}
	for _, t := range []struct {
		name string
		text []byte
	}{{"the directory", p.Cwd}, {"the user name", []byte(p.User)}, {"the reason", []byte(w.request.Reason)}} {
		if why := terminal.Suspicious(t.text); why != "" {
			list = append(list, t.name+" "+why)
		}
	}
	for _, e := range p.Env {
		if why := terminal.Suspicious([]byte(e.Name + "=" + string(e.Value))); why != "" {
			list = append(list, fmt.Sprintf("the variable %s %s", terminal.Escape(e.Name), why))
		}
	}
	return list
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// print shows a request in full, one field per line, everything escaped.
func (w waiting) print(out io.Writer) {
	p := w.request.Params
	line := func(name, text string) { fmt.Fprintf(out, "%-11s%s\n", name, terminal.Escape(text)) }
	line("request", w.hash.String())
	line("state", string(w.info.State))
	line("who", w.email)
	line("machine", orDefault(w.host, "unknown, key "+w.request.Agent.String()))
	line("user", orDefault(p.User, "the agent's own"))
	line("action", string(w.request.Action))
	fmt.Fprintf(out, "%-11s%s\n", "command", w.command()) // quoted and escaped already
	for i, arg := range p.Argv {
		fmt.Fprintf(out, "  argv[%d]  %s\n", i, terminal.Quote(arg))
	}
	if p.TTY {
		line("terminal", "yes: whoever runs it types into it")
	}
	line("directory", orDefault(string(p.Cwd), "the user's home"))
	for _, e := range p.Env {
		line("variable", e.Name+"="+string(e.Value))
	}
	line("reason", orDefault(w.request.Reason, "none given"))
	line("needs", needs(w.info))
	line("until", w.request.ExpiresAt.Time().Format(time.RFC3339))
	for _, d := range w.doubts() {
		fmt.Fprintf(out, "WARNING    %s\n", d)
	}
}

// needs is the server's word on who has to agree: escape it.
func needs(info wire.RequestInfo) string {
	return fmt.Sprintf("%d of: %s (rule %s)", info.Need, strings.Join(info.Roles, ", "), info.Rule)
}

// decisions counts the approvals that this client has verified itself.
func (a *account) decisions(w waiting, now time.Time) (approved, denied []string) {
	for _, s := range w.info.Approvals {
		ap, kid, err := statement.Open[approval.Approval](s, a.state.FindOperator(now))
		if err != nil || ap.RequestHash != w.hash {
			continue
		}
		by, err := a.state.Operator(kid, now)
		if err != nil {
			continue
		}
		if ap.Decision == approval.Approve {
			approved = append(approved, by.Email)
		} else {
			denied = append(denied, by.Email)
		}
	}
	return approved, denied
}

// question is the policy's view of a request to a machine, as the server will
// see it: without the machine's files.
func (a *account) question(m machine, action wire.Action, p wire.Params) (policy.Request, error) {
	me, err := a.me()
	if err != nil {
		return policy.Request{}, err
	}
	q := policy.Request{
		Action: policy.Action(action), Unresolved: true, Cwd: string(p.Cwd), User: p.User,
		Agent: m.cert.Name, Tags: m.cert.Tags,
		Operator: a.key.ID(), Email: me.Email, Person: me.Person, Role: me.Role,
	}
	for _, arg := range p.Argv {
		q.Argv = append(q.Argv, arg)
	}
	for _, e := range p.Env {
		q.Env = append(q.Env, e.Name)
	}
	return q, nil
}
