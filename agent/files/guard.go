package files

import (
	"github.com/tucdesk/tucdesk/internal/confine"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

var errNamed = refusal.New(refusal.BadPath, "the policy names this, or something below it, so it stays what and where it is")

// fixed refuses places that are a folder or a socket of the policy or on the way to one. The
// next session opens those by name: who could put a link there, another folder or another
// socket, would choose what the policy opens (attacks I3, I9, P4). A folder has several
// names, so we compare what it is as well.
func (h *handler) fixed(p confine.Place) error {
	e, err := confine.EntryAt(p)
	if err != nil {
		return err
	}
	for _, t := range []*confine.Tree{h.cfg.Read, h.cfg.Write} {
		if t != nil && t.Needs(p.Abs, e) {
			return errNamed
		}
	}
	return nil
}
