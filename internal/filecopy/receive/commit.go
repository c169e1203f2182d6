package receive

import (
	"os"

	"github.com/tucdesk/tucdesk/internal/filecopy/disk"
)

// commit gives complete files their names, in batches: what has come while one batch
// was waited for is the next. So a single file is there at once, and ten thousand do
// not wait ten thousand times for the disk.
func (r *Receiver) commit() {
	for p := range r.complete {
		parts := []*part{p}
	more:
		for len(parts) < batch {
			select {
			case p, ok := <-r.complete:
				if !ok {
					break more
				}
				parts = append(parts, p)
			default:
				break more
			}
		}
		r.commitAll(parts)
	}
}

// commitAll: on the disk first, then the name, or a power failure could leave the
// new name with nothing behind it.
func (r *Receiver) commitAll(parts []*part) {
	files := make([]*os.File, len(parts))
	for i, p := range parts {
		files[i] = p.f
	}
	errs := disk.Sync(files)
	for i, p := range parts {
		err := errs[i]
		if err != nil {
			p.leave(false)
		} else {
			var size int64
			if size, err = p.commit(); err == nil {
				r.count(1, uint64(size))
				if p.barred {
					err = errBarred
				}
			}
		}
		if err != nil {
			r.fail(r.problem(p.name, err))
		}
	}
}
