// Package vault keeps an owner's key in a file that a passphrase locks, in the
// age format (scrypt, ChaCha20-Poly1305), so that a stolen laptop is not a
// stolen team and the file can be opened by a well-known tool when ours is gone.
//
// The recovery key is another owner key that no file ever holds: it is shown
// once, as text to be written down, and typed in when the owner's key is lost.
//
//	file       = age(scrypt(passphrase), "tucdesk-owner:" base64url(seed))
//	recovery   = "tucdesk-recovery:" base64url(seed), 43 characters behind the colon
//
// Source: protocol 3.5.
package vault

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/keyfile"
)

const (
	ownerPrefix    = "tucdesk-owner:"
	recoveryPrefix = "tucdesk-recovery:"

	// MinPassphrase is the least number of bytes of a passphrase; our choice.
	// scrypt at age's cost makes each guess take about a second.
	MinPassphrase = 10

	workLog2     = 18      // scrypt cost of our files, age's own choice: 256 MiB and about a second
	maxFile      = 4 << 10 // an age file of one key is about 300 bytes
	maxWorkLog2  = 20      // scrypt cost a file may ask for: 1 GiB; a hostile file must not stall us longer
	maxPlaintext = 128
)

// ErrPassphrase is returned by Open when the passphrase does not fit the file.
var ErrPassphrase = errors.New("the passphrase does not open this owner key")

// Create locks owner with passphrase and writes a new file at path, mode 0600.
// The caller clears passphrase.
func Create(path string, passphrase []byte, owner key.Private[key.Owner]) error {
	return create(path, passphrase, owner, workLog2)
}

// create is Create at a cost of 2^work; tests of what does not depend on the
// cost take a small one.
func create(path string, passphrase []byte, owner key.Private[key.Owner], work int) error {
	if len(passphrase) < MinPassphrase {
		return fmt.Errorf("locking the owner key: the passphrase needs at least %d characters", MinPassphrase)
	}
	lock, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return fmt.Errorf("locking the owner key: %v", err)
	}
	lock.SetWorkFactor(work)
	text, err := encode(ownerPrefix, owner)
	if err != nil {
		return err
	}
	defer clear(text)
	var file bytes.Buffer
	w, err := age.Encrypt(&file, lock)
	if err != nil {
		return fmt.Errorf("locking the owner key: %v", err)
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("locking the owner key: %v", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("locking the owner key: %v", err)
	}
	return keyfile.WriteNew(path, file.Bytes())
}

// Open unlocks the file at path. A wrong passphrase is ErrPassphrase. The
// caller clears passphrase.
func Open(path string, passphrase []byte) (key.Private[key.Owner], error) {
	var none key.Private[key.Owner]
	file, err := keyfile.ReadPrivate(path, maxFile)
	if err != nil {
		return none, err
	}
	lock, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return none, ErrPassphrase
	}
	lock.SetMaxWorkFactor(maxWorkLog2)
	r, err := age.Decrypt(bytes.NewReader(file), lock)
	if err != nil {
		return none, ErrPassphrase
	}
	text, err := io.ReadAll(io.LimitReader(r, maxPlaintext))
	if err != nil {
		return none, fmt.Errorf("reading owner key %q: the file is damaged", path)
	}
	defer clear(text)
	return decode(ownerPrefix, text)
}

// Recovery returns the text of a recovery key, to be shown once. The caller
// clears it.
func Recovery(owner key.Private[key.Owner]) ([]byte, error) { return encode(recoveryPrefix, owner) }

// ParseRecovery reads what a person wrote down; spaces and line breaks between
// its characters do not matter.
func ParseRecovery(text []byte) (key.Private[key.Owner], error) {
	return decode(recoveryPrefix, bytes.Join(bytes.Fields(text), nil))
}

func encode(prefix string, owner key.Private[key.Owner]) ([]byte, error) {
	var seed bytes.Buffer
	if err := owner.WriteSeed(&seed); err != nil {
		return nil, err
	}
	defer clear(seed.Bytes())
	return base64.RawURLEncoding.AppendEncode([]byte(prefix), seed.Bytes()), nil
}

func decode(prefix string, text []byte) (key.Private[key.Owner], error) {
	enc, ok := bytes.CutPrefix(text, []byte(prefix))
	seed := make([]byte, base64.RawURLEncoding.DecodedLen(len(enc)))
	defer clear(seed)
	n, err := base64.RawURLEncoding.Strict().Decode(seed, enc)
	if !ok || err != nil || n != key.SeedSize {
		return key.Private[key.Owner]{}, fmt.Errorf("reading an owner key: not of the form %q and 43 characters", prefix)
	}
	return key.FromSeed[key.Owner](seed)
}
