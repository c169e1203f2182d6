package verify

import (
	"encoding/binary"
	"hash/maphash"
	"runtime"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// N6: an agent can begin sessions that never end for as long as there is a log, and all
// of them are remembered. Each takes no more than Export says.
func TestN6SessionsWithoutAnEndTakeFewBytes(t *testing.T) {
	const most = 200_000
	v := &verifier{seed: maphash.MakeSeed(), sessions: map[uint64]uint64{}}
	before := heap()
	for n := range uint64(most) {
		var id wire.SessionID
		binary.BigEndian.PutUint64(id[:], n)
		v.session(0, &entry.Entry{Type: entry.SessionAccept, Session: id}, key.ID{byte(n)})
		if n++; n%20_000 != 0 {
			continue
		}
		if each := (heap() - before) / n; each > 48 {
			t.Errorf("%d sessions take %d bytes each", n, each)
		}
	}
	if len(v.sessions) != most || len(v.report.Findings) != 0 {
		t.Errorf("%d sessions, %v", len(v.sessions), v.report.Findings)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
