package seal

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestA1EveryFlippedBitIsDropped(t *testing.T) {
	op, ag := peers(t)
	d := mustSeal(t, op, "some text in a datagram")
	for i := range 8 * len(d) {
		bad := slices.Clone(d)
		bad[i/8] ^= 1 << (i % 8)
		mustDrop(t, ag, bad, start, refusal.OpenFailed)
	}
	if got := ag.Stats(); got != (Stats{OpenFailed: uint64(8 * len(d))}) {
		t.Errorf("stats %+v", got)
	}
	mustOpen(t, ag, d, "some text in a datagram") // the session lives
}

func TestA2ChangedHeaderIsDropped(t *testing.T) {
	op, ag := peers(t)
	d := mustSeal(t, op, "x")
	for at, values := range map[int][]byte{
		0: {0, 0xD1, 0xD3, 0xD9, 0xFF}, 1: {1, 2, 255}, 2: {1, 0x80}, 3: {1, 0x80},
		4: {d[4] + 1}, 7: {d[7] + 1}, 8: {1, 0xFF}, 11: {1}, 15: {1, 2, 255},
	} {
		for _, v := range values {
			bad := slices.Clone(d)
			bad[at] = v
			mustDrop(t, ag, bad, start, refusal.OpenFailed)
		}
	}
	mustOpen(t, ag, d, "x")
}

func TestA3SameDatagramOnlyOnce(t *testing.T) {
	op, ag := peers(t)
	d := mustSeal(t, op, "x")
	mustOpen(t, ag, d, "x")
	for range 1000 {
		mustDrop(t, ag, d, start, refusal.Replay)
	}
	for range 2 * 2048 {
		mustOpen(t, ag, mustSeal(t, op, "y"), "y")
	}
	mustDrop(t, ag, d, start, refusal.TooOld)
	if got := ag.Stats(); got != (Stats{Opened: 1 + 2*2048, Replayed: 1000, TooOld: 1}) {
		t.Errorf("stats %+v", got)
	}
}

func TestA3ConcurrentCopiesOnlyOnce(t *testing.T) {
	op, ag := peers(t)
	const n = 200
	var datagrams [][]byte
	for range n {
		datagrams = append(datagrams, mustSeal(t, op, "x"))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, d := range datagrams {
				_, _, err := ag.Open(nil, d, start)
				if code := refusal.Of(err); err != nil && code != refusal.Replay {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := ag.Stats(); got != (Stats{Opened: n, Replayed: 7 * n}) {
		t.Errorf("stats %+v", got)
	}
}

func TestA4ReorderedWithinTheWindow(t *testing.T) {
	op, ag := peers(t)
	var datagrams [][]byte
	for range 2048 {
		datagrams = append(datagrams, mustSeal(t, op, "x"))
	}
	order := rand.New(rand.NewPCG(1, 1)).Perm(len(datagrams))
	for _, i := range order {
		mustOpen(t, ag, datagrams[i], "x")
	}
	for _, i := range order {
		mustDrop(t, ag, datagrams[i], start, refusal.Replay)
	}
}

func TestA5OlderThanTheWindow(t *testing.T) {
	op, ag := peers(t)
	old := mustSeal(t, op, "x")
	for range 2048 {
		mustSeal(t, op, "lost")
	}
	mustOpen(t, ag, mustSeal(t, op, "y"), "y")
	mustDrop(t, ag, old, start, refusal.TooOld)
}

func TestA6ReplayAfterExpiryStaysClosed(t *testing.T) {
	op, ag := peers(t)
	d := mustSeal(t, op, "x")
	mustOpen(t, ag, d, "x")
	mustDrop(t, ag, d, start.Add(2*time.Minute), refusal.TooOld)
	if _, _, err := ag.Open(nil, mustSeal(t, op, "y"), start.Add(2*time.Minute)); err != nil {
		t.Errorf("the next datagram of an idle stream: %v", err)
	}
}

func TestA7EveryLength(t *testing.T) {
	op, ag := peers(t)
	d := mustSeal(t, op, "some text")
	for i := range d {
		mustDrop(t, ag, d[:i], start, refusal.OpenFailed)
	}
	for n := range 40 {
		mustDrop(t, ag, append(slices.Clone(d), make([]byte, n+1)...), start, refusal.OpenFailed)
	}
	mustOpen(t, ag, d, "some text")
}

func TestA8A9ReflectedAndTurnedAround(t *testing.T) {
	op, ag := peers(t)
	d := mustSeal(t, op, "x")
	mustDrop(t, op, d, start, refusal.OpenFailed)
	binary.BigEndian.PutUint32(d[4:], op.local)
	mustDrop(t, op, d, start, refusal.OpenFailed)
	e := mustSeal(t, ag, "x")
	binary.BigEndian.PutUint32(e[4:], ag.local)
	mustDrop(t, ag, e, start, refusal.OpenFailed)
}

func TestA10TakenIntoAnotherSession(t *testing.T) {
	op1, ag1 := peers(t)
	_, ag2 := peers(t)
	d := mustSeal(t, op1, "x")
	mustDrop(t, ag2, d, start, refusal.OpenFailed)
	moved := slices.Clone(d)
	binary.BigEndian.PutUint32(moved[4:], ag2.local)
	mustDrop(t, ag2, moved, start, refusal.OpenFailed)
	mustOpen(t, ag1, d, "x")
}

// agree exchanges the rekey payloads.
func agree(t testing.TB, op, ag *Session, now time.Time) {
	t.Helper()
	req, err := op.StartRekey()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ag.AnswerRekey(req, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.FinishRekey(answer, now); err != nil {
		t.Fatal(err)
	}
}

// roll takes a session into its next epoch with datagrams in both directions.
func roll(t testing.TB, op, ag *Session, now time.Time) {
	t.Helper()
	agree(t, op, ag, now)
	for _, pair := range [][2]*Session{{op, ag}, {ag, op}} {
		d, err := pair[0].Seal(nil, []byte("new"), now)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := pair[1].Open(nil, d, now); err != nil || string(got) != "new" {
			t.Fatalf("in the new epoch: %q, %v", got, err)
		}
	}
}

func TestA11OldAndFutureEpochs(t *testing.T) {
	op, ag := peers(t)
	d := mustSeal(t, op, "old")
	future := slices.Clone(d)
	future[1] = 1
	mustDrop(t, ag, future, start, refusal.OpenFailed)
	late1, late2 := mustSeal(t, op, "old 1"), mustSeal(t, op, "old 2")
	roll(t, op, ag, start)
	if _, _, err := ag.Open(nil, late1, start.Add(GraceTime-1)); err != nil {
		t.Errorf("old epoch within its grace: %v", err)
	}
	mustDrop(t, ag, late2, start.Add(GraceTime), refusal.OpenFailed)
	if ag.epochs.old != nil {
		t.Error("the old key is still there after its grace")
	}
}

func TestA11GraceEndsAfterItsDatagrams(t *testing.T) {
	op, ag := peers(t)
	var late [][]byte
	for range GraceDatagrams + 1 {
		late = append(late, mustSeal(t, op, "old"))
	}
	roll(t, op, ag, start)
	for _, d := range late[:GraceDatagrams] {
		mustOpen(t, ag, d, "old")
	}
	mustDrop(t, ag, late[GraceDatagrams], start, refusal.OpenFailed)
}

func TestA12LimitsAreHardAndCountersNeverWrap(t *testing.T) {
	op, ag := peers(t)
	out := op.send.Load()
	out.next.Store(HardDatagrams - 1)
	d := mustSeal(t, op, "last")
	mustOpen(t, ag, d, "last")
	for range 3 {
		if got, err := op.Seal(nil, []byte("x"), start); refusal.Of(err) != refusal.RekeyRequired || got != nil {
			t.Fatalf("at the limit: %v", err)
		}
	}
	if n := out.next.Load(); n != HardDatagrams {
		t.Errorf("counter is %d", n)
	}
	out.next.Store(math.MaxUint64)
	if _, err := op.Seal(nil, nil, start); refusal.Of(err) != refusal.RekeyRequired {
		t.Errorf("at 2^64-1: %v", err)
	}
	if n := out.next.Load(); n != math.MaxUint64 {
		t.Errorf("counter wrapped to %d", n)
	}
	for _, c := range []uint64{HardDatagrams, math.MaxUint64} { // no honest sender gets there
		binary.BigEndian.PutUint64(d[8:], c)
		mustDrop(t, ag, d, start, refusal.OpenFailed)
	}
}

func TestA12BytesAndAge(t *testing.T) {
	op, _ := peers(t)
	out := op.send.Load()
	out.bytes.Store(HardBytes - 10)
	if _, err := op.Seal(nil, make([]byte, 11), start); refusal.Of(err) != refusal.RekeyRequired {
		t.Errorf("one byte too many: %v", err)
	}
	if _, err := op.Seal(nil, make([]byte, 10), start); err != nil {
		t.Errorf("the last bytes: %v", err)
	}
	if n := out.next.Load(); n != 1 {
		t.Errorf("a refused datagram used a counter: %d", n)
	}
	op, _ = peers(t)
	if _, err := op.Seal(nil, nil, start.Add(HardAge-1)); err != nil {
		t.Errorf("just before the hard age: %v", err)
	}
	if _, err := op.Seal(nil, nil, start.Add(HardAge)); refusal.Of(err) != refusal.RekeyRequired {
		t.Errorf("at the hard age: %v", err)
	}
}

// seals is how many attack A13 names.
const seals = 1_000_000

func TestA13ConcurrentSealsUseDistinctNonces(t *testing.T) {
	op, _ := peers(t)
	const workers = 4
	each := seals / workers
	if raceDetector { // it sees every access as often as it has to in a tenth of them
		each /= 10
	}
	seen := make([]bool, workers*each)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			counters := make([]uint64, 0, each)
			buf := make([]byte, 0, 64)
			for range each {
				d, err := op.Seal(buf[:0], []byte("x"), start)
				if err != nil {
					t.Error(err)
					return
				}
				counters = append(counters, binary.BigEndian.Uint64(d[8:]))
			}
			mu.Lock()
			defer mu.Unlock()
			for _, c := range counters {
				if c >= uint64(len(seen)) || seen[c] {
					t.Errorf("counter %d twice or out of range", c)
					return
				}
				seen[c] = true
			}
		})
	}
	wg.Wait()
}

// TestA13SealWhileRekeying seals from several goroutines while the epoch changes
// and opens everything on the other side. Each round waits for its datagrams:
// those of the epoch before the last are not opened any more.
func TestA13SealWhileRekeying(t *testing.T) {
	op, ag := peers(t)
	const rounds, workers, each = 5, 4, 400
	for range rounds {
		datagrams := make(chan []byte, 64)
		var senders, receiver sync.WaitGroup
		for range workers {
			senders.Go(func() {
				for range each {
					d, err := op.Seal(nil, []byte("x"), start)
					if err != nil {
						t.Error(err)
					}
					datagrams <- d
				}
			})
		}
		receiver.Go(func() {
			for d := range datagrams {
				if _, _, err := ag.Open(nil, d, start); err != nil {
					t.Error(err)
				}
			}
		})
		roll(t, op, ag, start)
		senders.Wait()
		close(datagrams)
		receiver.Wait()
	}
	if got := ag.Stats(); got.Opened != rounds*(workers*each+1) || got.OpenFailed+got.Replayed+got.TooOld != 0 {
		t.Errorf("stats %+v", got)
	}
}

func TestA14ForgeriesRaiseTheAlarmAndEndTheSession(t *testing.T) {
	op, ag := peers(t)
	forged := mustSeal(t, op, "x")
	forged[HeaderSize] ^= 1
	in := ag.epochs.current
	in.failed.Store(FailedAlarm - 2)
	mustDrop(t, ag, forged, start, refusal.OpenFailed)
	if ag.Stats().Alarm {
		t.Error("alarm too early")
	}
	mustDrop(t, ag, forged, start, refusal.OpenFailed)
	if !ag.Stats().Alarm {
		t.Error("no alarm")
	}
	mustOpen(t, ag, mustSeal(t, op, "y"), "y")
	in.failed.Store(FailedClose - 1)
	mustDrop(t, ag, forged, start, refusal.OpenFailed)
	if _, _, err := ag.Open(nil, forged, start); !errors.Is(err, ErrClosed) {
		t.Errorf("after 2^36 forgeries: %v, want closed", err)
	}
}

func TestA14ForgeriesAllocateNothing(t *testing.T) {
	if raceDetector {
		t.Log("allocations cannot be counted under the race detector")
		return
	}
	op, ag := peers(t)
	honest := mustSeal(t, op, "x")
	mustOpen(t, ag, honest, "x")
	forged := mustSeal(t, op, "x")
	forged[HeaderSize] ^= 1
	buf := make([]byte, 0, 64)
	for name, d := range map[string][]byte{"forged": forged, "copy": honest, "short": forged[:8]} {
		if n := testing.AllocsPerRun(1000, func() { _, _, _ = ag.Open(buf, d, start) }); n != 0 {
			t.Errorf("dropping a %s datagram allocates %.1f times", name, n)
		}
	}
}
