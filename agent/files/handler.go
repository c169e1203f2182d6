package files

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pkg/sftp"

	"github.com/tucdesk/tucdesk/internal/confine"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

var (
	errNoRead  = refusal.New(refusal.PolicyDenied, "the policy does not let files be read here")
	errNoWrite = refusal.New(refusal.PolicyDenied, "the policy does not let files be changed here")
	errFile    = refusal.New(refusal.BadFile, "only regular files are opened")
)

// handler answers the library, which has cleaned the paths. Its methods are called
// from several goroutines.
type handler struct {
	cfg    Config
	places chan struct{} // one for each open file

	// changing is held from the look at a name to its change: requests are answered
	// side by side, and one must not exchange what the other has judged.
	changing sync.Mutex
}

// denied makes of our refusals what clients know; their text is kept for the person.
func denied(err error) error {
	switch refusal.Of(err) {
	case "":
		return err
	case refusal.PolicyDenied, refusal.BadPath:
		return fmt.Errorf("%v: %w", err, sftp.ErrSSHFxPermissionDenied)
	}
	return err
}

// reading finds what is to be read.
func (h *handler) reading(name string, follow bool) (confine.Place, error) {
	if h.cfg.Read == nil {
		return confine.Place{}, errNoRead
	}
	return h.cfg.Read.Find(local(name), follow)
}

// writing finds what is to be changed.
func (h *handler) writing(name string, follow bool) (confine.Place, error) {
	if h.cfg.Write == nil {
		return confine.Place{}, errNoWrite
	}
	return h.cfg.Write.Find(local(name), follow)
}

// readable reports that an open file can be read at a name as well.
func (h *handler) readable(name string, f *file) bool {
	p, err := h.reading(name, true)
	if err != nil || p.Whole() {
		return err == nil
	}
	there, err := p.In.Stat(p.Rel)
	if err != nil {
		return false
	}
	own, err := f.Stat()
	return err == nil && os.SameFile(there, own)
}

// file is an open one, which takes a place.
type file struct {
	*os.File
	close func() error
}

// Close may be called more than once.
func (f *file) Close() error { return f.close() }

// open opens a regular file. It looks before and after: opening a device can do
// something already, and what it saw before may have been exchanged. Without waiting
// for the other end of a FIFO it cannot hang (attack I4).
func (h *handler) open(p confine.Place, flag int, perm fs.FileMode) (*file, error) {
	if info, err := p.In.Stat(p.Rel); err == nil && !info.Mode().IsRegular() {
		return nil, errFile
	}
	f, err := p.In.OpenFile(p.Rel, flag|noWait, perm&fs.ModePerm)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errFile
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return h.count(f)
}

// count gives an open file its place, or closes it.
func (h *handler) count(f *os.File) (*file, error) {
	select {
	case h.places <- struct{}{}:
	default:
		_ = f.Close()
		return nil, refusal.New(refusal.TooMany, "at most %d files can be open at once", cap(h.places))
	}
	return &file{f, sync.OnceValue(func() error {
		defer func() { <-h.places }()
		return f.Close()
	})}, nil
}

// Fileread opens a file for reading.
func (h *handler) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	p, err := h.reading(r.Filepath, true)
	if err != nil {
		return nil, denied(err)
	}
	f, err := h.open(p, os.O_RDONLY, 0)
	if err != nil {
		return nil, denied(err)
	}
	return f, nil
}

// Filewrite opens a file for writing.
func (h *handler) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	f, err := h.create(r, os.O_WRONLY)
	if err != nil {
		return nil, denied(err)
	}
	return f, nil
}

// OpenFile opens a file for both.
func (h *handler) OpenFile(r *sftp.Request) (sftp.WriterAtReaderAt, error) {
	f, err := h.create(r, os.O_RDWR)
	if err != nil {
		return nil, denied(err)
	}
	return f, nil
}

// create opens a file that is written to. To append means nothing here: the client
// says the offset of each write, and they are done side by side.
func (h *handler) create(r *sftp.Request, flag int) (*file, error) {
	p, err := h.writing(r.Filepath, true)
	if err != nil {
		return nil, err
	}
	both := flag == os.O_RDWR
	if _, err := h.reading(r.Filepath, true); both && err != nil {
		return nil, errNoRead
	}
	wants := r.Pflags()
	if wants.Creat {
		flag |= os.O_CREATE
	}
	if wants.Excl {
		flag |= os.O_EXCL
	}
	perm := fs.FileMode(0o666)
	if a := r.Attributes(); a != nil && r.AttrFlags().Permissions {
		perm = a.FileMode()
	}
	f, err := h.open(p, flag, perm)
	if err != nil {
		return nil, err
	}
	if both && !h.readable(r.Filepath, f) { // the two trees have found different files
		err = errNoRead
	} else if wants.Trunc {
		err = f.Truncate(0)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Filelist is Stat and the reading of a folder.
func (h *handler) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	if r.Method != "List" {
		return h.stat(r.Filepath, true)
	}
	p, err := h.reading(r.Filepath, true)
	if err != nil {
		return nil, denied(err)
	}
	info, err := p.In.Stat(p.Rel)
	if err == nil && !info.IsDir() {
		err = refusal.New(refusal.BadFile, "it is no folder")
	}
	if err != nil {
		return nil, denied(err)
	}
	d, err := p.In.OpenFile(p.Rel, os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, err
	}
	f, err := h.count(d)
	if err != nil {
		return nil, err
	}
	return list{f}, nil
}

// Lstat tells of a link itself.
func (h *handler) Lstat(r *sftp.Request) (sftp.ListerAt, error) { return h.stat(r.Filepath, false) }

func (h *handler) stat(name string, follow bool) (sftp.ListerAt, error) {
	p, err := h.reading(name, follow)
	hidden := err != nil
	if hidden { // by who may write there, perhaps
		if p, err = h.writing(name, follow); err != nil {
			return nil, denied(err)
		}
	}
	look := p.In.Lstat
	if follow {
		look = p.In.Stat
	}
	info, err := look(p.Rel)
	if err != nil {
		return nil, err
	}
	if hidden {
		if !info.IsDir() {
			return nil, fs.ErrNotExist
		}
		info = bare(info.Name())
	}
	return one{info}, nil
}

// Readlink says where a link leads, inside or not: it is a file's contents.
func (h *handler) Readlink(name string) (string, error) {
	p, err := h.reading(name, false)
	if err != nil {
		return "", denied(err)
	}
	target, err := p.In.Readlink(p.Rel)
	return filepath.ToSlash(target), err
}

// list reads an open folder on, whatever the offset: the library asks in order.
type list struct{ *file }

// ListAt fills to as far as there are entries.
func (l list) ListAt(to []fs.FileInfo, _ int64) (int, error) {
	infos, err := l.Readdir(len(to))
	if n := copy(to, infos); n > 0 {
		return n, nil
	}
	if err == nil {
		err = io.EOF
	}
	return 0, err
}

// one is the list of one.
type one struct{ info fs.FileInfo }

// ListAt gives it.
func (o one) ListAt(to []fs.FileInfo, _ int64) (int, error) {
	return copy(to, []fs.FileInfo{o.info}), io.EOF
}

// bare is a folder of which nothing is told but that it is one.
type bare string

// Name is the folder's last element.
func (b bare) Name() string { return string(b) }

// Size is nothing: how much lies in a folder is not told.
func (bare) Size() int64 { return 0 }

// Mode is that of a folder of this user alone, whatever it really is.
func (bare) Mode() fs.FileMode { return fs.ModeDir | 0o700 }

// ModTime is no time: when somebody wrote there is not told.
func (bare) ModTime() time.Time { return time.Unix(0, 0) }

// IsDir is what is told.
func (bare) IsDir() bool { return true }

// Sys has nothing from the system.
func (bare) Sys() any { return nil }
