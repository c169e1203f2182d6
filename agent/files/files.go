// Package files serves the SFTP protocol (draft-ietf-secsh-filexfer-02, which is what
// OpenSSH's sftp, scp and sshfs speak) in the session process.
//
// The process runs as the target's user, so the system decides what that user may
// read and write, as with a shell; the policy decides whether there are files at
// all, and in which direction. What is read is never more than the user can read.
package files

import (
	"errors"
	"io"
	"os"

	"github.com/pkg/sftp"
)

// Config is one client's access.
type Config struct {
	Home  string // where relative paths begin: it becomes the process' folder
	Write bool   // otherwise nothing can be changed
}

// conn is the two halves of a channel as one.
type conn struct {
	io.Reader
	io.Writer
}

// Close does nothing: the channel is closed by who opened it.
func (conn) Close() error { return nil }

// Serve answers the client's requests until it ends its input, or one of the two
// fails. Files that are open then are closed. It is for a process of its own: the
// library's working directory would also rewrite what symbolic links say.
func Serve(in io.Reader, out io.Writer, cfg Config) error {
	if err := os.Chdir(cfg.Home); err != nil {
		return err
	}
	options := []sftp.ServerOption{sftp.WithAllocator()}
	if !cfg.Write {
		options = append(options, sftp.ReadOnly())
	}
	s, err := sftp.NewServer(conn{in, out}, options...)
	if err != nil {
		return err
	}
	err = s.Serve()
	_ = s.Close()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
