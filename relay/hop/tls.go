package hop

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"

	"github.com/pion/dtls/v2"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Application protocols of the TLS port (RFC 7443; RFC 7301). A client that names
// none gets TURN.
const (
	ProtoTURN = "stun.turn" // frames of TURN over TCP
	ProtoHTTP = "http/1.1"  // for the WebSocket
)

// Where a server's HTTPS port leads to its relay, and the subprotocol spoken there.
const (
	WebSocketPath  = "/relay"           // exactly, with no query
	WebSocketProto = "tucdesk-relay.v1" // a stream in binary messages, whose boundaries mean nothing
)

// ServerTLS returns the configuration of the relay's TLS port. Sessions are not
// resumed: a connection lives as long as its allocation, and tickets would be one
// more key to keep.
func (id *Identity) ServerTLS(protos ...string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{id.cert},
		NextProtos:             protos,
		SessionTicketsDisabled: true,
	}
}

// ClientTLS returns the configuration with which a client reaches the one relay
// that pin stands for; any other key is refused with refusal.PinMismatch. No name
// is sent: the certificate is chosen by none, and the network need not know it.
//
// The library's own verification is off because it asks whether an authority
// vouches for a name. That the peer holds the key the handshake itself proves.
func ClientTLS(pin Pin, proto string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{proto},
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return pin.check(nil)
			}
			return pin.check(cs.PeerCertificates[0].RawSubjectPublicKeyInfo)
		},
	}
}

// checkChain is what DTLS asks: it hands over certificates as they came.
func (p Pin) checkChain(raw [][]byte, _ [][]*x509.Certificate) error {
	if len(raw) == 0 {
		return p.check(nil)
	}
	cert, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return p.check(nil)
	}
	return p.check(cert.RawSubjectPublicKeyInfo)
}

// check compares a key, in DER, with the pin (attack M18). The zero pin stands
// for no key.
func (p Pin) check(spki []byte) error {
	seen := sha256.Sum256(spki)
	if p.IsZero() || subtle.ConstantTimeCompare(seen[:], p[:]) != 1 {
		return refusal.New(refusal.PinMismatch, "the relay's key is not the pinned one")
	}
	return nil
}

// clientDTLS is ClientTLS for DTLS: the pin decides here too. The library checks
// the signature over the key exchange in any case.
func clientDTLS(pin Pin) *dtls.Config {
	cfg := base()
	cfg.InsecureSkipVerify = true
	cfg.VerifyPeerCertificate = pin.checkChain
	return cfg
}

func (id *Identity) serverDTLS() *dtls.Config {
	cfg := base()
	cfg.Certificates = []tls.Certificate{id.cert}
	return cfg
}
