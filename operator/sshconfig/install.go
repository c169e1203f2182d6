package sshconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/operator/sshfront"
)

// The line that we add. ssh takes a path without a slash in front as one below
// ~/.ssh.
const include = "Include config.d/tucdesk\n"

// maxConfig bounds the person's file; our choice, far above any that people write.
const maxConfig = 4 << 20

// folder is a person's ~/.ssh.
type folder string

func (f folder) config() string { return filepath.Join(string(f), "config") }
func (f folder) dropIn() string { return filepath.Join(string(f), "config.d", "tucdesk") }

// install writes the drop-in and includes it once. The drop-in comes first: an
// Include of a file that is not there is no error for ssh, but of no use either.
func (f folder) install(text string) error {
	if err := os.MkdirAll(filepath.Dir(f.dropIn()), 0o700); err != nil {
		return fmt.Errorf("creating %q: %v", filepath.Dir(f.dropIn()), err)
	}
	if err := keyfile.WriteAtomic(f.dropIn(), []byte(text), 0o600); err != nil {
		return err
	}
	config, mode, err := f.read()
	if err != nil || includes(config) {
		return err
	}
	return f.write(append([]byte(include), config...), mode)
}

// Who may write to a file besides its owner.
const (
	groupWrites = 0o020
	otherWrites = 0o002
)

// check refuses a file that ssh would refuse: whoever may write to it chooses what
// this person's ssh runs. Some systems have ssh take what a group of one person may
// write to, so that is left to installed to tell. Windows has no such modes.
func (f folder) check() error {
	_, mode, err := f.read()
	if err != nil || mode&otherWrites == 0 || runtime.GOOS == "windows" {
		return err
	}
	return &cli.Error{Err: refusal.New(refusal.BadFileMode, "everybody may write to %q, so ssh refuses it", f.config()),
		Hints: []string{"chmod go-w " + terminal.Quote([]byte(f.config())), "then run this again"}}
}

// installed says what ssh makes of it. reads is the folder that ssh looks into, ""
// where nobody knows.
func (f folder) installed(reads folder) string {
	said := fmt.Sprintf("wrote %q; ", f.dropIn())
	if reads != "" && !sameFolder(f, reads) {
		return said + fmt.Sprintf("ssh does not read it by itself: $HOME is not this account's home, and ssh reads %q\nso name it each time: ssh -F %s HOST%s",
			reads.config(), terminal.Quote([]byte(f.dropIn())), sshfront.Suffix)
	}
	if _, mode, err := f.read(); err == nil && mode&groupWrites != 0 && runtime.GOOS != "windows" {
		said += fmt.Sprintf("a group may write to %q, which ssh may refuse: chmod g-w %s\nthen ", f.config(), terminal.Quote([]byte(f.config())))
	}
	return said + fmt.Sprintf("ssh HOST%s works now", sshfront.Suffix)
}

func sameFolder(a, b folder) bool {
	one, err := os.Stat(string(a))
	if err != nil {
		return a == b
	}
	other, err := os.Stat(string(b))
	return err == nil && os.SameFile(one, other)
}

// uninstall takes back what install did, and leaves no empty file or folder behind.
// What is not there is no error; it reports whether anything was.
func (f folder) uninstall() (found bool, err error) {
	config, mode, err := f.read()
	if err != nil {
		return false, err
	}
	if found = includes(config); found {
		var kept []byte
		for line := range bytes.Lines(config) {
			if !isInclude(line) {
				kept = append(kept, line...)
			}
		}
		if err := f.keep(kept, mode); err != nil {
			return found, err
		}
	}
	switch err := os.Remove(f.dropIn()); {
	case err == nil:
		found = true
	case !errors.Is(err, fs.ErrNotExist):
		return found, fmt.Errorf("removing %q: %v", f.dropIn(), err)
	}
	_ = os.Remove(filepath.Dir(f.dropIn())) // unless others have something in it
	return found, nil
}

// keep writes what is the person's own; a file in which only our line stood goes. A
// link stays, since it leads to something that others may read.
func (f folder) keep(own []byte, mode fs.FileMode) error {
	info, err := os.Lstat(f.config())
	if err != nil || len(bytes.TrimSpace(own)) > 0 || !info.Mode().IsRegular() {
		return f.write(own, mode)
	}
	if err := os.Remove(f.config()); err != nil {
		return fmt.Errorf("removing %q: %v", f.config(), err)
	}
	return nil
}

// read returns the person's file, and the mode that a new one is to have.
func (f folder) read() ([]byte, fs.FileMode, error) {
	info, err := os.Stat(f.config())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0o600, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading %q: %v", f.config(), err)
	}
	if info.Size() > maxConfig {
		return nil, 0, refusal.New(refusal.TooLarge, "%q has more than %d bytes", f.config(), maxConfig)
	}
	config, err := os.ReadFile(f.config())
	if err != nil {
		return nil, 0, fmt.Errorf("reading %q: %v", f.config(), err)
	}
	return config, info.Mode().Perm(), nil
}

// write replaces the person's file as a whole. Many keep it as a link into a
// folder under version control; then the file there is the one to replace.
func (f folder) write(config []byte, mode fs.FileMode) error {
	path := f.config()
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return keyfile.WriteAtomic(path, config, mode)
}

func includes(config []byte) bool {
	for line := range bytes.Lines(config) {
		if isInclude(line) {
			return true
		}
	}
	return false
}

func isInclude(line []byte) bool {
	return bytes.Equal(bytes.TrimSpace(line), bytes.TrimSpace([]byte(include)))
}
