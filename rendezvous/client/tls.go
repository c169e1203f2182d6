package client

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// TLSConfig returns the only TLS configuration with which TucDesk dials: TLS 1.3
// and the one server key whose SubjectPublicKeyInfo hashes to pin (SHA-256,
// protocol 2.11). Any other key is refused with refusal.PinMismatch.
//
// The library's own verification is switched off because it asks the wrong
// question: whether some authority vouches for a name. The pin was signed by the
// team's owner, so neither an authority nor a resolver can replace the server.
// VerifyConnection runs on every handshake, also on a resumed one. The handshake
// itself still proves that the peer holds the key.
func TLSConfig(pin key.Hash) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true,
		VerifyConnection:   func(cs tls.ConnectionState) error { return checkPin(cs, pin) },
	}
}

func checkPin(cs tls.ConnectionState, pin key.Hash) error {
	if len(cs.PeerCertificates) == 0 || pin.IsZero() {
		return refusal.New(refusal.PinMismatch, "the server has shown no key, or none is pinned")
	}
	seen := sha256.Sum256(cs.PeerCertificates[0].RawSubjectPublicKeyInfo)
	if subtle.ConstantTimeCompare(seen[:], pin[:]) != 1 {
		return refusal.New(refusal.PinMismatch, "the server's TLS key is not the one that the team pinned")
	}
	return nil
}

// channelBinding returns what a login or a registration signs to be tied to one
// TLS connection (protocol 2.11): a man in the middle has two connections, and
// their values differ.
func channelBinding(cs *tls.ConnectionState) (key.Hash, error) {
	if cs == nil || cs.Version != tls.VersionTLS13 {
		return key.Hash{}, refusal.New(refusal.WrongChannel, "the connection is not TLS 1.3")
	}
	raw, err := cs.ExportKeyingMaterial(exporterLabel, nil, len(key.Hash{}))
	if err != nil {
		return key.Hash{}, refusal.New(refusal.WrongChannel, "the connection has no exporter")
	}
	return key.Hash(raw), nil
}
