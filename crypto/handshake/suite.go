package handshake

import (
	"fmt"
	"slices"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Suite names one set of algorithms (protocol 2.2). There is none without X25519
// and none without encryption.
type Suite uint16

// The suites.
const (
	// X25519 is the mandatory suite: X25519, Ed25519, HKDF-SHA256, AES-256-GCM.
	X25519 Suite = 0x0001
	// Hybrid adds ML-KEM-768 to the secret, so that what is recorded today stays
	// closed to a later quantum computer. Preferred where both sides have it.
	Hybrid Suite = 0x0002
)

// String returns the name as written in logs.
func (s Suite) String() string {
	switch s {
	case X25519:
		return "x25519"
	case Hybrid:
		return "x25519+mlkem768"
	}
	return fmt.Sprintf("suite 0x%04x", uint16(s))
}

func (s Suite) known() bool { return s == X25519 || s == Hybrid }

func (s Suite) bit() uint32 { return 1 << (s - 1) }

// checkSuites returns the configured list or the default. Hybrid must come
// first: M1 has room for its key only then, and it is the stronger one.
func checkSuites(list []Suite) ([]Suite, error) {
	switch {
	case len(list) == 0:
		return []Suite{Hybrid, X25519}, nil
	case slices.Equal(list, []Suite{X25519}), slices.Equal(list, []Suite{Hybrid}), slices.Equal(list, []Suite{Hybrid, X25519}):
		return slices.Clone(list), nil
	}
	return nil, fmt.Errorf("choosing suites: %v is not a list of known suites, best first", list)
}

func bitmap(list []Suite) (bits uint32) {
	for _, s := range list {
		bits |= s.bit()
	}
	return bits
}

// choose picks the agent's suite. An OPEN that begins with the hybrid can be
// answered with X25519, as E_o is there in either case.
func choose(first Suite, own []Suite) (Suite, error) {
	if slices.Contains(own, first) {
		return first, nil
	}
	if first == Hybrid && slices.Contains(own, X25519) {
		return X25519, nil
	}
	return 0, refusal.New(refusal.NoCommonSuite, "operator offers %v first", first)
}

// checkChoice is the operator's view: only a suite it offered, only one the
// agent has, and never a weaker one than both have.
func checkChoice(chosen Suite, offered []Suite, agentHas uint32) error {
	for _, s := range offered {
		if agentHas&s.bit() != 0 {
			if s == chosen {
				return nil
			}
			break
		}
	}
	return refusal.New(refusal.HandshakeFailed, "agent answered with %v, which is not the best common suite", chosen)
}
