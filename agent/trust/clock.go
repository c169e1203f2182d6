package trust

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/policy/roster"
)

const (
	// clockEvery is how often the remembered time is written; our choice, well
	// below the ten minutes that a clock may go back.
	clockEvery = 5 * time.Minute
	maxClock   = 64 // bytes of the file
)

// Remember writes the time down now and then, so that a clock that goes back is
// noticed also after a restart (protocol 3.3, rule 4).
func (k *Keeper) Remember(at time.Time) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	k.mu.Lock()
	if roster.Sane(k.seen, at) == nil {
		k.seen = k.now.Roster.Seen(k.seen, at)
	}
	seen := k.seen
	k.mu.Unlock()
	if seen.Sub(k.written) < clockEvery {
		return nil
	}
	if err := writeClock(k.dir, seen); err != nil {
		return err
	}
	k.written = seen
	return nil
}

// readClock returns the remembered time, zero when there is none yet.
func readClock(dir string) (time.Time, error) {
	text, err := keyfile.ReadPrivate(filepath.Join(dir, clockFile), maxClock)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	ms, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return time.Time{}, refusal.New(refusal.BadStatement, "%q does not hold a time: remove it", filepath.Join(dir, clockFile))
	}
	return time.UnixMilli(ms), nil
}

func writeClock(dir string, t time.Time) error {
	return keyfile.WriteAtomic(filepath.Join(dir, clockFile), []byte(strconv.FormatInt(t.UnixMilli(), 10)+"\n"), 0o600)
}
