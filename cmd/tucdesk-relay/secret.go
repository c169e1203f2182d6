package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/relay/credential"
)

const maxSecret = 4 << 10 // bytes; our choice

// loadSecret reads the secret shared with the rendezvous. The checks of package
// keyfile are made here again, because that package knows the keys of the system
// and a relay must not (design 3).
func loadSecret(path string) (credential.Secret, error) {
	raw, err := readPrivate(path)
	if err != nil {
		return credential.Secret{}, err
	}
	defer clear(raw)
	secret, err := credential.ParseFile(raw)
	if err != nil {
		return credential.Secret{}, errors.New("the secret's file is not one that tucdesk-server made")
	}
	return secret, nil
}

func readPrivate(path string) ([]byte, error) {
	before, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the relay secret: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the relay secret: %w", err)
	}
	defer f.Close()
	after, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the relay secret: %w", err)
	case !before.Mode().IsRegular() || !os.SameFile(before, after):
		return nil, refusal.New(refusal.BadFileMode, "%q is not a plain file", path)
	case runtime.GOOS != "windows" && after.Mode().Perm()&0o077 != 0:
		return nil, refusal.New(refusal.BadFileMode, "%q can be read by others: chmod 600 %q", path, path)
	case after.Size() > maxSecret:
		return nil, refusal.New(refusal.TooLarge, "%q has more than %d bytes", path, maxSecret)
	}
	return io.ReadAll(io.LimitReader(f, maxSecret))
}
