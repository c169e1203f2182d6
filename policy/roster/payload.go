package roster

import (
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// Limits on what a statement may list; our choice, so that the largest roster
// stays below the 4 MiB of protocol 4.1 and every check below a second.
const (
	MaxOwners       = 32        // of a team
	MaxServers      = 32        // of a roster
	MaxOperators    = 10_000    // of a roster
	MaxEnrollers    = 256       // of a roster
	MaxRevoked      = 20_000    // keys that a roster takes back
	MaxTags         = 64        // of an enroller, a token or a certificate
	MaxCosignatures = MaxOwners // of one update, beyond its own signature
	MaxUses         = 100_000   // of one join token
	MaxName         = 63        // bytes of a name or tag
	MaxText         = 254       // bytes of an e-mail address, person id or address of a server
)

// Lifetimes; our choice where no source is named.
const (
	DefaultLifetime  = 90 * 24 * time.Hour  // of a roster (protocol 3.2)
	MaxLifetime      = 366 * 24 * time.Hour // of a roster: bounds a freeze attack
	MaxTokenLifetime = 366 * 24 * time.Hour // of a join token, whoever signs it
	SetupLifetime    = 10 * time.Minute     // of a setup statement
	MaxClockBack     = 10 * time.Minute     // a clock that went back further is not trusted (protocol 3.3)
)

// Root founds a team. The hash of its statement is the team fingerprint.
type Root struct {
	Team      wire.TeamID             `json:"team"`
	Name      string                  `json:"name"` // for display; rules of a host name
	Owners    []key.Public[key.Owner] `json:"owners"`
	Threshold int                     `json:"threshold"` // owners that must sign a roster
}

// Kind says how a Root is signed.
func (Root) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/root/v1", MaxSize: 16 << 10}
}

// Roster is one version of the team (protocol 3.2).
type Roster struct {
	Team       wire.TeamID             `json:"team"`
	Version    uint64                  `json:"version"`  // from 1, without gaps
	Previous   key.Hash                `json:"previous"` // of the version before; of the root for version 1
	IssuedAt   wire.Millis             `json:"iat"`      // never before the version before
	ExpiresAt  wire.Millis             `json:"exp"`
	Owners     []key.Public[key.Owner] `json:"owners"`
	Threshold  int                     `json:"threshold"`
	Servers    []Server                `json:"servers"`
	Operators  []Operator              `json:"operators"`
	Enrollers  []Enroller              `json:"enrollers"`
	PolicyHash key.Hash                `json:"policyHash"` // SHA-256 of the policy text; zero: no policy yet
	Revoked    []key.ID                `json:"revoked"`    // keys of any role: operators, enrollers, tokens, agents, servers
	MinVersion string                  `json:"minVersion"` // oldest client that may be used; "" is any
}

// Kind says how a Roster is signed; protocol 4.1 caps it at 4 MiB.
func (Roster) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/roster/v1", MaxSize: 4 << 20}
}

// Server is one rendezvous server of the team.
type Server struct {
	Name string          `json:"name"` // unique; rules of a host name
	URL  string          `json:"url"`  // "https://host" or "https://host:port"
	Keys wire.ServerKeys `json:"keys"`
}

// Address is what a client needs to reach a server and to know it again.
type Address struct {
	URL    string   `json:"url"`
	Pin    key.Hash `json:"pin"`    // SHA-256 of the TLS key's SubjectPublicKeyInfo
	Access key.ID   `json:"access"` // id of the server's access key
}

// Address returns where the server is and how it is recognised.
func (s Server) Address() Address {
	return Address{URL: s.URL, Pin: s.Keys.TLS, Access: s.Keys.Access.ID()}
}

// Operator is one key of a person. A person may hold several keys; approvals
// count people.
type Operator struct {
	Key      key.Public[key.Operator] `json:"key"`
	Email    string                   `json:"email"`  // for people and rules; never grants membership (attack F12)
	Person   string                   `json:"person"` // lower case; equal for all keys of one person
	Role     policy.Role              `json:"role"`
	NotAfter wire.Millis              `json:"notAfter"` // 0 is none
}

// Enroller may sign join tokens. Removing the entry stops new tokens and joins,
// while hosts that joined before stay; putting its key into Revoked ends those
// too.
type Enroller struct {
	Key         key.Public[key.Enroller] `json:"key"`
	Tags        []string                 `json:"tags"`        // that its tokens may give, each exactly
	MaxLifetime int64                    `json:"maxLifetime"` // of its tokens, in seconds
}

// Token lets its holder enrol hosts without any signing key on a server: the
// join string carries the seed of Key (protocol 3.2).
type Token struct {
	ID          wire.Nonce            `json:"jti"`
	Team        wire.TeamID           `json:"team"`
	Fingerprint key.Hash              `json:"fingerprint"`
	Server      Address               `json:"server"` // where to join
	Tags        []string              `json:"tags"`   // that certificates under it may carry
	IssuedAt    wire.Millis           `json:"iat"`
	ExpiresAt   wire.Millis           `json:"exp"`     // of joining, not of the hosts that joined
	MaxUses     int                   `json:"maxUses"` // counted by the server
	Key         key.Public[key.Token] `json:"key"`
}

// Kind says how a Token is signed.
func (Token) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/join-token/v1", MaxSize: 16 << 10}
}

// AgentCert certifies a host's key under a token.
type AgentCert struct {
	Team     wire.TeamID           `json:"team"`
	Agent    key.Public[key.Agent] `json:"agent"`
	Name     string                `json:"name"`
	Tags     []string              `json:"tags"` // of the token's
	TokenID  wire.Nonce            `json:"tokenId"`
	IssuedAt wire.Millis           `json:"iat"`
	NotAfter wire.Millis           `json:"notAfter"` // 0 is none
}

// Kind says how an AgentCert is signed.
func (AgentCert) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/agent-cert/v1", MaxSize: 16 << 10}
}

// Setup hands a fresh server to a team. Only whoever installed the server knows
// its setup code, and only an owner can sign: there is no first visitor
// (attack G12).
type Setup struct {
	ID       wire.Nonce  `json:"jti"`
	IssuedAt wire.Millis `json:"iat"`
	Team     wire.TeamID `json:"team"`
	Root     key.Hash    `json:"root"`   // team fingerprint
	Code     key.Hash    `json:"code"`   // SHA-256 of the setup code
	Server   key.ID      `json:"server"` // the server's access key
}

// Kind says how a Setup is signed.
func (Setup) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/setup/v1", MaxSize: 4 << 10}
}
