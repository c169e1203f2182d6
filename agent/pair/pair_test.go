package pair

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the test's own set-up
	}
	return v
}

// memory is a pair's end on a buffer.
type memory struct{ bytes.Buffer }

func (*memory) Close() error { return nil }

func TestPairTakesItsOwnFramesOnly(t *testing.T) {
	for typ := range FrameType(32) {
		toChild, toParent := typ >= FrameJob && typ <= FrameAnswer, typ >= FrameConfirm && typ <= FrameWay
		var m memory
		if err := Supervisor(&m).Send(typ, nil); (err == nil) != toChild {
			t.Errorf("the supervisor sends frame %d: %v", typ, err)
		}
		m.Reset()
		if err := Worker(&m).Send(typ, nil); (err == nil) != toParent {
			t.Errorf("the child sends frame %d: %v", typ, err)
		}
		raw := append([]byte{byte(typ)}, 0, 0, 0, 0)
		m.Reset()
		m.Write(raw)
		if _, _, err := Supervisor(&m).Receive(); (err == nil) != toParent {
			t.Errorf("the supervisor receives frame %d: %v", typ, err)
		}
	}
}

func TestPairBoundsWhatItReads(t *testing.T) {
	for _, typ := range []FrameType{FrameConfirm, FrameStarted, FrameExited, FrameClosed, FrameForged, FrameAsk, FrameWay} {
		var m memory
		head := binary.BigEndian.AppendUint32([]byte{byte(typ)}, uint32(typ.limit()+1))
		m.Write(append(head, make([]byte, typ.limit()+1)...))
		if _, _, err := Supervisor(&m).Receive(); err == nil {
			t.Errorf("frame %d beyond its limit was taken", typ)
		}
		if err := Worker(&m).Send(typ, make([]byte, typ.limit()+1)); err == nil {
			t.Errorf("frame %d beyond its limit was sent", typ)
		}
	}
}

func TestKeysAndReadyDataComeBack(t *testing.T) {
	want := Ready{Rule: "r", MaxIdle: time.Minute, AuditSeq: 7}
	body := must(JoinKeys([]byte("keys"), want))
	keys, got, err := SplitKeys(body)
	if err != nil || string(keys) != "keys" || got != want {
		t.Errorf("%q, %+v, %v", keys, got, err)
	}
	for n := range body {
		if _, _, err := SplitKeys(body[:n]); err == nil {
			t.Errorf("%d of %d bytes were taken", n, len(body))
		}
	}
}

func FuzzPairReceive(f *testing.F) {
	f.Add([]byte{16, 0, 0, 0, 3, 'a', 'b', 'c'})
	f.Add([]byte{19, 0, 0, 0, 0})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{17, 0, 0, 0, 9, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := memory{}
		m.Write(raw)
		p := Supervisor(&m)
		var again memory
		for {
			typ, body, err := p.Receive()
			if err != nil {
				break
			}
			if err := Worker(&again).Send(typ, body); err != nil {
				t.Fatalf("a frame that was received cannot be sent: %v", err)
			}
		}
		if !bytes.HasPrefix(raw, again.Bytes()) {
			t.Fatal("frames read and written again differ")
		}
	})
}

func FuzzSplitKeys(f *testing.F) {
	f.Add(must(JoinKeys([]byte("keys"), Ready{Rule: "r"})))
	f.Add([]byte{0, 0, '{', '}'})
	f.Fuzz(func(t *testing.T, raw []byte) {
		keys, ready, err := SplitKeys(raw)
		if err != nil {
			return
		}
		k2, r2, err := SplitKeys(must(JoinKeys(keys, ready)))
		if err != nil || !bytes.Equal(keys, k2) || r2 != ready {
			t.Fatal("what was read cannot be written again")
		}
	})
}

// TestOversizedCredentialReachesNoSession: what a hostile server makes too long for
// the frame is not sent, and the session goes on with the credential it has.
func TestOversizedCredentialReachesNoSession(t *testing.T) {
	m := &memory{}
	p := Supervisor(m)
	if err := p.SendJSON(FrameRelay, wire.Relay{Password: make(wire.Bytes, 16<<10)}); err == nil || m.Len() != 0 {
		t.Errorf("%d bytes sent, %v", m.Len(), err)
	}
	if err := p.SendJSON(FrameRelay, wire.Relay{Username: "x"}); err != nil || m.Len() == 0 {
		t.Error(err)
	}
	if err := Worker(m).Send(FrameRelay, nil); err == nil {
		t.Error("a session process sent a credential")
	}
}

// The table of frames in the protocol is this package's, number by number.
func TestProtocolListsEveryFrame(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "PROTOCOL.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "**From supervisor to session process.**")
	table, _, _ = strings.Cut(table, "\nKey export:")
	row := regexp.MustCompile(`(?m)^\| (\d+) \| \w+ \| to (child|parent) \| ([0-9]+(?: KiB)?) \|`)
	got := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(table, -1) {
		got[m[1]] = m[2] + " " + m[3]
	}
	want := map[string]string{}
	for n := range 256 {
		f := FrameType(n)
		limit, to := fmt.Sprint(f.limit()), "child"
		if f.limit() < 0 {
			continue
		}
		if f.toParent() {
			to = "parent"
		}
		if f.limit() >= 1024 {
			limit = fmt.Sprintf("%d KiB", f.limit()>>10)
		}
		want[fmt.Sprint(n)] = to + " " + limit
	}
	if !maps.Equal(got, want) {
		t.Errorf("docs/PROTOCOL.md lists %v, want %v", got, want)
	}
}
