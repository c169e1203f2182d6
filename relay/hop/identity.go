package hop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

const (
	maxKeyFile = 4 << 10 // bytes; our choice: a P-256 key in PEM has 241
	pemType    = "PRIVATE KEY"

	// certLifetime: nobody looks at the date, but a certificate needs one.
	certLifetime = 20 * 365 * 24 * time.Hour
)

// Pin is the SHA-256 of a key's SubjectPublicKeyInfo, in DER.
type Pin [sha256.Size]byte

// String returns 64 hex digits, as in grants and configurations.
func (p Pin) String() string { return hex.EncodeToString(p[:]) }

// IsZero reports whether p pins nothing.
func (p Pin) IsZero() bool { return p == Pin{} }

// ParsePin reads what String returns, and nothing else.
func ParsePin(s string) (p Pin, err error) {
	if b, err := hex.DecodeString(s); err == nil && len(b) == len(p) && hex.EncodeToString(b) == s {
		return Pin(b), nil
	}
	return Pin{}, errors.New("relay key: a pin has 64 lower-case hex digits")
}

// Identity is the private key of a relay's protected transports, with a
// certificate to show it in.
type Identity struct {
	cert tls.Certificate
	pin  Pin
}

// Pin returns what clients are told, in grants, to know the key by.
func (id *Identity) Pin() Pin { return id.pin }

// String shows the pin only.
func (id *Identity) String() string { return "relay key " + id.pin.String() }

// GoString hides the key from %#v.
func (id *Identity) GoString() string { return id.String() }

// New makes an identity that lives in memory only.
func New() (*Identity, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the relay's key: %v", err)
	}
	return certify(k)
}

// Of returns the identity that holds the key of cert, an ECDSA P-256 key with its
// certificate: a server whose HTTPS port also leads to its relay has one key, and
// so one pin, for all of them.
func Of(cert tls.Certificate) (*Identity, error) {
	k, ok := cert.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || k.Curve != elliptic.P256() || len(cert.Certificate) == 0 {
		return nil, errors.New("relay key: not an ECDSA P-256 key with its certificate")
	}
	pin, err := pinOf(k.Public())
	return &Identity{cert, pin}, err
}

func pinOf(k crypto.PublicKey) (Pin, error) {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return Pin{}, fmt.Errorf("reading the relay's key: %v", err)
	}
	return sha256.Sum256(der), nil
}

func certify(k *ecdsa.PrivateKey) (*Identity, error) {
	now := time.Now()
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), // nobody keeps a list of them
		Subject:      pkix.Name{CommonName: "relay"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(certLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, k.Public(), k)
	if err != nil {
		return nil, fmt.Errorf("making the relay's certificate: %v", err)
	}
	return Of(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k})
}

// Create makes a key and writes it to a new file of mode 0600, in PKCS #8 and
// PEM. It fails, matching fs.ErrExist, if there is a file: every grant under way
// names the old key.
func Create(path string) (*Identity, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the relay's key: %v", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("making the relay's key: %v", err)
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
	defer clear(text)
	if err := writeNew(path, text); err != nil {
		return nil, fmt.Errorf("writing the relay's key: %w", err)
	}
	return certify(k)
}

// writeNew leaves a whole file or none: it is written under another name first,
// and the link fails if the name is taken.
func writeNew(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".relay-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}

// Load reads a key that Create made. It fails with refusal.BadFileMode if others
// can read the file, and matches fs.ErrNotExist if there is none.
func Load(path string) (*Identity, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	block, rest := pem.Decode(text)
	if block == nil || block.Type != pemType || len(rest) > 0 {
		return nil, fmt.Errorf("reading the relay's key: %q is not one that this program made", path)
	}
	defer clear(block.Bytes)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	ec, ok := k.(*ecdsa.PrivateKey)
	if err != nil || !ok || ec.Curve != elliptic.P256() {
		return nil, fmt.Errorf("reading the relay's key: %q is not one that this program made", path)
	}
	return certify(ec)
}

func readPrivate(path string) ([]byte, error) {
	before, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the relay's key: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the relay's key: %w", err)
	}
	defer f.Close()
	after, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the relay's key: %w", err)
	case !before.Mode().IsRegular() || !os.SameFile(before, after):
		return nil, refusal.New(refusal.BadFileMode, "%q is not a plain file", path)
	case runtime.GOOS != "windows" && after.Mode().Perm()&0o077 != 0:
		return nil, refusal.New(refusal.BadFileMode, "%q can be read by others: chmod 600 %q", path, path)
	case after.Size() > maxKeyFile:
		return nil, refusal.New(refusal.TooLarge, "%q has more than %d bytes", path, maxKeyFile)
	}
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}
