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

	"github.com/pkg/sftp"
)

// Config is one client's access.
type Config struct {
	Home  string // where relative paths begin
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
// fails. Files that are open then are closed.
func Serve(in io.Reader, out io.Writer, cfg Config) error {
	options := []sftp.ServerOption{sftp.WithServerWorkingDirectory(cfg.Home), sftp.WithAllocator()}
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
