package receive

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/filecopy/disk"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// maxOpenFolders bounds how many folders are kept open for the next file; our choice.
const maxOpenFolders = 32

// tree is where a copy goes: a folder that nothing leaves, whatever names the peer
// sends and whatever links lie in it (attacks I1, I3, I6).
type tree struct {
	root  *os.Root
	real  string // its name, as filecopy.Folders resolved it
	base  string // what the one source is called here; "" keeps the names
	umask fs.FileMode
	mark  string // in names of parts; "" is those of whoever may look at them
	anew  bool   // no copy goes on with another's part

	mu      sync.Mutex
	folders map[string]*folder        // guarded by mu: open ones
	made    map[object]filecopy.Key   // guarded by mu: what this copy has put there, and by which name
	seen    map[filecopy.Key]struct{} // names that were sent; of the reader's goroutine
	top     string                    // the one source's name there; likewise
}

// object is a file or folder on the disk, by its number or, where the system tells
// none, by its name without capitals.
type object struct {
	id     disk.ID
	folded filecopy.Key
}

// folder is one open folder. It is closed when nobody uses it and it is not kept.
type folder struct {
	root  *os.Root
	users int // guarded by tree.mu; being kept counts as one
}

// place finds where a copy goes: into the folder at name, or to a file or folder
// that is to be called so.
func place(name string, folders filecopy.Folders, into bool) (*tree, error) {
	t := &tree{umask: disk.Umask(), folders: map[string]*folder{}, made: map[object]filecopy.Key{}, seen: map[filecopy.Key]struct{}{}}
	into = into || strings.HasSuffix(name, "/") || strings.HasSuffix(name, string(filepath.Separator))
	real, err := folders.Resolve(name)
	if err == nil {
		info, err := os.Stat(real)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			t.real = real
			t.root, err = folders.OpenFolder(real)
			return t, err
		}
		if into {
			return nil, refusal.New(refusal.BadFile, "the target is no folder")
		}
	} else if into || !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	name = filepath.Clean(name)
	t.base = filepath.Base(name)
	if err := filecopy.CheckName(runtime.GOOS, t.base); err != nil {
		return nil, err
	}
	if real, err = folders.Resolve(filepath.Dir(name)); err != nil {
		return nil, err
	}
	t.real = real
	t.root, err = folders.OpenFolder(real)
	return t, err
}

// local is what a name that was sent is called here. Each may come once.
func (t *tree) local(name string) (string, error) {
	if err := filecopy.CheckName(runtime.GOOS, name); err != nil {
		return "", err
	}
	key := filecopy.KeyOf(name)
	if _, twice := t.seen[key]; twice {
		return "", refusal.New(refusal.NameCollision, "two files of the same name were sent")
	}
	t.seen[key] = struct{}{}
	if t.base == "" {
		return name, nil
	}
	top, rest, below := strings.Cut(name, "/")
	if t.top == "" {
		t.top = top
	}
	if top != t.top {
		return "", refusal.New(refusal.BadPath, "several sources need a folder as their target")
	}
	if !below {
		return t.base, nil
	}
	return t.base + "/" + rest, nil
}

// open opens a folder, "." being the root. The caller gives it back by done.
func (t *tree) open(name string) (*folder, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.openLocked(name)
}

func (t *tree) openLocked(name string) (*folder, error) {
	if f := t.folders[name]; f != nil {
		f.users++
		return f, nil
	}
	root, err := t.enterLocked(name)
	if err != nil {
		return nil, err
	}
	if len(t.folders) >= maxOpenFolders {
		for other, f := range t.folders {
			delete(t.folders, other)
			t.doneLocked(f)
			break
		}
	}
	f := &folder{root: root, users: 2}
	t.folders[name] = f
	return f, nil
}

// enterLocked goes into one folder after the other and through no link: it could be
// the peer's, of this copy or an earlier one, and what is put behind it would lie
// elsewhere than its name was judged for (attacks I3, I6).
func (t *tree) enterLocked(name string) (*os.Root, error) {
	if name == "." {
		return t.root.OpenRoot(name)
	}
	parent, err := t.openLocked(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer t.doneLocked(parent)
	base := path.Base(name)
	info, err := lookFolder(parent.root, base)
	if err != nil {
		return nil, err
	}
	root, err := parent.root.OpenRoot(base)
	if err != nil {
		return nil, err
	}
	if opened, err := root.Stat("."); err != nil || !os.SameFile(info, opened) {
		_ = root.Close()
		return nil, errNoFolder
	}
	return root, nil
}

var errNoFolder = refusal.New(refusal.BadFile, "there is something else of that name that is no folder, or a link to one")

// lookFolder is about what lies there itself, which has to be a folder.
func lookFolder(parent *os.Root, base string) (fs.FileInfo, error) {
	info, err := parent.Lstat(base)
	if err == nil && info.Mode().Type() != fs.ModeDir {
		err = errNoFolder
	}
	return info, err
}

func (t *tree) done(f *folder) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doneLocked(f)
}

func (t *tree) doneLocked(f *folder) {
	if f.users--; f.users == 0 {
		_ = f.root.Close()
	}
}

// close closes what is open. Nobody may use the tree any more.
func (t *tree) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, f := range t.folders {
		delete(t.folders, name)
		t.doneLocked(f)
	}
	_ = t.root.Close()
}

// claim notes that this copy has put name there, unless it has put the same under
// another name.
func (t *tree) claim(name string, info fs.FileInfo) error {
	if err := t.claimed(name, info); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made[objectOf(name, info)] = filecopy.KeyOf(name)
	return nil
}

// claimed fails when info, which lies at name, is something that this copy has put
// there under another name: on this disk the two are one (attack I10).
func (t *tree) claimed(name string, info fs.FileInfo) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if other, ok := t.made[objectOf(name, info)]; ok && other != filecopy.KeyOf(name) {
		return refusal.New(refusal.NameCollision, "on this disk it has the name of another file of this copy")
	}
	return nil
}

func objectOf(name string, info fs.FileInfo) object {
	if id := disk.FactsOf(info).ID; id != (disk.ID{}) {
		return object{id: id}
	}
	return object{folded: filecopy.KeyOf(strings.ToLower(name))}
}

// mkdir makes a folder, or finds one there.
func (t *tree) mkdir(name string, mode uint32) error {
	parent, err := t.open(path.Dir(name))
	if err != nil {
		return err
	}
	defer t.done(parent)
	base := path.Base(name)
	err = parent.root.Mkdir(base, fs.FileMode(mode)&fs.ModePerm|0o700)
	if err != nil && !os.IsExist(err) {
		return err
	}
	info, err := lookFolder(parent.root, base)
	if err != nil {
		return err
	}
	return t.claim(name, info)
}

// settle gives a folder its mode and time, when nothing is put into it any more.
func (t *tree) settle(name string, mode fs.FileMode, at time.Time) error {
	parent, err := t.open(path.Dir(name))
	if err != nil {
		return err
	}
	defer t.done(parent)
	base := path.Base(name)
	if err := parent.root.Chmod(base, mode); err != nil {
		return err
	}
	return parent.root.Chtimes(base, at, at)
}

// link makes a symbolic link. What is there already is replaced only if it is one.
func (t *tree) link(name, target string) error {
	parent, err := t.open(path.Dir(name))
	if err != nil {
		return err
	}
	defer t.done(parent)
	base := path.Base(name)
	if info, err := parent.root.Lstat(base); err == nil {
		if info.Mode().Type() != fs.ModeSymlink {
			return refusal.New(refusal.BadFile, "there is something else of that name that is no link")
		}
		if err := parent.root.Remove(base); err != nil {
			return err
		}
	}
	return parent.root.Symlink(filepath.FromSlash(target), base)
}
