package filecopy

import (
	"crypto/sha256"
	"path"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Gate keeps a sender to what it was asked for. Who receives shows it every entry,
// and so does the operator that passes messages on between two machines, since the
// receiver there cannot know what was asked. scp had to learn it too (CVE-2019-6111):
// a name of which only the first element is judged puts files into any folder that
// is there already (attack I6). One goroutine may use it.
type Gate struct {
	asked   []string
	tree    bool // folders were asked for
	entries int
	folders map[Key]struct{} // that were sent
}

// NewGate makes one for the sources of a get. nil takes every first element: where
// the sender is who may write there anyway. Without tree there are single files and
// nothing else.
func NewGate(asked []string, tree bool) *Gate {
	return &Gate{asked: asked, tree: tree, folders: map[Key]struct{}{}}
}

// Pass judges a message; one that is no entry passes. bad_path is a name that nobody
// asked for: the entry is left out. protocol_error and too_many end the copy: no
// sender that reads a disk says such a thing.
func (g *Gate) Pass(m Message) error {
	name, ok := EntryName(m)
	if !ok {
		return nil
	}
	if g.entries++; g.entries > MaxEntries {
		return refusal.New(refusal.TooMany, "a copy has at most %d files and folders", MaxEntries)
	}
	parent, below := parentOf(name)
	if !g.tree && (below || !isFile(m)) {
		return refusal.New(refusal.ProtocolError, "a folder, a link or a file in a folder was sent, and single files were asked for")
	}
	if g.asked != nil && !Asked(g.asked, name) {
		return refusal.New(refusal.BadPath, "nobody asked for a file of that name")
	}
	if below {
		if err := CheckName("", name); err != nil {
			return err
		}
		if _, sent := g.folders[KeyOf(parent)]; !sent {
			return refusal.New(refusal.ProtocolError, "an entry was sent without the folder that it lies in")
		}
	}
	if _, folder := m.(Folder); folder {
		g.folders[KeyOf(name)] = struct{}{}
	}
	return nil
}

// EntryName is the name of a folder, link or file; ok is false of other messages.
func EntryName(m Message) (name string, ok bool) {
	switch m := m.(type) {
	case Folder:
		return m.Name, true
	case Link:
		return m.Name, true
	case Small:
		return m.Name, true
	case Offer:
		return m.Name, true
	}
	return "", false
}

func isFile(m Message) bool {
	switch m.(type) {
	case Small, Offer:
		return true
	}
	return false
}

// parentOf is a name without its last element, if it has more than one.
func parentOf(name string) (parent string, below bool) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], i >= 0
}

// Asked reports whether the first element of a name is one of those that were asked
// for: the last elements of the sources, with "*", "?" and "[...]". As in a shell
// these do not stand for the dot that a name begins with: "*" never means .bashrc.
func Asked(sources []string, name string) bool {
	top, _, _ := strings.Cut(name, "/")
	for _, s := range sources {
		base := path.Base(s)
		if top == base {
			return true
		}
		if hidden(top) && !hidden(strings.TrimPrefix(base, `\`)) {
			continue
		}
		if ok, err := path.Match(base, top); err == nil && ok {
			return true
		}
	}
	return false
}

// unseen are the runes that HFS+ of macOS leaves out when it compares names: with
// one of them in front, a .bashrc would not begin with a dot.
const unseen = "\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u206a\u206b\u206c\u206d\u206e\u206f\ufeff"

func hidden(name string) bool { return strings.HasPrefix(strings.TrimLeft(name, unseen), ".") }

// Key stands for a name where names are only compared: it has 16 bytes however long
// the name is that a sender thinks of.
type Key [16]byte

// KeyOf is the first half of the name's SHA-256: nobody finds a second name for one.
func KeyOf(name string) Key {
	sum := sha256.Sum256([]byte(name))
	return Key(sum[:16])
}
