package principal

import (
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// Agent is a host whose registration was verified.
type Agent struct {
	Team         TeamID
	Key          key.Public[key.Agent]
	Certificate  roster.AgentCert // its name and tags are what policy may use
	Registration wire.Registration
}

// FromRegistration verifies the first message of a control channel (protocol
// 2.11). team finds the roster of the team that the registration names, or
// refuses; server is our access key and channel the TLS exporter of this very
// connection, so that a signature made for another server or connection is
// worth nothing here (attack B16).
//
// The caller still spends Registration.ID (Store.UseOnce), counts a new agent's
// token use (Tx.RegisterAgent) and, for a new agent, asks the roster's
// VerifyToken, which knows whether the token may still be used.
//
// Refusals: bad_statement, bad_signature, wrong_type; stale; wrong_channel;
// wrong_team; unknown_agent (the certificate is not this key's) and those of
// State.VerifyAgent.
func FromRegistration(r wire.Register, team func(wire.TeamID) (*roster.State, error), server key.ID, channel key.Hash, now time.Time) (Agent, error) {
	reg, _, err := statement.OpenSelfSigned(r.Registration, func(reg wire.Registration, kid key.ID) (statement.Verifier, error) {
		return reg.Agent, nil // Open compares kid with the key that the statement names
	})
	if err != nil {
		return Agent{}, err
	}
	if err := checkRegistration(reg, server, channel, now); err != nil {
		return Agent{}, err
	}
	st, err := team(reg.Team)
	if err != nil {
		return Agent{}, err
	}
	if st.Team() != reg.Team {
		return Agent{}, refusal.New(refusal.WrongTeam, "the registration is for another team")
	}
	cert, err := st.VerifyAgent(r.Token, r.Certificate, now)
	if err != nil {
		return Agent{}, err
	}
	if cert.Agent != reg.Agent || reg.Certificate != r.Certificate.Hash() {
		return Agent{}, refusal.New(refusal.UnknownAgent, "the certificate is not the registering key's")
	}
	return Agent{Team: TeamID{id: reg.Team}, Key: reg.Agent, Certificate: cert, Registration: reg}, nil
}

func checkRegistration(reg wire.Registration, server key.ID, channel key.Hash, now time.Time) error {
	switch away := now.Sub(reg.IssuedAt.Time()); {
	case reg.Server != server || reg.Channel != channel || channel.IsZero():
		return refusal.New(refusal.WrongChannel, "the registration was signed for another server or connection")
	case away > wire.RegistrationSkew || away < -wire.RegistrationSkew:
		return refusal.New(refusal.Stale, "the registration is more than %v away from the server's clock", wire.RegistrationSkew)
	}
	return nil
}
