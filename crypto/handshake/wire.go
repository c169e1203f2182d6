package handshake

import (
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/binary"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Sizes in bytes and numbers of the messages, from protocol 2.4 to 2.6.
const (
	// OpenSize is the length of M1 in suite 0x0001.
	OpenSize = 120
	// OpenHybridSize is the length of M1 in suite 0x0002, the longest there is.
	OpenHybridSize = OpenSize + mlkem.EncapsulationKeySize768
	// AcceptSize is the length of M2 in suite 0x0001.
	AcceptSize = acceptClear + sealedAccept
	// AcceptHybridSize is the length of M2 in suite 0x0002, the longest there is.
	AcceptHybridSize = AcceptSize + mlkem.CiphertextSize768
	// ConfirmSize is the length of M3.
	ConfirmSize = confirmHeader + sealedConfirm
	// ConfirmType is the first byte of M3, by which a socket tells it from data.
	ConfirmType = 0xD3

	openType      = 0xD1
	acceptType    = 0xD2
	version       = 0x01
	tagSize       = 16
	acceptClear   = 128
	sealedAccept  = 32 + key.SignatureSize + 4 + 4 + tagSize
	confirmHeader = 8
	sealedConfirm = 32 + key.SignatureSize + tagSize
)

// Open is what M1 says, not yet believed: the request whose hash it carries is
// what the operator signed.
type Open struct {
	Suite         Suite    // first offered suite
	OperatorIndex uint32   // never zero
	Session       [16]byte // session id
	RequestHash   key.Hash // of the signed session request
	RosterHash    key.Hash // of the roster the operator knows

	eph [32]byte
	ek  []byte // empty or 1,184 bytes
}

// ParseOpen reads M1. Refusal: BadMessage.
func ParseOpen(m1 []byte) (Open, error) {
	var o Open
	if len(m1) < OpenSize || m1[0] != openType || m1[1] != version {
		return o, refusal.New(refusal.BadMessage, "not an OPEN of version %d", version)
	}
	o.Suite = Suite(binary.BigEndian.Uint16(m1[2:]))
	o.OperatorIndex = binary.BigEndian.Uint32(m1[4:])
	if !o.Suite.known() || len(m1) != openLen(o.Suite) || o.OperatorIndex == 0 {
		return Open{}, refusal.New(refusal.BadMessage, "OPEN with a wrong suite, length or index")
	}
	copy(o.Session[:], m1[8:])
	copy(o.RequestHash[:], m1[24:])
	copy(o.RosterHash[:], m1[56:])
	copy(o.eph[:], m1[88:])
	o.ek = append(o.ek, m1[OpenSize:]...)
	return o, nil
}

func openLen(s Suite) int {
	if s == Hybrid {
		return OpenHybridSize
	}
	return OpenSize
}

// EphHash returns H(E_o ‖ [ek]), which must be the eph of the signed request:
// else the server replaced the key (eph_mismatch, attack B3).
func (o Open) EphHash() key.Hash { return ephHash(&o.eph, o.ek) }

// Ephemeral returns E_o, which the caller's replay cache must never have seen
// (attack B2). It is public.
func (o Open) Ephemeral() [32]byte { return o.eph }

func ephHash(eph *[32]byte, ek []byte) key.Hash {
	return sha256.Sum256(append(append([]byte(nil), eph[:]...), ek...))
}

func (o Open) marshal() []byte {
	b := make([]byte, 0, OpenHybridSize)
	b = append(b, openType, version)
	b = binary.BigEndian.AppendUint16(b, uint16(o.Suite))
	b = binary.BigEndian.AppendUint32(b, o.OperatorIndex)
	b = append(b, o.Session[:]...)
	b = append(b, o.RequestHash[:]...)
	b = append(b, o.RosterHash[:]...)
	b = append(b, o.eph[:]...)
	return append(b, o.ek...)
}

// accepted is M2 taken apart.
type accepted struct {
	suite                     Suite
	operatorIndex, agentIndex uint32
	session                   [16]byte
	grantHash, rosterHash     key.Hash
	eph                       [32]byte
	ct                        []byte // empty or 1,088 bytes
	sealed                    []byte
}

func parseAccept(m2 []byte) (accepted, error) {
	var a accepted
	if len(m2) < AcceptSize || m2[0] != acceptType || m2[1] != version {
		return a, refusal.New(refusal.BadMessage, "not an ACCEPT of version %d", version)
	}
	a.suite = Suite(binary.BigEndian.Uint16(m2[2:]))
	a.operatorIndex = binary.BigEndian.Uint32(m2[4:])
	a.agentIndex = binary.BigEndian.Uint32(m2[8:])
	reserved := binary.BigEndian.Uint32(m2[12:])
	if !a.suite.known() || len(m2) != acceptLen(a.suite) || a.agentIndex == 0 || reserved != 0 {
		return accepted{}, refusal.New(refusal.BadMessage, "ACCEPT with a wrong suite, length, index or reserved bits")
	}
	copy(a.session[:], m2[16:])
	copy(a.grantHash[:], m2[32:])
	copy(a.rosterHash[:], m2[64:])
	copy(a.eph[:], m2[96:])
	clearLen := len(m2) - sealedAccept
	a.ct = append(a.ct, m2[acceptClear:clearLen]...)
	a.sealed = append(a.sealed, m2[clearLen:]...)
	return a, nil
}

func acceptLen(s Suite) int {
	if s == Hybrid {
		return AcceptHybridSize
	}
	return AcceptSize
}

// marshalClear returns the part of M2 that is not sealed.
func (a accepted) marshalClear() []byte {
	b := make([]byte, 0, AcceptHybridSize)
	b = append(b, acceptType, version)
	b = binary.BigEndian.AppendUint16(b, uint16(a.suite))
	b = binary.BigEndian.AppendUint32(b, a.operatorIndex)
	b = binary.BigEndian.AppendUint32(b, a.agentIndex)
	b = append(b, 0, 0, 0, 0)
	b = append(b, a.session[:]...)
	b = append(b, a.grantHash[:]...)
	b = append(b, a.rosterHash[:]...)
	b = append(b, a.eph[:]...)
	return append(b, a.ct...)
}

// marshalConfirmHeader returns the first 8 bytes of M3.
func marshalConfirmHeader(s Suite, agentIndex uint32) []byte {
	b := []byte{ConfirmType, version}
	b = binary.BigEndian.AppendUint16(b, uint16(s))
	return binary.BigEndian.AppendUint32(b, agentIndex)
}

// ParseConfirmIndex returns the agent's receive index in m3, to find the Agent
// that can check it. Nothing of m3 is verified. Refusal: BadMessage.
func ParseConfirmIndex(m3 []byte) (uint32, error) {
	if len(m3) != ConfirmSize || m3[0] != ConfirmType || m3[1] != version {
		return 0, refusal.New(refusal.BadMessage, "not a CONFIRM of version %d", version)
	}
	return binary.BigEndian.Uint32(m3[4:]), nil
}
