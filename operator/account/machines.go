package account

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/mistyped"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// knownAgents reads the machines as last seen; a damaged cache is no cache.
func (a *Account) knownAgents() []wire.AgentInfo {
	var list []wire.AgentInfo
	raw, err := keyfile.ReadPrivate(a.Home.Path(agentsFile), maxAgentsFile)
	if err != nil || json.Unmarshal(raw, &list) != nil {
		return nil
	}
	return list
}

// maxMachines bounds what is kept of a list that a hostile server never ends; our choice,
// several times of what a company has.
const maxMachines = 500_000

// FetchAgents asks for all machines and remembers them.
func (a *Account) FetchAgents(ctx context.Context) ([]wire.AgentInfo, error) {
	var all []wire.AgentInfo
	for after := ""; ; {
		page, err := a.Server.Agents(ctx, a.Credentials, after)
		if err != nil {
			return nil, err
		}
		if all = append(all, page.Agents...); len(all) > maxMachines {
			return nil, refusal.New(refusal.TooLarge, "the server's list of machines has more than %d", maxMachines)
		}
		if page.Next == "" {
			return all, a.Home.WriteJSON(agentsFile, all)
		}
		if page.Next == after || len(page.Agents) == 0 {
			return nil, refusal.New(refusal.ProtocolError, "the server's list of machines does not end")
		}
		after = page.Next
	}
}

// Machine is a host whose certificate chain was verified here.
type Machine struct {
	Cert roster.AgentCert // what was verified
	Info wire.AgentInfo   // the server's word
}

// Verified keeps the machines whose certificates hold; the names of the others
// are the server's word alone and must not be offered to anybody.
func (a *Account) Verified(list []wire.AgentInfo, now time.Time) (good []Machine, bad int) {
	for _, info := range list {
		cert, err := a.State.VerifyAgent(info.Token, info.Certificate, now)
		if err != nil {
			bad++
			continue
		}
		good = append(good, Machine{Cert: cert, Info: info})
	}
	return good, bad
}

// Machines asks the server for all machines, names to io how many were left out
// because their certificates do not hold, and returns the others.
func (a *Account) Machines(ctx context.Context, io *cli.IO) ([]Machine, error) {
	infos, err := a.FetchAgents(ctx)
	if err != nil {
		return nil, err
	}
	good, bad := a.Verified(infos, time.Now())
	if bad > 0 {
		io.Say("warning: left out, because their certificates do not hold: %s", cli.Count(bad, "machine"))
	}
	return good, nil
}

// KnownNames are the verified names, of the machines as last seen, that begin so.
// Verified although it takes a moment: a shell shows these names as they are.
func (a *Account) KnownNames(prefix string) (names []string) {
	begins := func(c claim) bool { return strings.HasPrefix(c.Name, prefix) }
	good, _ := a.Verified(claiming(a.knownAgents(), begins), time.Now())
	for _, m := range good {
		if strings.HasPrefix(m.Cert.Name, prefix) {
			names = append(names, m.Cert.Name)
		}
	}
	return names
}

// KnownLabels are the tags of the form LABEL=VALUE that begin so, likewise.
func (a *Account) KnownLabels(prefix string) (labels []string) {
	begins := func(tag string) bool { return strings.HasPrefix(tag, prefix) && strings.Contains(tag, "=") }
	good, _ := a.Verified(claiming(a.knownAgents(), func(c claim) bool { return slices.ContainsFunc(c.Tags, begins) }), time.Now())
	for _, m := range good {
		for _, tag := range m.Cert.Tags {
			if begins(tag) {
				labels = append(labels, tag)
			}
		}
	}
	slices.Sort(labels)
	return slices.Compact(labels)
}

// Find looks a host up by name, first among the machines seen before, then at
// the server. Two certificates of one name are refused: a server that may
// choose between them chooses the machine (protocol 3.2).
func (a *Account) Find(ctx context.Context, name string) (Machine, error) {
	if m, err := a.pick(a.knownAgents(), name); err == nil {
		return m, nil
	}
	list, err := a.FetchAgents(ctx)
	if err != nil {
		return Machine{}, err
	}
	m, err := a.pick(list, name)
	if refusal.Of(err) == refusal.NotFound {
		err = a.Absent(name)
	}
	return m, err
}

// Absent is the error for a name that no machine of the last answer has, with what may
// have been meant.
func (a *Account) Absent(name string) error {
	hints := append(a.meant(name), a.tagged(name)...)
	return &cli.Error{Err: absent(name), Hints: append(hints, "tucdesk ls"), Exit: cli.ExitTransport}
}

func absent(name string) error {
	return refusal.New(refusal.NotFound, "no machine %q in this team", name)
}

// claim is what an unverified certificate says of itself. It only chooses which
// certificates are worth two signature checks each: to verify all of 10,000
// machines would cost seconds before every session.
type claim struct {
	Name  string                `json:"name"`
	Agent key.Public[key.Agent] `json:"agent"`
	Tags  []string              `json:"tags"`
}

func (c claim) is(name string) bool { return c.Name == name || c.Agent.ID().String() == name }

func claiming(list []wire.AgentInfo, wanted func(claim) bool) (some []wire.AgentInfo) {
	for _, info := range list {
		var envelope struct {
			Payload wire.Bytes `json:"payload"`
		}
		var c claim
		if json.Unmarshal(info.Certificate, &envelope) == nil && json.Unmarshal(envelope.Payload, &c) == nil && wanted(c) {
			some = append(some, info)
		}
	}
	return some
}

// pick finds the one machine of that name or key among list.
func (a *Account) pick(list []wire.AgentInfo, name string) (Machine, error) {
	found, _ := a.Verified(claiming(list, func(c claim) bool { return c.is(name) }), time.Now())
	// Judged again by the verified certificate: a claim proves nothing.
	found = slices.DeleteFunc(found, func(m Machine) bool { return !claim{Name: m.Cert.Name, Agent: m.Cert.Agent}.is(name) })
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Machine{}, absent(name)
	}
	return Machine{}, &cli.Error{Err: refusal.New(refusal.NameTaken, "%d machines are called %q", len(found), name), Hints: []string{"say which one by its key id, as shown by: tucdesk ls --json"}, Exit: cli.ExitFailed}
}

// meant are the machines, as last seen, that a mistyped name may have been.
func (a *Account) meant(name string) (hints []string) {
	for _, known := range mistyped.Meant(name, a.KnownNames("")) {
		hints = append(hints, "did you mean: "+known)
	}
	return hints
}

// maxCarriers is how many machines of a tag are named in a hint; our choice.
const maxCarriers = 8

// tagged says of a name that is a tag of machines, or the value of a label, what exec
// would take in its place.
func (a *Account) tagged(name string) (hints []string) {
	fits := func(tag string) bool { return tag == name || strings.HasSuffix(tag, "="+name) }
	good, _ := a.Verified(claiming(a.knownAgents(), func(c claim) bool { return slices.ContainsFunc(c.Tags, fits) }), time.Now())
	var carriers, labels []string
	for _, m := range good {
		for _, tag := range m.Cert.Tags {
			switch {
			case tag == name && !strings.Contains(tag, "="):
				carriers = append(carriers, m.Cert.Name)
			case fits(tag) && !slices.Contains(labels, tag):
				labels = append(labels, tag)
			}
		}
	}
	slices.Sort(carriers)
	switch {
	case len(carriers) > maxCarriers:
		hints = append(hints, fmt.Sprintf("%q is a tag of %d machines; exec takes their names, separated by commas: tucdesk ls -q %s", name, len(carriers), name))
	case len(carriers) > 0:
		hints = append(hints, fmt.Sprintf("%q is a tag; exec takes the names of the machines that carry it: %s", name, strings.Join(carriers, ",")))
	}
	slices.Sort(labels)
	for _, label := range labels[:min(len(labels), maxCarriers)] {
		hints = append(hints, "exec takes a label in place of a name: "+label)
	}
	return hints
}

// HostNames are the verified names of the machines as last seen, by their key.
func (a *Account) HostNames(now time.Time) map[key.ID]string {
	names := map[key.ID]string{}
	good, _ := a.Verified(a.knownAgents(), now)
	for _, m := range good {
		names[m.Cert.Agent.ID()] = m.Cert.Name
	}
	return names
}

// Question is the policy's view of a request to a machine, as the server will
// see it: without the machine's files.
func (a *Account) Question(m Machine, action wire.Action, p wire.Params) (policy.Request, error) {
	me, err := a.Me()
	if err != nil {
		return policy.Request{}, err
	}
	q := policy.Request{
		Action: policy.Action(action), Unresolved: true, Cwd: string(p.Cwd), User: p.User,
		Agent: m.Cert.Name, Tags: m.Cert.Tags,
		Operator: a.Key.ID(), Email: me.Email, Person: me.Person, Role: me.Role,
	}
	for _, arg := range p.Argv {
		q.Argv = append(q.Argv, arg)
	}
	for _, e := range p.Env {
		q.Env = append(q.Env, e.Name)
	}
	return q, nil
}
