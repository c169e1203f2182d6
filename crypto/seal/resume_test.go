package seal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// resumable returns two ends that may sleep for a day.
func resumable(t testing.TB) (op, ag *Session) {
	op, ag = peers(t)
	op.AllowResume(MaxResume)
	ag.AllowResume(MaxResume)
	return op, ag
}

// end is one end with a clock of its own, which a session would be.
type end struct {
	*Session
	now time.Time
}

// send seals text as a session does: as data if it may, otherwise as control.
func (e *end) send(text string) ([]byte, bool, error) {
	d, err := e.Seal(nil, []byte(text), e.now)
	if err == ErrAged {
		d, err = e.SealControl(nil, []byte(text), e.now)
		return d, true, err
	}
	return d, false, err
}

// pair is an operator and an agent that rekey over a network that loses.
type pair struct {
	t      *testing.T
	op, ag end
	lose   func() bool
}

func newPair(t *testing.T) *pair {
	op, ag := resumable(t)
	return &pair{t: t, op: end{op, start}, ag: end{ag, start}, lose: func() bool { return false }}
}

// pass takes one datagram to the other end and opens it there.
func (p *pair) pass(d []byte, to *end) (string, Opened, bool) {
	if p.lose() {
		return "", Opened{}, false
	}
	got, o, err := to.Open(nil, d, to.now)
	return string(got), o, err == nil
}

// step is one repetition of the rekey as internal/session does it: request,
// answer, then something in whatever epoch each end seals in by then.
func (p *pair) step() {
	if p.op.NeedsRekey(p.op.now) {
		if request, err := p.op.StartRekey(); err == nil {
			p.exchange(request)
		}
	}
	for _, way := range [][2]*end{{&p.op, &p.ag}, {&p.ag, &p.op}} {
		d, _, err := way[0].send("hello")
		if err != nil {
			p.t.Fatal(err)
		}
		p.pass(d, way[1])
	}
}

func (p *pair) exchange(request []byte) {
	d, _, err := p.op.send(string(request))
	if err != nil {
		p.t.Fatal(err)
	}
	got, _, ok := p.pass(d, &p.ag)
	if !ok {
		return
	}
	answer, err := p.ag.AnswerRekey([]byte(got), p.ag.now)
	if err != nil {
		p.t.Fatal(err)
	}
	if d, _, err = p.ag.send(string(answer)); err != nil {
		p.t.Fatal(err)
	}
	if got, _, ok = p.pass(d, &p.op); ok {
		if err := p.op.FinishRekey([]byte(got), p.op.now); err != nil && refusal.Of(err) != refusal.Replay {
			p.t.Fatal(err)
		}
	}
}

// works reports whether data passes in both directions.
func (p *pair) works() bool {
	for _, way := range [][2]*end{{&p.op, &p.ag}, {&p.ag, &p.op}} {
		d, control, err := way[0].send("data")
		if err != nil || control {
			return false
		}
		if got, o, err := way[1].Open(nil, d, way[1].now); err != nil || o.Control || string(got) != "data" {
			return false
		}
	}
	return true
}

// recover repeats steps until data passes and returns how many it took.
func (p *pair) recover(most int) int {
	p.t.Helper()
	for n := 1; n <= most; n++ {
		p.step()
		p.op.now, p.ag.now = p.op.now.Add(time.Second), p.ag.now.Add(time.Second)
		if p.works() {
			return n
		}
	}
	p.t.Fatalf("data does not pass after %d steps; operator aged %t, agent aged %t", most, p.op.Aged(p.op.now), p.ag.Aged(p.ag.now))
	return 0
}

func TestSleepOfAnHour(t *testing.T) {
	const hour = time.Hour
	for name, slept := range map[string][2]time.Duration{
		"operator": {hour, 0}, "agent": {0, hour}, "both": {hour, hour}, "unlike": {hour, 3 * hour}, "a day": {24*hour - time.Minute, 23 * hour},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.step()
			p.op.now, p.ag.now = p.op.now.Add(slept[0]), p.ag.now.Add(slept[1])
			// An agent that was awake has aged nothing; it hears from the operator's
			// control datagrams, the operator from the agent's.
			if n := p.recover(4); n > 2 {
				t.Errorf("took %d steps", n)
			}
		})
	}
}

func TestSleepWithLossOnTheWayBack(t *testing.T) {
	seeds := uint64(200)
	if raceDetector { // ten times slower, and nothing here runs side by side
		seeds = 40
	}
	for seed := range seeds {
		random := rand.New(rand.NewPCG(seed, 1))
		p := newPair(t)
		p.step()
		p.lose = func() bool { return random.IntN(10) < 4 }
		// Each end wakes at its own time, some fall asleep again in the middle.
		for range 3 {
			for _, e := range []*end{&p.op, &p.ag} {
				if random.IntN(3) > 0 {
					e.now = e.now.Add(time.Duration(random.IntN(7)) * time.Hour)
				}
			}
			for range random.IntN(4) {
				p.step()
			}
		}
		p.recover(200)
	}
}

// TestA12DataUnderAnAgedKeyIsRefused: no datagram of data is sealed or opened
// under a key that is older than its hard age, before the rekey or after.
func TestA12DataUnderAnAgedKeyIsRefused(t *testing.T) {
	p := newPair(t)
	held, _, err := p.op.send("typed before the sleep, held back")
	if err != nil {
		t.Fatal(err)
	}
	p.step()
	p.op.now, p.ag.now = p.op.now.Add(time.Hour), p.ag.now.Add(time.Hour)
	for _, e := range []*end{&p.op, &p.ag} {
		if d, err := e.Seal(nil, []byte("data"), e.now); err != ErrAged || d != nil {
			t.Errorf("sealing data: %v, want ErrAged", err)
		}
		if e.Session.send.Load().data.Load() != nil {
			t.Error("the sending key is still there")
		}
	}
	mustDrop(t, p.ag.Session, held, p.ag.now, refusal.OpenFailed)
	if p.ag.epochs.current.data != nil {
		t.Error("the key that opens recorded data is still there")
	}
	p.recover(2)
	mustDrop(t, p.ag.Session, held, p.ag.now, refusal.OpenFailed)
}

func TestOldEpochIsErasedAfterResume(t *testing.T) {
	p := newPair(t)
	p.step()
	p.op.now, p.ag.now = p.op.now.Add(time.Hour), p.ag.now.Add(time.Hour)
	late, _, err := p.op.send("control of the old epoch")
	if err != nil {
		t.Fatal(err)
	}
	p.recover(2)
	if _, o, err := p.ag.Open(nil, late, p.ag.now); err != nil || !o.Control || o.Newest {
		t.Errorf("within the grace: %+v, %v", o, err)
	}
	late2 := slices.Clone(late)
	p.op.now, p.ag.now = p.op.now.Add(GraceTime), p.ag.now.Add(GraceTime)
	for _, e := range []*end{&p.op, &p.ag} {
		if e.NeedsRekey(e.now) {
			t.Error("a rekey is wanted again")
		}
		if e.epochs.old != nil || e.epochs.next != nil {
			t.Error("keys of the old epoch are still there, without a datagram having come")
		}
	}
	mustDrop(t, p.ag.Session, late2, p.ag.now, refusal.OpenFailed)
}

// TestAgedEndMakesTheOtherAge: what one end no longer opens the other must not
// go on sealing, even if its clock says that there is time.
func TestAgedEndMakesTheOtherAge(t *testing.T) {
	p := newPair(t)
	p.step()
	p.ag.now = p.ag.now.Add(time.Hour)
	d, control, err := p.ag.send("are you there")
	if err != nil || !control || d[0] != TypeControl {
		t.Fatalf("control %t, %v", control, err)
	}
	if p.op.Aged(p.op.now) || p.op.NeedsRekey(p.op.now) {
		t.Fatal("the operator has aged already")
	}
	if _, o, err := p.op.Open(nil, d, p.op.now); err != nil || !o.Control || !o.Newest {
		t.Fatalf("%+v, %v", o, err)
	}
	if !p.op.Aged(p.op.now) || !p.op.NeedsRekey(p.op.now) {
		t.Error("the operator does not notice that the agent has aged")
	}
	if _, err := p.op.Seal(nil, nil, p.op.now); err != ErrAged {
		t.Errorf("%v, want ErrAged", err)
	}
	p.recover(2)
}

func TestControlDatagramsOnlyWhenAged(t *testing.T) {
	op, ag := resumable(t)
	if _, err := op.SealControl(nil, nil, start); err == nil {
		t.Error("a young key seals control datagrams")
	}
	late := start.Add(HardAge)
	d, err := op.SealControl(nil, make([]byte, MaxControl), late)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := op.SealControl(nil, make([]byte, MaxControl+1), late); refusal.Of(err) != refusal.TooLarge {
		t.Errorf("%v, want too_large", err)
	}
	if got, o, err := ag.Open(nil, d, late); err != nil || len(got) != MaxControl || o != (Opened{Newest: true, Control: true}) {
		t.Errorf("%d bytes, %+v, %v", len(got), o, err)
	}
}

func TestControlDatagramsAreCounted(t *testing.T) {
	op, ag := resumable(t)
	late := start.Add(HardAge)
	d, err := op.SealControl(nil, nil, late)
	if err != nil {
		t.Fatal(err)
	}
	op.send.Load().nextControl.Store(ControlDatagrams - 1)
	if _, err := op.SealControl(nil, nil, late); err != nil {
		t.Errorf("the last one: %v", err)
	}
	if _, err := op.SealControl(nil, nil, late); refusal.Of(err) != refusal.RekeyRequired {
		t.Errorf("%v, want rekey_required", err)
	}
	d[13], d[14], d[15] = ControlDatagrams>>16, 0, 0
	mustDrop(t, ag, d, late, refusal.OpenFailed) // no honest sender gets there
}

func TestWornByUseIsNotAged(t *testing.T) {
	op, _ := resumable(t)
	op.send.Load().next.Store(HardDatagrams)
	if _, err := op.Seal(nil, nil, start); refusal.Of(err) != refusal.RekeyRequired || err == ErrAged {
		t.Errorf("at the limit of datagrams: %v", err)
	}
	if _, err := op.SealControl(nil, nil, start); err == nil {
		t.Error("a key worn by use seals control datagrams")
	}
}

func TestResumeNotAllowed(t *testing.T) {
	op, ag := peers(t)
	op.AllowResume(MaxResume)
	late := start.Add(HardAge)
	d, err := op.SealControl(nil, []byte("x"), late)
	if err != nil {
		t.Fatal(err)
	}
	mustDrop(t, ag, d, late, refusal.OpenFailed)
	if _, err := ag.SealControl(nil, nil, late); refusal.Of(err) != refusal.RekeyRequired || err == ErrAged {
		t.Errorf("%v, want rekey_required", err)
	}
	ag.AllowResume(HardAge) // not longer than data may be sealed: no resume
	if _, err := ag.Seal(nil, nil, late); refusal.Of(err) != refusal.RekeyRequired || err == ErrAged {
		t.Errorf("%v, want rekey_required", err)
	}
}

func TestResumeLimitErasesEverything(t *testing.T) {
	for name, do := range map[string]func(*Session, time.Time) error{
		"seal":    func(s *Session, now time.Time) error { _, err := s.Seal(nil, nil, now); return err },
		"control": func(s *Session, now time.Time) error { _, err := s.SealControl(nil, nil, now); return err },
		"open":    func(s *Session, now time.Time) error { _, _, err := s.Open(nil, honest(t), now); return err },
		"look":    func(s *Session, now time.Time) error { s.NeedsRekey(now); return s.closed() },
	} {
		op, _ := peers(t)
		op.local = 7
		op.AllowResume(2 * time.Hour)
		if err := do(op, start.Add(2*time.Hour-1)); errors.Is(err, ErrOver) {
			t.Errorf("%s: over too early", name)
		}
		if err := do(op, start.Add(2*time.Hour)); name != "look" && err != ErrOver {
			t.Errorf("%s: %v, want ErrOver", name, err)
		}
		if op.epochs != (epochs{}) || op.send.Load() != nil || op.rekey.chain.Get() != nil {
			t.Errorf("%s: keys are still there", name)
		}
		if _, err := op.Seal(nil, nil, start); err != ErrOver || refusal.Of(err) != refusal.Expired {
			t.Errorf("%s: after a clock was set back: %v", name, err)
		}
		if _, err := op.StartRekey(); err != ErrOver {
			t.Errorf("%s: rekey: %v", name, err)
		}
	}
	op, _ := peers(t)
	op.AllowResume(1000 * time.Hour)
	if _, err := op.SealControl(nil, nil, start.Add(MaxResume)); err != ErrOver {
		t.Errorf("more than the longest: %v", err)
	}
}

// honest is a datagram to index 7 that looks like one.
func honest(t *testing.T) []byte {
	d := make([]byte, Overhead)
	copy(d, []byte{Type, 0, 0, 0, 0, 0, 0, 7})
	if i, ok := Index(d); !ok || i != 7 {
		t.Fatal("no datagram")
	}
	return d
}

// TestClockSetBackDoesNotRejuvenate: an epoch that was too old stays too old.
func TestClockSetBackDoesNotRejuvenate(t *testing.T) {
	p := newPair(t)
	p.step()
	p.op.now = p.op.now.Add(HardAge)
	if _, err := p.op.Seal(nil, nil, p.op.now); err != ErrAged {
		t.Fatal(err)
	}
	for _, back := range []time.Duration{time.Minute, time.Hour, 10000 * time.Hour} {
		now := start.Add(-back)
		if _, err := p.op.Seal(nil, nil, now); err != ErrAged {
			t.Errorf("clock back by %v: %v, want ErrAged", back, err)
		}
		if !p.op.Aged(now) || !p.op.NeedsRekey(now) {
			t.Errorf("clock back by %v: not aged", back)
		}
	}
	p.op.now = start.Add(-time.Hour)
	p.recover(2)
}

func TestClockSetBackWhileYoung(t *testing.T) {
	p := newPair(t)
	p.op.now = start.Add(-time.Hour)
	if p.op.NeedsRekey(p.op.now) || !p.works() {
		t.Error("a clock that was set back ends a young epoch")
	}
}

// TestIdleEpochHasNoAge: the agent agreed to an epoch and the operator slept
// before it used it. Nothing was sealed under it, and when the operator wakes it
// is the only one both know.
func TestIdleEpochHasNoAge(t *testing.T) {
	p := newPair(t)
	agree(t, p.op.Session, p.ag.Session, start)
	p.op.now, p.ag.now = start.Add(5*time.Hour), start.Add(5*time.Hour)
	p.recover(3)
}

func TestA1EveryFlippedBitOfAControlDatagramIsDropped(t *testing.T) {
	op, ag := resumable(t)
	late := start.Add(time.Hour)
	d, err := op.SealControl(nil, []byte("rekey"), late)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(d) {
		bad := slices.Clone(d)
		bad[i/8] ^= 1 << (i % 8)
		mustDrop(t, ag, bad, late, refusal.OpenFailed)
	}
	mustDrop(t, op, d, late, refusal.OpenFailed) // A8: reflected
	if _, _, err := ag.Open(nil, d, late); err != nil {
		t.Error(err)
	}
	mustDrop(t, ag, d, late, refusal.Replay) // A3
}

// TestControlKeysDiffer: no key or IV of an epoch serves twice.
func TestControlKeysDiffer(t *testing.T) {
	op, _ := peers(t)
	out, in := op.send.Load(), op.epochs.current
	ivs := map[[12]byte]bool{out.data.Load().iv: true, out.control.iv: true, in.data.iv: true, in.control.iv: true}
	if len(ivs) != 4 {
		t.Error("two halves share an IV")
	}
	zero := make([]byte, 12)
	seen := map[string]bool{}
	for _, h := range []*half{out.data.Load(), out.control, in.data, in.control} {
		seen[string(h.aead.Seal(nil, zero, nil, nil))] = true
	}
	if len(seen) != 4 {
		t.Error("two halves share a key")
	}
}

// TestWorkedVectorResume: the resume block of protocol 2.12's session, computed
// apart from this code.
func TestWorkedVectorResume(t *testing.T) {
	chain, _ := hex.DecodeString("d2720b3215516d47d338a2cdc7cac52c706110068d9a7a5a7b320cfd39fc44cd")
	h4, _ := hex.DecodeString("3128016261afef793fdeddcf6ba56bc179b1dbcd6f59eaf1ff69919faa0158da")
	var got [resumeSize]byte
	resumeBlock(&got, chain, [32]byte(h4))
	if fmt.Sprintf("%x", got) != vectorResume {
		t.Errorf("resume block %x", got)
	}
}

const vectorResume = "f1bc865a2723039be79d3f9c8fdf93b85330bf5ec2c90277e5be22b146d2b1e04fea64af332ae75fe8fc6c80e565c40a25323f752a356db20d432d054dddebe8bf5c6d7e35865782c8af723a157773ac4369b0db2b2f0ab8"

func BenchmarkRekey(b *testing.B) {
	op, ag := peers(b, handshake.X25519)
	for b.Loop() {
		roll(b, op, ag, start)
	}
}
