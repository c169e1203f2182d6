package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pkg/sftp"

	"github.com/tucdesk/tucdesk/internal/confine"
	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Filecmd does everything that changes something but the contents.
func (h *handler) Filecmd(r *sftp.Request) error { return denied(h.change(r)) }

func (h *handler) change(r *sftp.Request) error {
	h.changing.Lock()
	defer h.changing.Unlock()
	switch r.Method {
	case "Setstat":
		return h.setstat(r)
	case "Rename":
		return h.move(r, false)
	case "Link":
		return h.link(r)
	case "Symlink":
		return h.symlink(r)
	}
	p, err := h.writing(r.Filepath, false)
	if err != nil {
		return err
	}
	switch r.Method {
	case "Mkdir":
		return p.In.Mkdir(p.Rel, fs.ModePerm)
	case "Rmdir", "Remove":
		if err := h.fixed(p); err != nil {
			return err
		}
		return remove(p, r.Method == "Rmdir")
	}
	return sftp.ErrSSHFxOpUnsupported
}

// remove takes away a folder or something else, as the client asked: a script that
// removes a file must not take a folder with it.
func remove(p confine.Place, folder bool) error {
	info, err := p.In.Lstat(p.Rel)
	if err != nil {
		return err
	}
	if info.IsDir() != folder || p.Rel == "." {
		return refusal.New(refusal.BadFile, "a folder is removed as a folder, and everything else as a file")
	}
	return p.In.Remove(p.Rel)
}

// PosixRename renames over what is there.
func (h *handler) PosixRename(r *sftp.Request) error {
	h.changing.Lock()
	defer h.changing.Unlock()
	return denied(h.move(r, true))
}

func (h *handler) move(r *sftp.Request, over bool) error {
	in, from, to, err := h.two(r.Filepath, r.Target)
	if err != nil {
		return err
	}
	if _, err := in.Lstat(to); err == nil && !over {
		return fs.ErrExist
	}
	if err := confine.Stays(in, from, to); err != nil {
		return err
	}
	return in.Rename(from, to)
}

// link makes a second name for a file, and for nothing else.
func (h *handler) link(r *sftp.Request) error {
	in, from, to, err := h.two(r.Filepath, r.Target)
	if err != nil {
		return err
	}
	if info, err := in.Lstat(from); err != nil || !info.Mode().IsRegular() {
		return errFile
	}
	return in.Link(from, to)
}

// errPart: by the name of a file that is not complete, tucdesk cp knows what its own
// operator has sent before, and tells the hashes of it.
var errPart = refusal.New(refusal.PolicyDenied, "that name belongs to files that tucdesk cp has not completed")

// two finds what a file is called and is to be called. Both names have to lie where
// changes are allowed: a second name for a file that may only be read would make it
// one that can be written. And what cannot be read must not get a name at which it can.
func (h *handler) two(from, to string) (in confine.Folder, first, second string, err error) {
	a, err := h.writing(from, false)
	if err != nil {
		return nil, "", "", err
	}
	b, err := h.writing(to, false)
	if err != nil {
		return nil, "", "", err
	}
	if err := errors.Join(h.fixed(a), h.fixed(b), h.shown(a, b)); err != nil {
		return nil, "", "", err
	}
	if filecopy.IsPart(filepath.Base(b.Abs)) {
		return nil, "", "", errPart
	}
	return h.cfg.Write.Together(a, b)
}

// shown refuses the name b for what lies at a when it could be read only there.
func (h *handler) shown(a, b confine.Place) error {
	after, err := h.cfg.Read.Shows(b)
	if err != nil || !after {
		return err
	}
	if before, err := h.cfg.Read.Shows(a); err != nil || before {
		return err
	}
	return errNoRead
}

// symlink makes one. Where the policy names folders it has to stay in them.
func (h *handler) symlink(r *sftp.Request) error {
	p, err := h.writing(r.Target, false)
	if err != nil {
		return err
	}
	target := filepath.FromSlash(r.Filepath)
	if err := h.fixed(p); err != nil {
		return err
	}
	if err := h.cfg.Write.Leads(p, target); err != nil {
		return err
	}
	return p.In.Symlink(target, p.Rel)
}

// setstat sets a size, a mode and times.
func (h *handler) setstat(r *sftp.Request) error {
	p, err := h.writing(r.Filepath, true)
	if err != nil {
		return err
	}
	info, err := p.In.Stat(p.Rel)
	if err != nil {
		return err
	}
	wants, a := r.AttrFlags(), r.Attributes()
	if a == nil {
		return sftp.ErrSSHFxBadMessage
	}
	if wants.UidGid && !owned(info, a.UID, a.GID) {
		return refusal.New(refusal.PolicyDenied, "owners of files are not changed over sftp")
	}
	if wants.Size {
		if err := h.truncate(p, int64(a.Size)); err != nil {
			return err
		}
	}
	if wants.Permissions {
		if err := p.In.Chmod(p.Rel, modeFor(info, a.FileMode())); err != nil {
			return err
		}
	}
	if wants.Acmodtime {
		return p.In.Chtimes(p.Rel, time.Unix(int64(a.Atime), 0), time.Unix(int64(a.Mtime), 0))
	}
	return nil
}

// modeFor leaves out the bits by which a file runs with somebody's rights (attack
// I5). A folder keeps what it has of them: that is how teams share one.
func modeFor(info fs.FileInfo, mode fs.FileMode) fs.FileMode {
	mode &= fs.ModePerm
	if info.IsDir() {
		mode |= info.Mode() & (fs.ModeSetgid | fs.ModeSticky)
	}
	return mode
}

func (h *handler) truncate(p confine.Place, size int64) error {
	f, err := h.open(p, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}

// StatVFS tells how full the disk is, to whoever may read or write there.
func (h *handler) StatVFS(r *sftp.Request) (*sftp.StatVFS, error) {
	p, err := h.reading(r.Filepath, true)
	if err != nil {
		p, err = h.writing(r.Filepath, true)
	}
	if err != nil {
		return nil, denied(err)
	}
	if info, err := p.In.Stat(p.Rel); err != nil {
		return nil, err
	} else if !info.IsDir() { // opening a folder does nothing to it
		p.Rel = filepath.Dir(p.Rel)
	}
	d, err := p.In.OpenFile(p.Rel, os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return volume(d)
}
