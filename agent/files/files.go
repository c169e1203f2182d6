// Package files serves the SFTP protocol (draft-ietf-secsh-filexfer-02, which is what
// OpenSSH's sftp, scp and sshfs speak) in the session process, and keeps every copy
// inside the folders that the policy names.
//
// The process runs as the target's user, so the system decides what that user may
// read and write, as with a shell. What is here decides further: nothing is read
// outside the tree for reading, nothing changed outside the one for writing, and
// neither names nor symbolic links nor renames lead from one to the other (attacks
// I1, I3, I9).
//
// Who may write and not read still learns which folders there are, because a client
// looks for the one that it puts a file into, and opening a file in it would tell the
// same. Nothing else is told: no listing, no size, no contents.
//
// Of files, only regular ones are opened (attack I4). Setuid, setgid and sticky bits
// are not set on files, and owners are not changed (attack I5).
package files

import (
	"errors"
	"io"

	"github.com/pkg/sftp"

	"github.com/tucdesk/tucdesk/internal/confine"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// maxOpen bounds the files and folders that one client has open; our choice. OpenSSH
// has one, sshfs as many as its programs.
const maxOpen = 512

// Config is one client's access. Serve does not close the trees.
type Config struct {
	Home  string        // where relative paths begin, if it may be seen; otherwise in the first tree
	Read  *confine.Tree // what may be read; nil for nothing
	Write *confine.Tree // what may be changed; nil for nothing
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
	if cfg.Read.Empty() && cfg.Write.Empty() {
		return refusal.New(refusal.PolicyDenied, "no files may be read or written")
	}
	h := &handler{cfg: cfg, places: make(chan struct{}, maxOpen)}
	said := &answers{w: out}
	asked := &requests{r: in, out: said, home: remote(cfg.Home)}
	s := sftp.NewRequestServer(conn{asked, said}, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h},
		sftp.WithRSAllocator(), sftp.WithRSMaxTxPacket(maxData), sftp.WithStartDirectory(remote(cfg.start())))
	err := s.Serve()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // with files open it says the second
		return nil
	}
	return err
}

// start is where relative paths begin.
func (c Config) start() string {
	for _, t := range []*confine.Tree{c.Read, c.Write} {
		if t != nil && t.Holds(c.Home) {
			return c.Home
		}
	}
	if !c.Read.Empty() {
		return c.Read.First()
	}
	return c.Write.First()
}
