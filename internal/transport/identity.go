package transport

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// Names of the two ends: in the certificates and in the derivation.
const (
	operatorName = "operator"
	agentName    = "agent"
	label        = "tucdesk-transport-v1 "
)

// protocolName keeps this protocol apart from every other use of TLS.
const protocolName = "tucdesk/1"

// identities are the certificates of both ends. Either end can make both, which
// is no weakness: they speak only to each other, inside the seal.
type identities struct{ operator, agent tls.Certificate }

func newIdentities(secret [32]byte) (*identities, error) {
	var id identities
	var err error
	if id.operator, err = newCertificate(secret, operatorName); err != nil {
		return nil, err
	}
	if id.agent, err = newCertificate(secret, agentName); err != nil {
		return nil, err
	}
	return &id, nil
}

// newCertificate always makes the same bytes from the same arguments; both ends
// rely on it.
func newCertificate(secret [32]byte, name string) (tls.Certificate, error) {
	seed, err := hkdf.Key(sha256.New, secret[:], nil, label+name, ed25519.SeedSize)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("deriving the transport key of %s: %v", name, err)
	}
	defer clear(seed)
	k := ed25519.NewKeyFromSeed(seed)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280: no end; the session has one
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making the transport certificate of %s: %v", name, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading the transport certificate of %s: %v", name, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k, Leaf: leaf}, nil
}

// only is a pool that holds exactly one certificate, so that verification
// against it accepts that certificate and no other.
func only(c tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.Leaf)
	return pool
}

func (id *identities) operatorTLS() *tls.Config {
	c := baseTLS(id.operator)
	c.RootCAs = only(id.agent)
	c.ServerName = agentName
	return c
}

func (id *identities) agentTLS() *tls.Config {
	c := baseTLS(id.agent)
	c.ClientCAs = only(id.operator)
	c.ClientAuth = tls.RequireAndVerifyClientCert
	return c
}

// baseTLS offers X25519 alone: a post-quantum share would make the first flight
// two packets for a layer that protects nothing.
func baseTLS(own tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{own},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocolName},
		CurvePreferences:       []tls.CurveID{tls.X25519},
		SessionTicketsDisabled: true,
	}
}
