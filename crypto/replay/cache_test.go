package replay

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

func id(n int) (b [16]byte) {
	binary.BigEndian.PutUint64(b[:], uint64(n))
	return b
}

const valid = time.Minute

func mustUse(t *testing.T, c *Cache, principal string, n int, issued, now time.Time, code refusal.Code) {
	t.Helper()
	if err := c.Use(principal, id(n), issued, issued.Add(valid), now); refusal.Of(err) != code {
		t.Fatalf("%s uses %d: %v, want %q", principal, n, err, code)
	}
}

func TestIdentifierIsTakenOnce(t *testing.T) {
	c := NewCache(10, 10)
	mustUse(t, c, "a", 1, start, start, "")
	mustUse(t, c, "a", 1, start, start, refusal.Replay)
	mustUse(t, c, "a", 1, start.Add(time.Second), start.Add(time.Second), refusal.Replay)
	mustUse(t, c, "b", 1, start, start, "") // another principal, another identifier
}

func TestExpiredIdentifierIsNotTaken(t *testing.T) {
	c := NewCache(10, 10)
	mustUse(t, c, "a", 1, start, start.Add(valid), refusal.Expired)
	mustUse(t, c, "a", 1, start, start.Add(valid-1), "")
	mustUse(t, c, "a", 1, start, start.Add(valid), refusal.Expired)
}

func TestPressureRaisesTheFloorOfOnePrincipal(t *testing.T) {
	c := NewCache(4, 10)
	for i := range 5 {
		mustUse(t, c, "noisy", i, start.Add(time.Duration(i)*time.Second), start, "")
	}
	// 0 was evicted unexpired: it and everything issued with it stays shut.
	mustUse(t, c, "noisy", 0, start, start, refusal.ReplayPressure)
	mustUse(t, c, "noisy", 99, start, start, refusal.ReplayPressure)
	mustUse(t, c, "noisy", 99, start.Add(time.Second/2), start, "")
	mustUse(t, c, "quiet", 0, start, start, "")
}

func TestExpiredEntriesMakeRoomForFree(t *testing.T) {
	c := NewCache(4, 10)
	for i := range 4 {
		mustUse(t, c, "a", i, start, start, "")
	}
	late := start.Add(valid)
	mustUse(t, c, "a", 10, start.Add(time.Second), late, "") // issued before the others ended, no floor in its way
}

func TestForgottenPrincipalCannotReplay(t *testing.T) {
	c := NewCache(4, 2)
	mustUse(t, c, "a", 1, start, start, "")
	mustUse(t, c, "b", 1, start, start, "")
	mustUse(t, c, "c", 1, start.Add(time.Second), start, "") // pushes a out
	mustUse(t, c, "b", 1, start, start, refusal.Replay)      // b is untouched
	mustUse(t, c, "a", 1, start, start, refusal.ReplayPressure)
	mustUse(t, c, "a", 2, start.Add(2*time.Second), start, "")
}

func TestForgottenPrincipalWithoutLiveEntriesCostsNothing(t *testing.T) {
	c := NewCache(4, 1)
	mustUse(t, c, "a", 1, start, start, "")
	late := start.Add(valid)
	if err := c.Use("b", id(1), start.Add(-time.Second), late.Add(time.Second), late); err != nil {
		t.Errorf("b pays for a, whose identifiers had all expired: %v", err)
	}
}

// TestA6NothingIsTakenTwiceUnderPressure floods a small cache at random.
func TestA6NothingIsTakenTwiceUnderPressure(t *testing.T) {
	c, r := NewCache(8, 4), rand.New(rand.NewPCG(5, 5))
	taken, now := map[string]bool{}, start
	for range 200_000 {
		now = now.Add(time.Duration(r.IntN(500)) * time.Millisecond)
		who, n := fmt.Sprint(r.IntN(8)), int(now.Sub(start)/time.Second)-r.IntN(30)
		issued := start.Add(time.Duration(n) * time.Second) // an identifier has one issue time
		if c.Use(who, id(n), issued, issued.Add(valid), now) == nil {
			if k := fmt.Sprint(who, "/", n); taken[k] {
				t.Fatalf("%s was taken twice", k)
			} else {
				taken[k] = true
			}
		}
	}
	if len(taken) < 10_000 {
		t.Errorf("only %d were taken", len(taken))
	}
}

func TestConcurrentUseTakesOnce(t *testing.T) {
	c := NewCache(1000, 10)
	var took atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				if c.Use("a", id(i), start, start.Add(valid), start) == nil {
					took.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if took.Load() != 500 {
		t.Errorf("500 identifiers were taken %d times", took.Load())
	}
}

func BenchmarkCacheUse(b *testing.B) {
	c := NewCache(4096, 64)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_ = c.Use("a", id(i), start.Add(time.Duration(i)), start.Add(time.Hour), start)
	}
}
