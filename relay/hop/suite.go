package hop

import (
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"sync/atomic"

	"github.com/pion/dtls/v2"
	"github.com/pion/dtls/v2/pkg/crypto/clientcertificate"
	"github.com/pion/dtls/v2/pkg/crypto/prf"
	"github.com/pion/dtls/v2/pkg/protocol/recordlayer"
	"golang.org/x/crypto/chacha20poly1305"
)

// suiteID is TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 (RFC 7905). The library
// does not know it, so this is the only implementation that can be chosen.
const suiteID dtls.CipherSuiteID = 0xcca9

// Layout of a record's head (RFC 6347, section 4.1).
const (
	recordHead  = recordlayer.HeaderSize // 13: type, version (2), epoch (2), sequence number (6), length (2)
	recordEpoch = 3                      // offset of epoch and sequence number, 8 bytes together
	recordSize  = 11                     // offset of the length
)

var (
	errNoKeys    = errors.New("relay DTLS: record before its keys")
	errBadRecord = errors.New("relay DTLS: record does not open")
)

// suites is what the library calls for a list of the suites to offer.
func suites() []dtls.CipherSuite { return []dtls.CipherSuite{&chacha{}} }

// chacha is the one cipher suite, of one connection.
type chacha struct{ keys atomic.Pointer[keys] }

// keys of the two directions. The library encrypts under its own lock.
type keys struct{ local, remote direction }

type direction struct {
	aead cipher.AEAD
	iv   [chacha20poly1305.NonceSize]byte
}

func newDirection(key, iv []byte) (d direction, err error) {
	d.aead, err = chacha20poly1305.New(key)
	copy(d.iv[:], iv)
	return d, err
}

// nonce: epoch and sequence number, to the right of four zero bytes, xor the write
// IV (RFC 7905, section 2). The pair never repeats under one key.
func (d *direction) nonce(record []byte) (n [chacha20poly1305.NonceSize]byte) {
	n = d.iv
	for i, b := range record[recordEpoch:recordSize] {
		n[4+i] ^= b
	}
	return n
}

// additional is what the tag covers beside the payload (RFC 5246, section
// 6.2.3.3): sequence number, type, version, and the length before sealing.
func additional(record []byte, plain int) (a [recordHead]byte) {
	copy(a[:8], record[recordEpoch:recordSize])
	copy(a[8:11], record[:recordEpoch])
	binary.BigEndian.PutUint16(a[recordSize:], uint16(plain))
	return a
}

// Init takes the keys of the connection.
func (c *chacha) Init(master, clientRandom, serverRandom []byte, isClient bool) error {
	k, err := prf.GenerateEncryptionKeys(master, clientRandom, serverRandom,
		0, chacha20poly1305.KeySize, chacha20poly1305.NonceSize, sha256.New)
	if err != nil {
		return err
	}
	client, err := newDirection(k.ClientWriteKey, k.ClientWriteIV)
	if err != nil {
		return err
	}
	server, err := newDirection(k.ServerWriteKey, k.ServerWriteIV)
	if err != nil {
		return err
	}
	if isClient {
		c.keys.Store(&keys{local: client, remote: server})
	} else {
		c.keys.Store(&keys{local: server, remote: client})
	}
	return nil
}

// IsInitialized reports whether Init has been called.
func (c *chacha) IsInitialized() bool { return c.keys.Load() != nil }

// Encrypt seals a record that raw holds in the clear. The library has counted its
// sequence number up, and refuses to beyond 2^48-1.
func (c *chacha) Encrypt(_ *recordlayer.RecordLayer, raw []byte) ([]byte, error) {
	k := c.keys.Load()
	if k == nil || len(raw) < recordHead {
		return nil, errNoKeys
	}
	nonce, ad := k.local.nonce(raw), additional(raw, len(raw)-recordHead)
	out := make([]byte, recordHead, len(raw)+chacha20poly1305.Overhead)
	copy(out, raw)
	out = k.local.aead.Seal(out, nonce[:], raw[recordHead:], ad[:])
	binary.BigEndian.PutUint16(out[recordSize:], uint16(len(out)-recordHead))
	return out, nil
}

// Decrypt opens a record in place. Unlike the library's own suites it takes no
// ChangeCipherSpec unopened: after the handshake there is none.
func (c *chacha) Decrypt(in []byte) ([]byte, error) {
	k := c.keys.Load()
	if k == nil {
		return nil, errNoKeys
	}
	plain := len(in) - recordHead - chacha20poly1305.Overhead
	if plain < 0 {
		return nil, errBadRecord
	}
	nonce, ad := k.remote.nonce(in), additional(in, plain)
	out, err := k.remote.aead.Open(in[recordHead:recordHead], nonce[:], in[recordHead:], ad[:])
	if err != nil {
		return nil, errBadRecord
	}
	return in[:recordHead+len(out)], nil
}

// The rest tells the library what kind of suite this is.

func (c *chacha) String() string             { return "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" }
func (c *chacha) ID() dtls.CipherSuiteID     { return suiteID }
func (c *chacha) HashFunc() func() hash.Hash { return sha256.New }
func (c *chacha) ECC() bool                  { return true }
func (c *chacha) CertificateType() clientcertificate.Type {
	return clientcertificate.ECDSASign
}
func (c *chacha) AuthenticationType() dtls.CipherSuiteAuthenticationType {
	return dtls.CipherSuiteAuthenticationTypeCertificate
}
func (c *chacha) KeyExchangeAlgorithm() dtls.CipherSuiteKeyExchangeAlgorithm {
	return dtls.CipherSuiteKeyExchangeAlgorithmEcdhe
}
