package seal

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestManyEpochs(t *testing.T) {
	op, ag := peers(t)
	now := start
	for i := range 300 { // past the low 8 bits of the epoch
		now = now.Add(SoftAge)
		if !op.NeedsRekey(now) {
			t.Fatal("the age does not ask for a rekey")
		}
		roll(t, op, ag, now)
		if op.NeedsRekey(now) || ag.NeedsRekey(now) {
			t.Fatalf("epoch %d needs a rekey at once", i)
		}
	}
	if e := op.send.Load().epoch; e != 300 || ag.send.Load().epoch != e {
		t.Errorf("epochs %d and %d", e, ag.send.Load().epoch)
	}
}

func TestEachSideSwitchesWhenTheOtherCanFollow(t *testing.T) {
	op, ag := peers(t)
	req, err := op.StartRekey()
	if err != nil {
		t.Fatal(err)
	}
	epochOf := func(s *Session) byte { return mustSeal(t, s, "x")[1] }
	answer, err := ag.AnswerRekey(req, start)
	if err != nil {
		t.Fatal(err)
	}
	if epochOf(op) != 0 || epochOf(ag) != 0 {
		t.Error("somebody seals in the new epoch too early")
	}
	if err := op.FinishRekey(answer, start); err != nil {
		t.Fatal(err)
	}
	if epochOf(op) != 1 || epochOf(ag) != 0 {
		t.Error("operator does not switch with the answer, or the agent switches before the operator was seen")
	}
	mustOpen(t, op, mustSeal(t, ag, "still old"), "still old")
	mustOpen(t, ag, mustSeal(t, op, "new"), "new")
	if epochOf(ag) != 1 {
		t.Error("agent does not switch with the first datagram of the new epoch")
	}
	mustOpen(t, op, mustSeal(t, ag, "new"), "new")
}

// TestOldEpochLivesUntilThePeerIsSeenInTheNewOne: more than 2,048 datagrams may
// be under way on a long fast path.
func TestOldEpochLivesUntilThePeerIsSeenInTheNewOne(t *testing.T) {
	op, ag := peers(t)
	req, err := op.StartRekey()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ag.AnswerRekey(req, start)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.FinishRekey(answer, start); err != nil {
		t.Fatal(err)
	}
	for range 3 * GraceDatagrams {
		mustOpen(t, op, mustSeal(t, ag, "old"), "old")
	}
	if _, err := op.StartRekey(); err == nil {
		t.Error("a rekey begins before the agent has followed the last one")
	}
	last := mustSeal(t, ag, "old")
	mustDrop(t, op, last, start.Add(HardAge+GraceTime), refusal.OpenFailed)
	if op.epochs.current != nil {
		t.Error("a key that is held open from outside outlives its hard age")
	}
}

func TestRekeyMessagesMayBeRepeatedAndLost(t *testing.T) {
	op, ag := peers(t)
	req, err := op.StartRekey()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := op.StartRekey(); err != nil || !bytes.Equal(again, req) {
		t.Errorf("repeated request differs: %v", err)
	}
	answer, err := ag.AnswerRekey(req, start)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ag.AnswerRekey(req, start); err != nil || !bytes.Equal(again, answer) {
		t.Errorf("repeated answer differs: %v", err)
	}
	for range 2 {
		if err := op.FinishRekey(answer, start); err != nil {
			t.Error(err)
		}
	}
	mustOpen(t, ag, mustSeal(t, op, "new"), "new")
	if again, err := ag.AnswerRekey(req, start); err != nil || !bytes.Equal(again, answer) {
		t.Errorf("a request that comes late: %v", err)
	}
	mustOpen(t, op, mustSeal(t, ag, "new"), "new")
	roll(t, op, ag, start)
	if _, err := ag.AnswerRekey(req, start); refusal.Of(err) != refusal.Replay {
		t.Errorf("a request of an epoch long gone: %v, want replay", err)
	}
	if err := op.FinishRekey(answer, start); refusal.Of(err) != refusal.Replay {
		t.Errorf("an answer of an epoch long gone: %v, want replay", err)
	}
	mustOpen(t, ag, mustSeal(t, op, "alive"), "alive")
}

func TestOddRekeyPayloads(t *testing.T) {
	op, ag := peers(t)
	req, err := op.StartRekey()
	if err != nil {
		t.Fatal(err)
	}
	at := func(epoch uint32, eph ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, epoch), append(eph, make([]byte, 32-len(eph))...)...)
	}
	for name, v := range map[string]struct {
		payload []byte
		want    refusal.Code
	}{
		"empty":       {nil, refusal.ProtocolError},
		"short":       {req[:RekeySize-1], refusal.ProtocolError},
		"long":        {append(slices.Clone(req), 0), refusal.ProtocolError},
		"epoch ahead": {at(2, 9), refusal.ProtocolError},
		"epoch 2^32":  {at(0xffffffff, 9), refusal.ProtocolError},
		"epoch now":   {at(0, 9), refusal.Replay},
		"zero key":    {at(1), refusal.BadEphemeral},
		"low order":   {at(1, 1), refusal.BadEphemeral},
	} {
		if _, err := ag.AnswerRekey(v.payload, start); refusal.Of(err) != v.want {
			t.Errorf("request %s: %v, want %s", name, err, v.want)
		}
		if err := op.FinishRekey(v.payload, start); refusal.Of(err) != v.want {
			t.Errorf("answer %s: %v, want %s", name, err, v.want)
		}
	}
	if err := op.FinishRekey(req, start); refusal.Of(err) != refusal.BadEphemeral {
		t.Errorf("own key sent back: %v", err)
	}
	answer, err := ag.AnswerRekey(req, start)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ag.AnswerRekey(at(1, 9), start); refusal.Of(err) != refusal.ProtocolError {
		t.Errorf("a second request for one epoch: %v", err)
	}
	if err := op.FinishRekey(answer, start); err != nil {
		t.Errorf("the honest answer after all that: %v", err)
	}
	mustOpen(t, ag, mustSeal(t, op, "alive"), "alive")
}

func TestAnswerWithoutRequest(t *testing.T) {
	op, _ := peers(t)
	if err := op.FinishRekey(append([]byte{0, 0, 0, 1, 9}, make([]byte, 31)...), start); refusal.Of(err) != refusal.ProtocolError {
		t.Errorf("%v, want protocol_error", err)
	}
}

func TestOnlyTheOperatorStarts(t *testing.T) {
	op, ag := peers(t)
	if _, err := ag.StartRekey(); err == nil {
		t.Error("agent starts")
	}
	if err := ag.FinishRekey(make([]byte, RekeySize), start); err == nil {
		t.Error("agent finishes")
	}
	if _, err := op.AnswerRekey(make([]byte, RekeySize), start); err == nil {
		t.Error("operator answers")
	}
}

// TestRekeyBindsBothPayloads: keys do not agree if either was changed, which
// inside the channel nobody can do, so this is the second wall.
func TestRekeyBindsBothPayloads(t *testing.T) {
	op, ag := peers(t)
	req, err := op.StartRekey()
	if err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(req)
	changed[10] ^= 1
	answer, err := ag.AnswerRekey(changed, start)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.FinishRekey(answer, start); err != nil {
		t.Fatal(err)
	}
	mustDrop(t, ag, mustSeal(t, op, "x"), start, refusal.OpenFailed)
}

// TestNewEpochNeedsTheChain: somebody who knows both fresh keys but not the
// session does not get the next epoch.
func TestNewEpochNeedsTheChain(t *testing.T) {
	op, ag := peers(t)
	ag.rekey.chain.Get()[0] ^= 1
	req, err := op.StartRekey()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ag.AnswerRekey(req, start)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.FinishRekey(answer, start); err != nil {
		t.Fatal(err)
	}
	mustDrop(t, ag, mustSeal(t, op, "x"), start, refusal.OpenFailed)
}

func TestRekeyChangesEveryKey(t *testing.T) {
	op, ag := peers(t)
	first := *op.rekey.chain.Get()
	iv := op.send.Load().data.Load().iv
	roll(t, op, ag, start)
	if *op.rekey.chain.Get() == first || op.send.Load().data.Load().iv == iv || *op.rekey.chain.Get() != *ag.rekey.chain.Get() {
		t.Error("the chain or the IV stayed, or the sides differ")
	}
	if op.rekey.eph != nil {
		t.Error("the ephemeral key is still there")
	}
}

func TestSealStopsWithoutRekeyAndGoesOnAfterIt(t *testing.T) {
	op, ag := peers(t)
	req, err := op.StartRekey()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ag.AnswerRekey(req, start.Add(SoftAge))
	if err != nil {
		t.Fatal(err)
	}
	late := start.Add(HardAge)
	if _, err := op.Seal(nil, nil, late); refusal.Of(err) != refusal.RekeyRequired {
		t.Errorf("%v", err)
	}
	if err := op.FinishRekey(answer, late); err != nil {
		t.Fatal(err)
	}
	if _, err := op.Seal(nil, nil, late); err != nil {
		t.Errorf("after the rekey: %v", err)
	}
}

func TestWindowsOfEpochsAreSeparate(t *testing.T) {
	op, ag := peers(t)
	zero := mustSeal(t, op, "epoch 0")
	mustOpen(t, ag, zero, "epoch 0")
	roll(t, op, ag, start) // uses counter 0 of epoch 1
	mustDrop(t, ag, zero, start, refusal.Replay)
	moved := slices.Clone(zero)
	moved[1] = 1
	mustDrop(t, ag, moved, start, refusal.Replay)
	binary.BigEndian.PutUint64(moved[8:], 7)
	mustDrop(t, ag, moved, start, refusal.OpenFailed)
	mustDrop(t, ag, zero, start.Add(time.Minute), refusal.OpenFailed)
}
