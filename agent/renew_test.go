//go:build linux

package agent

import (
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

func TestAnswersWithoutAQuestionAreDropped(t *testing.T) {
	var q questions
	q.answer(wire.Frame{Type: wire.FrameRelayed, ID: 1})
	id, came := q.next()
	q.answer(wire.Frame{Type: wire.FrameRelayed, ID: id + 1})
	q.answer(wire.Frame{Type: wire.FrameRefuse})
	select {
	case f := <-came:
		t.Fatalf("%+v answers another question", f)
	default:
	}
	q.answer(wire.Frame{Type: wire.FrameRelayed, ID: id})
	q.answer(wire.Frame{Type: wire.FrameRefuse, ID: id}) // a second answer must neither block nor count
	if f := <-came; f.Type != wire.FrameRelayed {
		t.Fatalf("got %+v", f)
	}
	q.forget(id)
	if len(q.m) != 0 {
		t.Errorf("%d questions left", len(q.m))
	}
}

func TestWhatTheServerWritesIntoARefusalStaysHarmless(t *testing.T) {
	for body, want := range map[string]refusal.Code{
		`{"code":"key_revoked","detail":"x\u001b[2J"}`: refusal.KeyRevoked,
		`{"code":"\u001b[2J"}`:                         refusal.ProtocolError,
		`[]`:                                           refusal.ProtocolError,
	} {
		err := refused(wire.Frame{Type: wire.FrameRefuse, Body: []byte(body)})
		if refusal.Of(err) != want || err.Error() != refusal.New(want, "%s", err.(*refusal.Error).Detail).Error() {
			t.Errorf("%s: %v", body, err)
		}
		for _, c := range err.Error() {
			if c < ' ' || c > '~' {
				t.Errorf("%s: %q", body, err)
			}
		}
	}
	if err := refused(wire.Frame{Type: wire.FrameRelayed}); refusal.Of(err) != refusal.ProtocolError {
		t.Error(err)
	}
}
