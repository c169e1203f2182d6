package rendezvous

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
)

// maxKeyFile bounds what is read from any file of the state folder; our choice.
const maxKeyFile = 64 << 10

// certLifetime is long because nobody looks at it: clients pin the key, and the
// roster is what binds and replaces it.
const certLifetime = 20 * 365 * 24 * time.Hour

// keys are the server's secrets. None of them can sign a roster, a request or an
// approval: the server may deny, it can never allow (protocol 3.1).
type keys struct {
	access key.Private[key.Access]
	grant  key.Private[key.Grant]
	audit  key.Private[key.Audit]
	tls    tls.Certificate
	pin    key.Hash // SHA-256 of the TLS key's SubjectPublicKeyInfo
}

func (k *keys) public() wire.ServerKeys {
	return wire.ServerKeys{Access: k.access.Public(), Grant: k.grant.Public(), Audit: k.audit.Public(), TLS: k.pin}
}

// Create makes the state folder dir with new keys for the server that cfg
// describes. It never touches a folder that has a key already, and nothing else
// ever makes one: a server whose disk was not mounted must not come up as another.
func Create(dir string, cfg Config) error {
	if err := cfg.Check(); err != nil {
		return err
	}
	if err := keyfile.CreateDir(dir); err != nil {
		return err
	}
	if there, err := Created(dir); there || err != nil {
		if err == nil {
			err = fmt.Errorf("creating a server in %q: it has keys already", dir)
		}
		return err
	}
	return createKeys(dir, cfg)
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

// WriteConfig writes cfg to a new file at path, mode 0600.
func WriteConfig(path string, cfg Config) error {
	if err := cfg.Check(); err != nil {
		return err
	}
	return keyfile.WriteNew(path, cfg.text())
}

func createKeys(dir string, cfg Config) error {
	if _, err := keyfile.CreateKey[key.Access](filepath.Join(dir, fileAccess)); err != nil {
		return err
	}
	if _, err := keyfile.CreateKey[key.Grant](filepath.Join(dir, fileGrant)); err != nil {
		return err
	}
	if _, err := keyfile.CreateKey[key.Audit](filepath.Join(dir, fileAudit)); err != nil {
		return err
	}
	if err := createTLS(dir, cfg); err != nil {
		return err
	}
	if cfg.Relay.Secret != "" {
		return nil // it exists elsewhere, shared with the external relays
	}
	secret := credential.NewSecret().Bytes()
	defer clear(secret)
	return keyfile.WriteNew(filepath.Join(dir, fileRelay), secretText(secret))
}

// createTLS makes an ECDSA P-256 key, the type every TLS stack has, and a
// certificate signed by itself to carry it.
func createTLS(dir string, cfg Config) error {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a TLS key: %v", err)
	}
	host, err := cfg.hostPort()
	if err != nil {
		return err
	}
	name, _, _ := net.SplitHostPort(host)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return fmt.Errorf("making a TLS certificate: %v", err)
	}
	cert := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: cfg.Name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(certLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		cert.IPAddresses = []net.IP{ip}
	} else {
		cert.DNSNames = []string{name}
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

// text writes the configuration that a first start was given. Strings are quoted
// by Go's rules, which for printable ASCII are TOML's.
func (c Config) text() []byte {
	var b bytes.Buffer
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s = %s\n", key, strconv.QuoteToASCII(value))
		}
	}
	line("name", c.Name)
	line("url", c.URL)
	line("listen", c.Listen)
	line("database", c.Database)
	if c.Relay.Secret+c.Relay.Listen+c.Relay.Secure+c.Relay.Public != "" || c.Relay.Lifetime != 0 || len(c.Relay.External) > 0 {
		b.WriteString("\n[relay]\n")
		line("secret", c.Relay.Secret)
		line("listen", c.Relay.Listen)
		line("secure", c.Relay.Secure)
		line("public", c.Relay.Public)
		if c.Relay.Lifetime != 0 {
			fmt.Fprintf(&b, "lifetime = %d\n", c.Relay.Lifetime)
		}
	}
	for _, x := range c.Relay.External {
		b.WriteString("\n[[relay.external]]\n")
		line("udp", x.UDP)
		line("tcp", x.TCP)
		line("tls", x.TLS)
		line("dtls", x.DTLS)
		line("websocket", x.WebSocket)
		line("key", x.Key)
	}
	return b.Bytes()
}

// CheckState reports the first thing that would keep a server with this
// configuration from starting: a key that is missing or open to others. It
// changes nothing.
func CheckState(cfg Config) error {
	cfg = cfg.WithDefaults()
	if err := cfg.Check(); err != nil {
		return err
	}
	if _, err := loadKeys(cfg.State); err != nil {
		return err
	}
	_, err := LoadRelaySecret(cfg.Relay.Secret)
	return err
}

func loadKeys(dir string) (*keys, error) {
	if err := keyfile.CheckDir(dir); err != nil {
		return nil, err
	}
	k := new(keys)
	var err error
	if k.access, err = keyfile.LoadKey[key.Access](filepath.Join(dir, fileAccess)); err != nil {
		return nil, err
	}
	if k.grant, err = keyfile.LoadKey[key.Grant](filepath.Join(dir, fileGrant)); err != nil {
		return nil, err
	}
	if k.audit, err = keyfile.LoadKey[key.Audit](filepath.Join(dir, fileAudit)); err != nil {
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
	if k.tls, err = tls.X509KeyPair(cert, private); err != nil {
		return nil, fmt.Errorf("reading the TLS key and certificate in %q: %v", dir, err)
	}
	k.pin = sha256.Sum256(k.tls.Leaf.RawSubjectPublicKeyInfo)
	return k, nil
}

// secretPrefix marks the text form of the relay secret, so that no other file is
// taken for it.
const secretPrefix = "tucdesk-relay-secret:"

func secretText(secret []byte) []byte {
	return []byte(secretPrefix + base64.RawURLEncoding.EncodeToString(secret) + "\n")
}

// LoadRelaySecret reads the secret shared with the relays from the file path,
// mode 0600.
func LoadRelaySecret(path string) (credential.Secret, error) {
	raw, err := keyfile.ReadPrivate(path, maxKeyFile)
	if err != nil {
		return credential.Secret{}, err
	}
	defer clear(raw)
	text, ok := bytes.CutPrefix(bytes.TrimSuffix(raw, []byte("\n")), []byte(secretPrefix))
	if !ok {
		return credential.Secret{}, fmt.Errorf("reading the relay secret in %q: it does not begin with %q", path, secretPrefix)
	}
	secret, err := base64.RawURLEncoding.Strict().AppendDecode(nil, text)
	if err != nil {
		return credential.Secret{}, fmt.Errorf("reading the relay secret in %q: not base64url", path)
	}
	defer clear(secret)
	return credential.SecretFrom(secret)
}
