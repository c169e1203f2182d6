// Package request is what waits for an approval: requests that this client has
// opened and verified itself, shown so that nothing in them can pass for something
// else, and the verbs that list, approve and deny them.
package request

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
)

// Waiting is a request of somebody's that this client has opened itself: who
// signed it stands in the roster, and its hash is computed here. What the server
// says besides (state, rule, who agreed) is shown as the server's word.
type Waiting struct {
	Info    wire.RequestInfo // the server's word: state, rule, who has to agree
	Request wire.Request     // verified, by whose key the roster says
	Hash    key.Hash         // of its statement, computed here; an approval names it
	email   string           // of the requester, from the roster
	Host    string           // from the machine's verified certificate; "" when it is not known
}

// openRequest verifies what the server shows; hosts are from hostNames.
func openRequest(a *account.Account, info wire.RequestInfo, hosts map[key.ID]string, now time.Time) (Waiting, error) {
	req, signer, err := statement.Open[wire.Request](info.Request, a.State.FindOperator(now))
	if err != nil {
		return Waiting{}, err
	}
	hash := info.Request.Hash()
	switch {
	case hash != info.Hash || signer != req.Operator:
		return Waiting{}, refusal.New(refusal.BadStatement, "the server shows a request under another one's name")
	case req.Team != a.Member.Team:
		return Waiting{}, refusal.New(refusal.WrongTeam, "the request is of another team")
	}
	by, err := a.State.Operator(signer, now)
	if err != nil {
		return Waiting{}, err
	}
	return Waiting{Info: info, Request: req, Hash: hash, email: by.Email, Host: hosts[req.Agent]}, nil
}

// Command shows exactly what would run, argument by argument, in printable ASCII.
func (w Waiting) Command() string {
	if k := w.Request.Params.Keep; k != nil {
		return w.kept(*k)
	}
	return w.program()
}

// kept says what is wanted of a shell that runs on without its client, in words of
// people who have never left one.
func (w Waiting) kept(k wire.Keep) string {
	name := terminal.QuoteExact([]byte(k.Name))
	switch k.Do {
	case wire.KeepOpen:
		return w.program() + " (runs on as " + name + " when the client leaves)"
	case wire.KeepAttach:
		return "no new program: back to the shell " + name + " that was left running"
	case wire.KeepKill:
		return "no program: to end the shell " + name + " that was left running"
	case wire.KeepList:
		return "no program: to list the shells that were left running"
	}
	return "something about shells that this client does not know: " + terminal.QuoteExact([]byte(k.Do))
}

func (w Waiting) program() string {
	if len(w.Request.Params.Argv) == 0 {
		switch w.Request.Action {
		case wire.Shell:
			return "an interactive shell"
		case wire.Copy:
			return "no program, but copies of files"
		case wire.Forward:
			return "no program, but forwarded connections"
		}
	}
	parts := make([]string, len(w.Request.Params.Argv))
	for i, arg := range w.Request.Params.Argv {
		parts[i] = terminal.QuoteExact(arg)
	}
	return strings.Join(parts, " ")
}

// doubts lists everything in the request that may not be what it looks like. Where a word
// is shown as other than its letters, the line ends with those: nothing stands behind them
// that they could turn around.
func (w Waiting) doubts() (list []string) {
	p := w.Request.Params
	doubt := func(name string, text []byte) {
		why := terminal.Suspicious(text)
		if reads := terminal.Escape(text); why != "" && reads != terminal.Exact(text) {
			why += "; it reads: " + reads
		}
		if why != "" {
			list = append(list, name+" "+why)
		}
	}
	for i, arg := range p.Argv {
		doubt(fmt.Sprintf("argument %d", i), arg)
	}
	doubt("the directory", p.Cwd)
	doubt("the user name", []byte(p.User))
	if why := terminal.Concealed([]byte(w.Request.Reason)); why != "" {
		list = append(list, "the reason "+why)
	}
	if p.Keep != nil && !p.Keep.Valid() {
		list = append(list, "what is wanted of kept shells is nothing that there is")
	}
	for _, e := range p.Env {
		doubt("the variable "+terminal.Exact(e.Name), []byte(e.Name+"="+string(e.Value)))
	}
	return list
}

// print shows a request in full, one field per line: what the machine acts on exactly, the
// rest escaped.
func (w Waiting) print(out io.Writer) {
	p := w.Request.Params
	line := func(name, text string) { fmt.Fprintf(out, "%-11s%s\n", name, terminal.Escape(text)) }
	exact := func(name, text string) { fmt.Fprintf(out, "%-11s%s\n", name, terminal.Exact(text)) }
	line("request", w.Hash.String())
	line("state", string(w.Info.State))
	line("who", w.email)
	line("machine", verb.OrDefault(w.Host, "unknown, key "+w.Request.Agent.String()))
	exact("user", verb.OrDefault(p.User, "the agent's own"))
	line("action", string(w.Request.Action))
	fmt.Fprintf(out, "%-11s%s\n", "command", w.Command()) // quoted and escaped already
	for i, arg := range p.Argv {
		fmt.Fprintf(out, "  argv[%d]  %s\n", i, terminal.QuoteExact(arg))
	}
	if p.TTY {
		line("terminal", "yes: whoever runs it types into it")
	}
	if p.Keep.Runs() {
		line("kept", "yes: when the client leaves or is cut off the shell runs on as "+terminal.QuoteExact([]byte(p.Keep.Name))+
			", and its operator can come back to it until the policy's limits.resume, idle or session end it")
	}
	exact("directory", verb.OrDefault(string(p.Cwd), "the user's home"))
	for _, e := range p.Env {
		exact("variable", e.Name+"="+string(e.Value))
	}
	line("reason", verb.OrDefault(w.Request.Reason, "none given"))
	line("needs", Needs(w.Info))
	line("until", cli.When(w.Request.ExpiresAt.Time()))
	for _, d := range w.doubts() {
		fmt.Fprintf(out, "WARNING    %s\n", d)
	}
}

// printDecisions says who has decided, by what this client has verified itself.
func (w Waiting) printDecisions(out io.Writer, a *account.Account) {
	approved, denied := decisions(a, w, time.Now())
	for _, d := range []struct {
		name string
		who  []string
	}{{"approved", approved}, {"denied", denied}} {
		if len(d.who) > 0 {
			fmt.Fprintf(out, "%-11sby %s\n", d.name, terminal.Escape(strings.Join(d.who, ", ")))
		}
	}
}

// printNext is what me may type now that the request was read. It names the whole hash, so
// that nothing but what stands above it is signed.
func (w Waiting) printNext(out io.Writer, me key.ID) {
	own, deny := w.Request.Operator == me, "to deny"
	if own {
		deny = "withdraw"
	}
	if Settled(w.Info.State, "") != nil {
		return
	}
	if w.Info.State == wire.RequestPending && !own {
		fmt.Fprintf(out, "%-11s%s\n", "to approve", w.line(approval.Approve))
	}
	fmt.Fprintf(out, "%-11s%s\n", deny, w.line(approval.Deny))
}

// Needs is the server's word on who has to agree and what asks for that: escape it.
func Needs(info wire.RequestInfo) string {
	asks := "rule " + info.Rule
	if info.Rule == policy.Gate {
		asks = "gate"
	}
	return fmt.Sprintf("%d of: %s (%s)", info.Need, strings.Join(info.Roles, ", "), asks)
}

// decisions counts the approvals that this client has verified itself.
func decisions(a *account.Account, w Waiting, now time.Time) (approved, denied []string) {
	for _, s := range w.Info.Approvals {
		ap, kid, err := statement.Open[approval.Approval](s, a.State.FindOperator(now))
		if err != nil || ap.RequestHash != w.Hash {
			continue
		}
		by, err := a.State.Operator(kid, now)
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
