package session

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// wellFormed are requests of every kind, at and inside their limits.
var wellFormed = []Request{
	PTYRequest{PTY{Term: "xterm", Size: Size{80, 24, 0, 0}}},
	PTYRequest{PTY{Size: Size{MaxColumns, MaxRows, 65535, 65535}, Modes: []Mode{{1, 3}, {159, 1<<32 - 1}}}},
	EnvRequest{"LANG", "C"}, EnvRequest{"EMPTY", ""},
	ShellRequest{},
	ExecRequest{[][]byte{[]byte("ls"), {}, {0, 0xff}}},
	WindowChange{Size{Columns: 1, Rows: 1}},
	SignalRequest{"TERM"},
}

var exits = []Exit{
	{}, {Status: 255}, {Status: 0xC0000100}, {Signal: "KILL"}, {Signal: "SEGV", CoreDumped: true},
	{Refusal: refusal.New(refusal.PolicyDenied, "no rule")}, {Refusal: refusal.New(refusal.Expired, "")},
}

func TestRequestsSurviveTheirEncoding(t *testing.T) {
	for _, r := range wellFormed {
		body := r.append(nil)
		got, err := parseRequest(body)
		if err != nil || !bytes.Equal(got.append(nil), body) {
			t.Errorf("%+v became %+v, %v", r, got, err)
		}
		for n := range body {
			if _, err := parseRequest(body[:n]); err == nil {
				t.Errorf("%+v cut to %d bytes was read", r, n)
			}
		}
		if _, err := parseRequest(append(body, 0)); err == nil {
			t.Errorf("%+v with a byte more was read", r)
		}
	}
}

func TestExitsSurviveTheirEncoding(t *testing.T) {
	for _, e := range exits {
		body := e.append(nil)
		got, err := parseExit(body)
		if err != nil || !bytes.Equal(got.append(nil), body) {
			t.Errorf("%+v became %+v, %v", e, got, err)
		}
		for n := range body {
			if _, err := parseExit(body[:n]); err == nil {
				t.Errorf("%+v cut to %d bytes was read", e, n)
			}
		}
	}
	long := refusal.New(refusal.Expired, "%s", make([]byte, 4*maxText))
	if _, err := parseExit(Exit{Refusal: long}.append(nil)); err != nil {
		t.Errorf("a long text is not cut: %v", err)
	}
}

func TestReadySurvivesItsEncoding(t *testing.T) {
	for _, r := range []Ready{{}, testReady, {Rule: string(make([]byte, maxRule)), MaxDuration: (1<<32 - 1) * time.Second}} {
		h4, got, err := parseReady(r.marshal(key.Hash{5}))
		if err != nil || got != r || h4 != (key.Hash{5}) {
			t.Errorf("%+v became %+v, %v", r, got, err)
		}
	}
	for d, want := range map[time.Duration]time.Duration{time.Millisecond: time.Second, -1: 0, 1 << 62: (1<<32 - 1) * time.Second} {
		if _, got, err := parseReady(Ready{MaxIdle: d}.marshal(key.Hash{})); err != nil || got.MaxIdle != want {
			t.Errorf("%v became %v, %v", d, got.MaxIdle, err)
		}
	}
	if _, got, err := parseReady(Ready{Rule: string(make([]byte, 4*maxRule))}.marshal(key.Hash{})); err != nil || len(got.Rule) != maxRule {
		t.Errorf("a long rule name: %d bytes, %v", len(got.Rule), err)
	}
}

func TestWorkedExampleOfAMessage(t *testing.T) {
	r := messageReader{r: bytes.NewReader([]byte("\x00\x00\x00\x07\x5e\x00\x00\x00\x02ls"))}
	typ, body, err := r.next()
	data, stderr, perr := parseData(typ, body)
	if err != nil || perr != nil || typ != msgData || stderr || string(data) != "ls" {
		t.Errorf("%d, %q, %v, %v", typ, data, err, perr)
	}
	if _, _, err := r.next(); err != io.EOF {
		t.Errorf("then %v", err)
	}
}

// TestH4NoMemoryForALengthAlone: a message takes what has arrived of it, twice at most,
// and the first one of a stream is short.
func TestH4NoMemoryForALengthAlone(t *testing.T) {
	head := []byte{0, 0, 0xff, 0xff, byte(msgRequest)}
	for arrived := 0; arrived < 60<<10; arrived = 2*arrived + 1 {
		r := messageReader{r: bytes.NewReader(append(slices.Clone(head), make([]byte, arrived)...))}
		if _, _, err := r.next(); err != errMessage || cap(r.buf) > max(2*arrived, firstPiece) {
			t.Errorf("%d bytes take %d: %v", arrived, cap(r.buf), err)
		}
	}
	for n, want := range map[int]error{maxOpening: nil, maxOpening + 1: errMessage} {
		r := messageReader{r: bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, uint32(n+1)), make([]byte, n+1)...)), opening: true}
		if _, body, err := r.next(); err != want || err == nil && len(body) != n {
			t.Errorf("an opening of %d bytes: %d, %v", n, len(body), err)
		}
	}
}

func TestSizesOfDatagrams(t *testing.T) {
	if maxPlaintext != 1216 || MaxDatagram != 1248 || segment(1200) != 1252 {
		t.Errorf("%d, %d, %d", maxPlaintext, MaxDatagram, segment(1200))
	}
	for n := range maxPlaintext {
		if (n+padding(n))%padTo != 0 || padding(n) > padTo {
			t.Errorf("%d bytes are padded with %d", n, padding(n))
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, r := range wellFormed {
		f.Add(r.append(nil))
	}
	for _, e := range exits {
		f.Add(e.append(nil))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if r, err := parseRequest(body); err == nil && !bytes.Equal(r.append(nil), body) && !clamped(r, body) {
			t.Errorf("%x was read as %+v", body, r)
		}
		if e, err := parseExit(body); err == nil && !bytes.Equal(e.append(nil), body) {
			t.Errorf("%x was read as %+v", body, e)
		}
	})
}

// clamped: a size may come back smaller than it was, and nothing else may.
func clamped(r Request, body []byte) bool {
	switch r.(type) {
	case PTYRequest, WindowChange:
		return len(r.append(nil)) == len(body)
	}
	return false
}

func FuzzReady(f *testing.F) {
	f.Add(testReady.marshal(key.Hash{1}))
	f.Add(Ready{}.marshal(key.Hash{}))
	f.Fuzz(func(t *testing.T, body []byte) {
		if h4, r, err := parseReady(body); err == nil && !bytes.Equal(r.marshal(h4), body) {
			t.Errorf("%x was read as %+v", body, r)
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add(appendFrameBlock(framePacket, []byte("packet")))
	f.Add(append(appendFrame(nil, frameWanted, nil), appendFrameBlock(frameClose, []byte("expired"))...))
	f.Add(make([]byte, padTo))
	f.Add([]byte{byte(framePacket), 0xff, 0xff})
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		var again []byte
		for b := plaintext; len(b) > 0; {
			fr, rest, err := nextFrame(b)
			if err != nil {
				return
			}
			if fr.typ == framePadding {
				again = append(again, make([]byte, len(b))...)
			} else {
				again = appendFrame(again, fr.typ, fr.body)
			}
			b = rest
		}
		if !bytes.Equal(again, plaintext) {
			t.Errorf("%x became %x", plaintext, again)
		}
	})
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte(session))
	f.Add([]byte("\x00\x00\x00\x07\x5e\x00\x00\x00\x02ls\x00\x00\x00\x01\x61"))
	f.Add([]byte("\xff\xff\xff\xff\x5e"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := messageReader{r: bytes.NewReader(stream)}
		var again []byte
		for {
			typ, body, err := r.next()
			if err != nil {
				break
			}
			again = binary.BigEndian.AppendUint32(again, uint32(len(body)+1))
			again = append(append(again, byte(typ)), body...)
			if data, _, err := parseData(typ, body); err == nil && len(data) > MaxData {
				t.Errorf("%d bytes of data", len(data))
			}
		}
		if !slices.Equal(again, stream[:len(again)]) {
			t.Errorf("%x became %x", stream, again)
		}
	})
}
