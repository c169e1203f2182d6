// Package identity keeps a server's keys: made once, in a private folder, and read
// at each start. A reader never makes one, so a server whose disk was not mounted
// does not come up as another, which every agent would refuse.
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
)

// The files in the folder.
const (
	fileAccess  = "access.key"
	fileGrant   = "grant.key"
	fileAudit   = "audit.key"
	fileTLSKey  = "tls.key"
	fileTLSCert = "tls.crt"
)

// maxKeyFile bounds what is read from any file of the state folder; our choice.
const maxKeyFile = 64 << 10

// certLifetime is long because nobody looks at it: clients pin the key, and the
// roster is what binds and replaces it.
const certLifetime = 20 * 365 * 24 * time.Hour

// Keys are the server's secrets. None of them can sign a roster, a request or an
// approval: the server may deny, it can never allow (protocol 3.1).
type Keys struct {
	Access key.Private[key.Access]
	Grant  key.Private[key.Grant]
	Audit  key.Private[key.Audit]
	TLS    tls.Certificate
	Pin    key.Hash // SHA-256 of the TLS key's SubjectPublicKeyInfo
}

// Public returns what a roster lists of this server.
func (k *Keys) Public() wire.ServerKeys {
	return wire.ServerKeys{Access: k.Access.Public(), Grant: k.Grant.Public(), Audit: k.Audit.Public(), TLS: k.Pin}
}

// Created reports whether dir has any of a server's keys.
func Created(dir string) (bool, error) {
	for _, name := range []string{fileAccess, fileGrant, fileAudit, fileTLSKey, fileTLSCert} {
		switch _, err := os.Lstat(filepath.Join(dir, name)); {
		case err == nil:
			return true, nil
		case !errors.Is(err, fs.ErrNotExist):
			return false, fmt.Errorf("looking for the server's keys: %v", err)
		}
	}
	return false, nil
}

// Create makes new keys in dir, which is private and has none, for the server of that
// name at that host, which its certificate carries for whoever looks.
func Create(dir, name, host string) error {
	if _, err := keyfile.CreateKey[key.Access](filepath.Join(dir, fileAccess)); err != nil {
		return err
	}
	if _, err := keyfile.CreateKey[key.Grant](filepath.Join(dir, fileGrant)); err != nil {
		return err
	}
	if _, err := keyfile.CreateKey[key.Audit](filepath.Join(dir, fileAudit)); err != nil {
		return err
	}
	return createTLS(dir, name, host)
}

// createTLS makes an ECDSA P-256 key, the type every TLS stack has, and a
// certificate signed by itself to carry it.
func createTLS(dir, name, host string) error {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a TLS key: %v", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return fmt.Errorf("making a TLS certificate: %v", err)
	}
	cert := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(certLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		cert.IPAddresses = []net.IP{ip}
	} else {
		cert.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, k.Public(), k)
	if err != nil {
		return fmt.Errorf("making a TLS certificate: %v", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return fmt.Errorf("making a TLS key: %v", err)
	}
	defer clear(private)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	defer clear(text)
	if err := keyfile.WriteNew(filepath.Join(dir, fileTLSKey), text); err != nil {
		return err
	}
	return keyfile.WriteNew(filepath.Join(dir, fileTLSCert), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Load reads what Create made.
func Load(dir string) (*Keys, error) {
	if err := keyfile.CheckDir(dir); err != nil {
		return nil, err
	}
	k := new(Keys)
	var err error
	if k.Access, err = keyfile.LoadKey[key.Access](filepath.Join(dir, fileAccess)); err != nil {
		return nil, err
	}
	if k.Grant, err = keyfile.LoadKey[key.Grant](filepath.Join(dir, fileGrant)); err != nil {
		return nil, err
	}
	if k.Audit, err = keyfile.LoadKey[key.Audit](filepath.Join(dir, fileAudit)); err != nil {
		return nil, err
	}
	private, err := keyfile.ReadPrivate(filepath.Join(dir, fileTLSKey), maxKeyFile)
	if err != nil {
		return nil, err
	}
	defer clear(private)
	cert, err := keyfile.ReadPrivate(filepath.Join(dir, fileTLSCert), maxKeyFile)
	if err != nil {
		return nil, err
	}
	if k.TLS, err = tls.X509KeyPair(cert, private); err != nil {
		return nil, fmt.Errorf("reading the TLS key and certificate in %q: %v", dir, err)
	}
	k.Pin = sha256.Sum256(k.TLS.Leaf.RawSubjectPublicKeyInfo)
	return k, nil
}

// CreateSecret makes the secret that a server shares with its relays, in a new file.
func CreateSecret(path string) error {
	text := credential.NewSecret().FileText()
	defer clear(text)
	return keyfile.WriteNew(path, text)
}

// SecretError is that of LoadSecret: whoever sees it among errors of keys knows that it is
// of the relay secret, which is replaced and not revoked.
type SecretError struct {
	File string
	Err  error
}

// Error returns the text of the cause, which names the file where it is of the file.
func (e *SecretError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *SecretError) Unwrap() error { return e.Err }

// LoadSecret reads the secret shared with the relays from the file path,
// mode 0600. Its error is a *SecretError.
func LoadSecret(path string) (credential.Secret, error) {
	text, err := keyfile.ReadPrivate(path, maxKeyFile)
	if err != nil {
		return credential.Secret{}, &SecretError{path, err}
	}
	defer clear(text)
	secret, err := credential.ParseFile(text)
	if err != nil {
		return credential.Secret{}, &SecretError{path, fmt.Errorf("reading %q: %w", path, err)}
	}
	return secret, nil
}
