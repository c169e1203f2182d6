// Package keyfile keeps files that hold secrets or that must survive a crash.
//
// A private key lies in a file of its own, 32 raw bytes of seed as text
// ("tucdesk-seed:" base64url), readable by its owner alone. Create and Load are
// different functions: a reader never makes a key because a disk was not
// mounted yet, and a writer never overwrites one. A file that others can read,
// that belongs to somebody else or that is a symbolic link is refused with
// refusal.BadFileMode, naming the path and the command that mends it: a key
// that others could read has to be looked at by a person.
//
// On Windows access lists say what mode bits say elsewhere. Its system and its
// administrators may always read, as root may.
//
// Source: protocol 2.9, design 7, attacks B17.
package keyfile

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

const seedPrefix = "tucdesk-seed:"

// maxSeedFile is the size of a seed file with its prefix and newline, rounded up; our choice.
const maxSeedFile = 128

// CreateKey makes a new key and writes it to a new file at path, mode 0600, on
// the disk before it returns. An existing file is an error and stays untouched.
func CreateKey[R key.Role](path string) (key.Private[R], error) {
	k, err := key.Generate[R]()
	if err != nil {
		return k, err
	}
	var seed bytes.Buffer
	if err := k.WriteSeed(&seed); err != nil {
		return key.Private[R]{}, err
	}
	defer clear(seed.Bytes())
	text := append([]byte(seedPrefix), base64.RawURLEncoding.AppendEncode(nil, seed.Bytes())...)
	text = append(text, '\n')
	defer clear(text)
	if err := WriteNew(path, text); err != nil {
		return key.Private[R]{}, err
	}
	return k, nil
}

// LoadKey reads the key that CreateKey wrote.
func LoadKey[R key.Role](path string) (key.Private[R], error) {
	text, err := ReadPrivate(path, maxSeedFile)
	if err != nil {
		return key.Private[R]{}, err
	}
	defer clear(text)
	enc, ok := bytes.CutPrefix(bytes.TrimSuffix(text, []byte("\n")), []byte(seedPrefix))
	seed := make([]byte, base64.RawURLEncoding.DecodedLen(len(enc)))
	defer clear(seed)
	if n, err := base64.RawURLEncoding.Strict().Decode(seed, enc); !ok || err != nil || n != key.SeedSize {
		return key.Private[R]{}, fmt.Errorf("reading key file %q: not a key file", path)
	}
	return key.FromSeed[R](seed)
}

// WriteNew writes data to a new file, mode 0600, and syncs file and folder. If
// the file exists the error matches fs.ErrExist.
func WriteNew(path string, data []byte) error {
	f, err := createNew(path)
	if err != nil {
		return fmt.Errorf("creating %q: %w", path, err)
	}
	if err := writeSync(f, data); err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("writing %q: %v", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// WriteAtomic replaces the file at path as a whole: readers and a crash at any
// moment see the old or the new content, never a part.
func WriteAtomic(path string, data []byte, mode fs.FileMode) error {
	f, err := createTemp(path, mode)
	if err != nil {
		return fmt.Errorf("replacing %q: %v", path, err)
	}
	defer os.Remove(f.Name()) // after the rename there is nothing left to remove
	if err := writeSync(f, data); err != nil {
		return fmt.Errorf("replacing %q: %v", path, err)
	}
	if err := replace(f.Name(), path); err != nil {
		return fmt.Errorf("replacing %q: %v", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func writeSync(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// ReadPrivate reads a file of at most limit bytes that only its owner, who is
// the caller, may read. A missing file matches fs.ErrNotExist.
func ReadPrivate(path string, limit int) ([]byte, error) {
	before, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", path, unwrapPath(err))
	}
	if !before.Mode().IsRegular() {
		return nil, refusal.New(refusal.BadFileMode, "%q is not a regular file: put the file itself there", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", path, unwrapPath(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading %q: %v", path, err)
	}
	if !os.SameFile(before, info) {
		return nil, refusal.New(refusal.BadFileMode, "%q changed while it was opened", path)
	}
	if err := checkPrivate(f, info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("reading %q: %v", path, err)
	}
	if len(data) > limit {
		clear(data)
		return nil, fmt.Errorf("reading %q: longer than %d bytes", path, limit)
	}
	return data, nil
}

// CreateDir makes a folder for secrets, mode 0700, with its parents. On Windows what is
// made in it is as private. An
// existing folder is taken when it is private already.
func CreateDir(path string) error {
	if err := makeDir(path); err != nil {
		return fmt.Errorf("creating folder %q: %w", path, unwrapPath(err))
	}
	return CheckDir(path)
}

// CheckDir refuses a folder that others may write to or that is not the
// caller's: whoever can replace a file there owns what it says.
func CheckDir(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("opening folder %q: %w", path, unwrapPath(err))
	}
	if !info.IsDir() {
		return fmt.Errorf("opening folder %q: not a folder", path)
	}
	return checkDirPrivate(path, info)
}

// unwrapPath drops the path that the system's error repeats.
func unwrapPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
