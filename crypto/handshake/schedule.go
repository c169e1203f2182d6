package handshake

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"

	"github.com/tucdesk/tucdesk/crypto/key"
)

// label is L of protocol 2.1, fixed by the specification of the product.
const label = "tucdesk-session-v1"

// startHash is h0 = H(L ‖ 0x00 ‖ "transcript" ‖ suite).
func startHash(s Suite) key.Hash {
	b := append([]byte(label), 0)
	b = append(b, "transcript"...)
	return sha256.Sum256(binary.BigEndian.AppendUint16(b, uint16(s)))
}

// extend is one step of the transcript: H(h ‖ length of the message ‖ message ‖
// tail). Only h3 has a tail, the header of M3; its length is fixed, so it needs
// no length of its own.
func extend(h key.Hash, message []byte, tail ...byte) key.Hash {
	b := make([]byte, 0, len(h)+4+len(message)+len(tail))
	b = append(b, h[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(message)))
	b = append(b, message...)
	return sha256.Sum256(append(b, tail...))
}

// secrets is what exists between ACCEPT and CONFIRM.
type secrets struct {
	ss       []byte // X25519, or ML-KEM ‖ X25519
	agent    []byte // k_hs_a, seals the end of M2
	operator []byte // k_hs_o, seals the end of M3
}

// newSecrets is k_hs_a ‖ k_hs_o = HKDF(ss, salt h2, info L ‖ " hs", 64). It owns ss.
func newSecrets(ss []byte, h2 key.Hash) secrets {
	out := expand(ss, h2, label+" hs", 64)
	return secrets{ss: ss, agent: out[:32], operator: out[32:]}
}

// traffic is the one HKDF call with exactly the mandated label. The salt is the
// hash of all that both sides signed, so keys exist for this pair of identities,
// this request, grant, roster, suite and version only.
func (s secrets) traffic(h4 key.Hash) (block [TrafficSize]byte) {
	out := expand(s.ss, h4, label, TrafficSize)
	copy(block[:], out)
	clear(out)
	return block
}

func (s *secrets) erase() {
	clear(s.ss)
	clear(s.agent)
	clear(s.operator)
	*s = secrets{}
}

func expand(secret []byte, salt key.Hash, info string, size int) []byte {
	out, err := hkdf.Key(sha256.New, secret, salt[:], info, size)
	if err != nil {
		panic("handshake: internal error: " + err.Error())
	}
	return out
}

// sealOnce and openOnce use each key for one message, so the nonce is zero.
func sealOnce(k, plaintext []byte, aad key.Hash) []byte {
	aead := newGCM(k)
	return aead.Seal(nil, make([]byte, aead.NonceSize()), plaintext, aad[:])
}

func openOnce(k, sealed []byte, aad key.Hash) ([]byte, error) {
	aead := newGCM(k)
	return aead.Open(nil, make([]byte, aead.NonceSize()), sealed, aad[:])
}

func newGCM(k []byte) cipher.AEAD {
	block, err := aes.NewCipher(k)
	if err != nil {
		panic("handshake: internal error: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("handshake: internal error: " + err.Error())
	}
	return aead
}

// authText is what a side signs: L ‖ "/<role>-auth" ‖ 0x00 ‖ h ‖ own pk ‖ peer pk.
// Both keys are in it, so a signature made for one peer is worth nothing to
// another.
func authText(role string, h key.Hash, own, peer []byte) []byte {
	b := []byte(label + "/" + role + "-auth\x00")
	b = append(b, h[:]...)
	b = append(b, own...)
	return append(b, peer...)
}
