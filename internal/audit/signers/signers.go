// Package signers says who may have signed what stands in an export: the head of the
// export proves it, from nothing but the team's fingerprint.
//
// Source: protocol 3.3, 5.4.
package signers

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// maxAgents bounds the agents of an export, about 300 bytes of memory each;
// our choice, ten times the largest team we design for.
const maxAgents = 1 << 20

// ErrUnknown says that a signature is of nobody whom the head names.
var ErrUnknown = errors.New("no agent or server of this team")

// ErrOrder is for an export whose head does not have all rosters first. An agent is
// verified by the newest, so which that is must not change behind it.
var ErrOrder = errors.New("an agent stands before a roster")

// Set is what the head of one export proves. It is filled line by line and only
// read afterwards, which lets any number of goroutines ask it without a lock.
type Set struct {
	fingerprint key.Hash
	now         time.Time
	root        statement.Signed
	states      []*roster.State // one per version
	history     *roster.History // nil until somebody asks, behind the rosters
	audit       []key.Public[key.Audit]
	agents      map[key.ID]*Agent
}

// Agent is a machine whose certificate held.
type Agent struct {
	Key      key.Public[key.Agent] // its identity
	Name     string                // as it was certified, of a-z, 0-9, "." and "-"
	NotAfter wire.Millis           // when the certificate ends, 0 for never
	Claim    *Claim                // of its last registration, nil when it had signed no entry then
}

// Claim is the end of its own chain that an agent signed when it registered.
type Claim struct {
	Seq  uint64      // number of the newest entry, from 1
	Hash key.Hash    // of that entry's statement
	At   wire.Millis // when it was signed, by the agent's clock
}

// New begins the set of the team with that fingerprint. root is the statement of
// its root; now bounds the time of rosters.
func New(fingerprint key.Hash, root statement.Signed, now time.Time) *Set {
	return &Set{fingerprint: fingerprint, root: root, now: now, agents: map[key.ID]*Agent{}}
}

// AddRoster follows the chain from the fingerprint by one version. One that does not
// follow changes nothing. The error is ErrOrder, or what package roster refuses it with.
func (s *Set) AddRoster(u wire.RosterUpdate) (err error) {
	if s.history != nil {
		return ErrOrder
	}
	var next *roster.State
	if len(s.states) == 0 {
		next, err = roster.Found(s.root, s.fingerprint, u)
	} else {
		next, err = s.newest().Apply(u, s.now)
	}
	if err != nil {
		return err
	}
	s.states = append(s.states, next)
	for _, server := range next.Roster().Servers {
		if !slices.Contains(s.audit, server.Keys.Audit) {
			s.audit = append(s.audit, server.Keys.Audit)
		}
	}
	return nil
}

func (s *Set) newest() *roster.State { return s.states[len(s.states)-1] }

// Founded reports whether there is a roster, without which there is no team.
func (s *Set) Founded() bool { return len(s.states) > 0 }

// History returns who was what and when, by all rosters; an error without any.
func (s *Set) History() (_ *roster.History, err error) {
	if s.history == nil {
		if !s.Founded() {
			return nil, ErrOrder
		}
		s.history, err = s.newest().History()
	}
	return s.history, err
}

// Team returns the team, and the newest version of its roster. It needs Founded.
func (s *Set) Team() (wire.TeamID, uint64) { return s.newest().Team(), s.newest().Version() }

// People is how many persons the newest roster has, whatever number of keys each holds.
func (s *Set) People() int {
	persons := map[string]bool{}
	for _, o := range s.newest().Roster().Operators {
		persons[o.Person] = true
	}
	return len(persons)
}

// AuditKeys returns the audit keys of all servers in all versions. The caller does
// not change them.
func (s *Set) AuditKeys() []key.Public[key.Audit] { return s.audit }

// Agent returns the machine with that key, nil when there is none.
func (s *Set) Agent(kid key.ID) *Agent { return s.agents[kid] }

// Agents returns all machines, by the id of their keys. The caller does not change
// the map.
func (s *Set) Agents() map[key.ID]*Agent { return s.agents }

// AddAgent verifies an agent's statements behind the rosters. What is wrong with it
// is said in problem; then it is none, and entries of it will be of an unknown
// signer. The error is for what ends everything: no roster yet, too many agents.
func (s *Set) AddAgent(h export.Host) (problem string, err error) {
	if _, err := s.History(); err != nil {
		return "", err
	}
	if len(s.agents) >= maxAgents {
		return "", fmt.Errorf("more than %d agents", maxAgents)
	}
	cert, err := s.certificate(h)
	if err != nil {
		return "the certificate of an agent: " + err.Error(), nil
	}
	kid := cert.Agent.ID()
	if s.agents[kid] != nil {
		return "agent " + kid.ShortCode() + " stands here twice", nil
	}
	known := &Agent{Key: cert.Agent, Name: cert.Name, NotAfter: cert.NotAfter}
	s.agents[kid] = known
	if len(h.Registration) == 0 { // no machine is in a log without one: it was taken out, to hide how many entries the machine signed
		return "the registration of agent " + kid.ShortCode() + " is missing", nil
	}
	reg, _, err := statement.Open[wire.Registration](h.Registration, cert.FindAgent)
	if err != nil || reg.Team != cert.Team || reg.Agent != cert.Agent {
		return "the registration of agent " + kid.ShortCode() + " is not its own", nil
	}
	if reg.AuditSeq > 0 {
		known.Claim = &Claim{Seq: reg.AuditSeq, Hash: reg.AuditHead, At: reg.IssuedAt}
	}
	return "", nil
}

// certificate verifies by the newest roster or, for an agent whose key, token
// or enroller was revoked since, by the one in force when it was certified.
// Whether the key still held is asked again for each entry.
func (s *Set) certificate(h export.Host) (roster.AgentCert, error) {
	anyTime := time.UnixMilli(0) // the certificate's own end is compared with each entry
	cert, err := s.newest().VerifyAgent(h.Token, h.Certificate, anyTime)
	if err == nil {
		return cert, nil
	}
	version := s.history.Version(unverified(h).IssuedAt.Time()) // it only chooses the roster to verify by
	if version == 0 || version >= uint64(len(s.states)) {
		return cert, err
	}
	return s.states[version-1].VerifyAgent(h.Token, h.Certificate, anyTime)
}

// unverified reads a certificate that nobody may have signed, the zero value if it is
// none.
func unverified(h export.Host) (cert roster.AgentCert) {
	_, _, _ = statement.OpenSelfSigned(h.Certificate, func(c roster.AgentCert, _ key.ID) (statement.Verifier, error) {
		cert = c
		return nil, nil
	})
	return cert
}

// Claimed is whose an agent's line is said to be, zero if it says nothing. Nothing proves
// it: it serves to tell which entries wait for that proof.
func Claimed(h export.Host) key.ID {
	cert := unverified(h)
	if cert.Agent == (key.Public[key.Agent]{}) {
		return key.ID{}
	}
	return cert.Agent.ID()
}

// Find returns the key of any agent or server that ever was one, or ErrUnknown;
// whether it was at an entry's time is asked when the time is known.
func (s *Set) Find(kid key.ID) (statement.Verifier, error) {
	if a := s.agents[kid]; a != nil {
		return a.Key, nil
	}
	for _, k := range s.audit {
		if k.ID() == kid {
			return k, nil
		}
	}
	return nil, ErrUnknown
}
