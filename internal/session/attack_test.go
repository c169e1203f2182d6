package session

import (
	"bytes"
	"encoding/binary"
	mrand "math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// capture returns one sealed datagram on its way from l, and lets it pass.
func (w *world) capture(l *memLink) []byte {
	w.t.Helper()
	got := make(chan []byte, 1)
	l.setMeddle(func(d []byte) [][]byte {
		select {
		case got <- bytes.Clone(d):
		default:
		}
		return [][]byte{d}
	})
	w.cat([]byte("x"))
	l.setMeddle(nil)
	return <-got
}

// dropped counts all that did not become part of the session.
func dropped(c *Conn) uint64 {
	s := c.Stats()
	return s.OpenFailed + s.TooOld + s.Replayed + s.Stray
}

func TestA1EveryFlippedBitIsDroppedAndCounted(t *testing.T) {
	w, lo, la := memWorld(t)
	defer w.close()
	for _, dir := range []struct {
		from, to *memLink
		at       *Conn
	}{{lo, la, w.agent}, {la, lo, w.operator}} {
		d := w.capture(dir.from)
		before := dropped(dir.at)
		for i := range 8 * len(d) {
			flipped := bytes.Clone(d)
			flipped[i/8] ^= 1 << (i % 8)
			inject(dir.to, flipped)
		}
		// A flipped counter may be outside the window or seen before, a flipped
		// type is a stray: all counts together.
		until(t, "all of them to be counted", func() bool { return dropped(dir.at)-before >= uint64(8*len(d)) })
		w.cat([]byte("still here"))
	}
}

func TestA3RepeatedDatagramsCountOnce(t *testing.T) {
	w, lo, la := memWorld(t)
	defer w.close()
	d := w.capture(lo)
	before := w.agent.Stats().Replayed
	for range 1000 {
		inject(la, d)
	}
	until(t, "1,000 replays", func() bool { return w.agent.Stats().Replayed-before >= 1000 })
	for range 3000 { // the window moves on
		w.operator.sendFrame(framePadding, nil)
	}
	until(t, "the copies", func() bool { ready, next := w.operator.copies.due(time.Now()); return len(ready) == 0 && next.IsZero() })
	old := w.agent.Stats().TooOld
	inject(la, d)
	until(t, "one that is too old", func() bool { return w.agent.Stats().TooOld > old })
	w.cat([]byte("still here"))
}

func TestA7EveryTruncationAndExtensionIsDropped(t *testing.T) {
	w, lo, la := memWorld(t)
	defer w.close()
	d := w.capture(lo)
	before := dropped(w.agent)
	for n := range d {
		inject(la, d[:n])
	}
	inject(la, append(bytes.Clone(d), 0))
	inject(la, make([]byte, 1500))
	until(t, "all to be counted", func() bool { return dropped(w.agent)-before >= uint64(len(d)+2) })
	w.cat([]byte("still here"))
}

func TestA8AndA9ReflectedDatagramsAreDropped(t *testing.T) {
	w, lo, la := memWorld(t)
	defer w.close()
	d := w.capture(lo)
	swapped := bytes.Clone(d)
	copy(swapped[4:8], w.capture(la)[4:8]) // index of the other direction
	fresh := bytes.Clone(swapped)
	binary.BigEndian.PutUint64(fresh[8:], 1<<20)
	before := dropped(w.operator)
	for _, d := range [][]byte{d, swapped, fresh} {
		inject(lo, d)
	}
	until(t, "three drops", func() bool { return dropped(w.operator) >= before+3 })
	w.cat([]byte("still here"))
}

func TestA10DatagramsOfAnotherSessionAreDropped(t *testing.T) {
	one, lo1, _ := memWorld(t)
	defer one.close()
	two, _, la2 := memWorld(t)
	defer two.close()
	d := one.capture(lo1)
	sameIndex := bytes.Clone(d)
	binary.BigEndian.PutUint32(sameIndex[4:], two.agentIndex())
	fresh := bytes.Clone(sameIndex)
	binary.BigEndian.PutUint64(fresh[8:], 1<<20)
	before := dropped(two.agent)
	for _, d := range [][]byte{d, sameIndex, fresh} {
		inject(la2, d)
	}
	until(t, "three drops", func() bool { return dropped(two.agent) >= before+3 })
	two.cat([]byte("still here"))
}

// agentIndex reads the index from a datagram to the agent.
func (w *world) agentIndex() uint32 {
	w.t.Helper()
	b, err := w.operator.sealed.Seal(nil, make([]byte, padTo), time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	index, _ := seal.Index(b)
	return index
}

func TestA4AnArbitraryNetworkLosesNothing(t *testing.T) {
	lo, la := newMemLinks()
	w := newWorld(t, lo, la)
	defer w.close()
	rng := mrand.New(mrand.NewPCG(3, 4))
	var mu sync.Mutex
	var held [][]byte
	mess := func(d []byte) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		switch rng.IntN(40) {
		case 0: // drop
			return nil
		case 1: // flip
			d[rng.IntN(len(d))] ^= 1 << rng.IntN(8)
		case 2: // repeat
			return [][]byte{d, d, d}
		case 3: // hold back
			held = append(held, d)
			return nil
		case 4: // release what was held, in the wrong order
			out := append([][]byte{d}, held...)
			held = nil
			return out
		}
		return [][]byte{d}
	}
	lo.setMeddle(mess)
	la.setMeddle(mess)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { w.cat(random(t, 200_000)) })
	}
	wg.Wait()
	if s := w.agent.Stats(); s.OpenFailed == 0 || s.Replayed == 0 {
		t.Errorf("nothing was meddled with: %+v", s)
	}
}

func TestA14FloodOfForgeriesNeitherGrowsNorStopsTheSession(t *testing.T) {
	w, lo, la := memWorld(t)
	defer w.close()
	forged := w.capture(lo)
	binary.BigEndian.PutUint64(forged[8:], 1<<20) // not seen yet
	forged[len(forged)-1] ^= 1
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := uint64(1 << 20); ; n++ {
			binary.BigEndian.PutUint64(forged[8:], n%(1<<24))
			select {
			case <-stop:
				return
			default:
			}
			if len(la.in) < 64 { // a socket's queue is not endless either
				inject(la, forged)
			} else {
				runtime.Gosched()
			}
		}
	})
	until(t, "the flood", func() bool { return w.agent.Stats().OpenFailed > 2_000 })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w.cat(random(t, 100_000))
	until(t, "more of it", func() bool { return w.agent.Stats().OpenFailed > 20_000 })
	runtime.GC()
	runtime.ReadMemStats(&after)
	close(stop)
	wg.Wait()
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	w.cat([]byte("still here"))
}

// TestA17LyingFramesEndTheSession: such a plaintext can come from the peer only.
func TestA17LyingFramesEndTheSession(t *testing.T) {
	block := func(b ...byte) []byte { return append(b, make([]byte, padTo-len(b))...) }
	full := func(b ...byte) []byte { return b }
	for name, plaintext := range map[string][]byte{
		"length beyond the plaintext": block(byte(framePacket), 0, padTo),
		"length of 65,535":            block(byte(framePacket), 0xff, 0xff),
		"half a head":                 append(appendFrame(nil, 0x90, make([]byte, padTo-5)), byte(framePacket), 0),
		"unknown critical frame":      block(0x7f, 0, 0),
		"empty packet":                block(byte(framePacket), 0, 0),
		"two packets":                 block(byte(framePacket), 0, 1, 'x', byte(framePacket), 0, 1, 'y'),
		"padding that says something": block(byte(framePadding), 1),
		"odd length":                  full(byte(framePadding)),
		"too long":                    make([]byte, maxLarge+padTo),
		"ready of the wrong length":   block(byte(frameReady), 0, 3, 1, 2, 3),
		"rekey of the wrong length":   block(byte(frameRekey), 0, 1, 1),
		"answer without rekey":        appendFrameBlock(frameRekeyed, rekeyPayload(1)),
		"rekey to nowhere":            appendFrameBlock(frameRekey, rekeyPayload(1)),
		"close that is no code":       block(byte(frameClose), 0, 3, 'A', ' ', 0),
		"rekey that skips an epoch":   appendFrameBlock(frameRekey, rekeyPayload(2)),
		"wanted with a body":          block(byte(frameWanted), 0, 1, 1),
	} {
		for _, side := range []string{"agent", "operator"} {
			t.Run(name+" at the "+side, func(t *testing.T) {
				w, lo, la := memWorld(t)
				defer w.close()
				from, to, victim := w.operator, la, w.agent
				if side == "operator" {
					from, to, victim = w.agent, lo, w.operator
				}
				d, err := from.sealed.Seal(nil, plaintext, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				if len(d) > path.Large {
					inject(to, d)
					until(t, "the drop", func() bool { return victim.Stats().Stray > 0 })
					return
				}
				inject(to, d)
				select {
				case <-victim.Done():
				case <-time.After(patience):
					t.Fatal("the session lives")
				}
				if code := refusal.Of(victim.Err()); code != refusal.ProtocolError && code != refusal.BadEphemeral {
					t.Errorf("ended with %v", victim.Err())
				}
			})
		}
	}
}

// rekeyPayload names an epoch and brings the key of all zeros.
func rekeyPayload(epoch uint32) []byte {
	return append(binary.BigEndian.AppendUint32(nil, epoch), make([]byte, 32)...)
}

func appendFrameBlock(t frameType, body []byte) []byte {
	b := appendFrame(nil, t, body)
	return append(b, make([]byte, padding(len(b)))...)
}

func TestA17UnknownFramesThatMayBeSkippedAreSkipped(t *testing.T) {
	w, _, la := memWorld(t)
	defer w.close()
	d, err := w.operator.sealed.Seal(nil, appendFrameBlock(0xa0, []byte("something of a later version")), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	opened := w.agent.Stats().Opened
	inject(la, d)
	until(t, "it to be opened", func() bool { return w.agent.Stats().Opened > opened })
	w.cat([]byte("still here"))
}

// TestA17LyingMessagesEndTheSession: the same one layer up.
func TestA17LyingMessagesEndTheSession(t *testing.T) {
	for name, raw := range map[string]string{
		"length 0":                 "\x00\x00\x00\x00\x5a",
		"4 GiB":                    "\xff\xff\xff\xff\x5a",
		"open over its limit":      "\x00\x01\x00\x02\x5a",
		"not an open":              "\x00\x00\x00\x01\x60",
		"string beyond its end":    "\x00\x00\x00\x06\x5a\x00\x00\x00\x09s",
		"bytes behind the last":    "\x00\x00\x00\x0d\x5a\x00\x00\x00\x07session!",
		"name of 65 bytes":         "\x00\x00\x00\x46\x5a\x00\x00\x00\x41" + string(make([]byte, 65)),
		"data over 32 KiB":         session + "\x00\x00\x80\x0a\x5e",
		"request of unknown name":  session + "\x00\x00\x00\x08\x62\x00\x00\x00\x03foo",
		"signal of unknown name":   session + "\x00\x00\x00\x12\x62\x00\x00\x00\x06signal\x00\x00\x00\x03FOO",
		"exec of nothing":          session + "\x00\x00\x00\x12\x62\x00\x00\x00\x09exec-argv\x00\x00\x00\x00",
		"exec of 4 G arguments":    session + "\x00\x00\x00\x12\x62\x00\x00\x00\x09exec-argv\xff\xff\xff\xff",
		"answer at the agent":      session + "\x00\x00\x00\x01\x63",
		"message type 0":           session + "\x00\x00\x00\x01\x00",
		"shell by control channel": control + "\x00\x00\x00\x12\x62\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05shell",
		"short control message":    control + "\x00\x00\x00\x02\x62\x00",
	} {
		t.Run(name, func(t *testing.T) {
			w, _, _ := memWorld(t)
			defer w.close()
			s, err := w.operator.transport.OpenStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write([]byte(raw)); err != nil {
				t.Fatal(err)
			}
			select {
			case <-w.agent.Done():
			case <-time.After(patience):
				t.Fatal("the session lives")
			}
			if refusal.Of(w.agent.Err()) != refusal.ProtocolError {
				t.Errorf("ended with %v", w.agent.Err())
			}
		})
	}
}

// Opening messages of both kinds of channel.
const (
	session = "\x00\x00\x00\x0c\x5a\x00\x00\x00\x07session"
	control = "\x00\x00\x00\x0c\x5a\x00\x00\x00\x07control"
)

// TestA17TheAgentCannotLieEither: what the operator refuses from an agent.
func TestA17TheAgentCannotLieEither(t *testing.T) {
	for name, raw := range map[string]string{
		"answer without question": "\x00\x00\x00\x01\x63",
		"signal with an escape":   "\x00\x00\x00\x16\x62\x00\x00\x00\x0bexit-signal\x00\x00\x00\x01\x1b\x00",
		"bool of 2":               "\x00\x00\x00\x16\x62\x00\x00\x00\x0bexit-signal\x00\x00\x00\x01A\x02",
		"code with an escape":     "\x00\x00\x00\x0a\x5c\x00\x00\x00\x01\x1b\x00\x00\x00\x00",
		"extended data of type 2": "\x00\x00\x00\x0a\x5f\x00\x00\x00\x02\x00\x00\x00\x01x",
		"open towards operator":   session,
		"data behind close":       "\x00\x00\x00\x01\x61" + "\x00\x00\x00\x06\x5e\x00\x00\x00\x01x",
		"close without exit":      "",
	} {
		t.Run(name, func(t *testing.T) {
			lo, la := newMemLinks()
			w := &world{t: t}
			w.operator, w.agent = connect(t, newShake(t), lo, la)
			defer w.close()
			ch, err := w.operator.OpenSession(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sch, err := w.agent.AcceptChannel(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sch.stream.Write([]byte(raw))
			if raw == "" {
				sch.stream.Write([]byte("\x00\x00\x00\x01\x61"))
				sch.stream.CloseWrite()
			}
			if _, err := ch.Wait(); refusal.Of(err) != refusal.ProtocolError {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestH5WindowSizesAreClamped(t *testing.T) {
	for _, tc := range []struct {
		wire [4]uint32
		want Size
	}{
		{[4]uint32{0, 0, 0, 0}, Size{Columns: 80, Rows: 24}},
		{[4]uint32{1<<32 - 1, 1<<32 - 1, 1<<32 - 1, 1<<32 - 1}, Size{MaxColumns, MaxRows, 65535, 65535}},
		{[4]uint32{65535, 65535, 1, 1}, Size{MaxColumns, MaxRows, 1, 1}},
		{[4]uint32{1, 1, 0, 0}, Size{Columns: 1, Rows: 1}},
		{[4]uint32{80, 24, 640, 480}, Size{80, 24, 640, 480}},
	} {
		body := appendString(nil, nameWindowChange)
		for _, v := range tc.wire {
			body = binary.BigEndian.AppendUint32(body, v)
		}
		if r, err := parseRequest(body); err != nil || r != (WindowChange{tc.want}) {
			t.Errorf("%v became %+v, %v", tc.wire, r, err)
		}
	}
}

// What the other end opens and gives up at once, before anybody wanted it, leaves
// nothing that runs: a hundred thousand goroutines in five seconds.
func TestChannelsGivenUpAreForgotten(t *testing.T) {
	lo, la := newMemLinks()
	operator, agent := connect(t, newShake(t), lo, la)
	defer agent.Close()
	defer operator.Close()
	before := runtime.NumGoroutine()
	for _, body := range [][]byte{
		Opening{Kind: DirectTCP, Host: "localhost", Port: 1}.append(nil), appendString(nil, nameSession),
	} {
		for range 1000 {
			s, err := operator.transport.OpenStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := (&messageWriter{s: s}).write(msgOpen, body); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(20*time.Millisecond, func() { s.Reset(resetGivenUp) })
		}
	}
	until(t, "they are forgotten", func() bool { return runtime.NumGoroutine() < before+100 })
}
