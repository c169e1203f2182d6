package sshfront

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/crypto/ssh"

	"github.com/tucdesk/tucdesk/internal/keyfile"
)

// maxKeyFile is far above what an Ed25519 key takes; our choice.
const maxKeyFile = 4 << 10

// CreateHostKey makes a host key in a new file at path, mode 0600, and loads it.
// Two programs that do so at once end with the same key.
func CreateHostKey(path string) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("making a host key: %v", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "tucdesk, for this machine's own ssh")
	if err != nil {
		return nil, fmt.Errorf("making a host key: %v", err)
	}
	text := pem.EncodeToMemory(block)
	defer clear(text)
	if err := keyfile.WriteNew(path, text); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return LoadHostKey(path)
}

// LoadHostKey reads the key that CreateHostKey wrote. Its error matches
// fs.ErrNotExist where there is none.
func LoadHostKey(path string) (ssh.Signer, error) {
	text, err := keyfile.ReadPrivate(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("reading host key %q: not a key file; remove it and a new one is made", path)
	}
	return key, nil
}

// KnownHost is the line that KnownHostsCommand prints for a host; name is what ssh
// gave as %H, such as "web.tucdesk" or "[web.tucdesk]:2222". A name with bytes that
// mean something in such a line gets none.
func KnownHost(name string, key ssh.PublicKey) (line string, ok bool) {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !bytes.ContainsRune([]byte(".-_[]:"), rune(c)) {
			return "", false
		}
	}
	return name + " " + string(ssh.MarshalAuthorizedKey(key)), name != ""
}

// HostKey loads the key at path, and makes it where there is none.
func HostKey(path string) (ssh.Signer, error) {
	key, err := LoadHostKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return CreateHostKey(path)
	}
	return key, err
}
