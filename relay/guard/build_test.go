package guard

import (
	"bytes"
	"testing"
)

func TestBuiltMessagesPassTheGuard(t *testing.T) {
	id := [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	m := NewMessage(RefreshRequest, id)
	for n := range 7 { // every padding
		if err := Server.Check(m); err != nil || TypeOf(m) != RefreshRequest || Transaction(m) != id {
			t.Fatalf("after %d attributes: %v", n, err)
		}
		typ := uint16(0x7f00 + n)
		value := bytes.Repeat([]byte{0xff}, n)
		m = AppendAttribute(m, typ, value)
		if got, ok := Find(m, typ); !ok || !bytes.Equal(got, value) {
			t.Errorf("attribute of %d bytes reads %x", n, got)
		}
	}
	whole := bytes.Clone(m)
	head, ok := Before(m, 0x7f03)
	if _, there := Find(head, 0x7f03); !ok || there || Check(head) != nil {
		t.Errorf("cut to %x", head)
	}
	if _, there := Find(head, 0x7f02); !there || !bytes.Equal(m, whole) {
		t.Error("the cut took more, or changed the message")
	}
	if _, ok := Before(m, 0x7fff); ok {
		t.Error("cut at what is not there")
	}
}

// What is cut from a message that passed passes too.
func FuzzBefore(f *testing.F) {
	m := AppendAttribute(AppendAttribute(NewMessage(AllocateRequest, [12]byte{}), AttrRealm, []byte("r")), AttrUsername, []byte("name"))
	f.Add(m, uint16(AttrUsername))
	f.Add(m, uint16(AttrRealm))
	f.Fuzz(func(t *testing.T, frame []byte, typ uint16) {
		if Check(frame) != nil || IsChannelData(frame) {
			return
		}
		head, ok := Before(frame, typ)
		if _, there := Find(frame, typ); there != ok {
			t.Fatalf("found %v, cut %v", there, ok)
		}
		if ok && (Check(head) != nil || !bytes.Equal(head[HeaderSize:], frame[HeaderSize:len(head)])) {
			t.Fatalf("cut to %x", head)
		}
	})
}

func FuzzReplaced(f *testing.F) {
	f.Add([]byte{0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x15, 0, 1, 'n', 0, 0, 0}, []byte("12345"))
	f.Add([]byte{0, 3, 0, 24, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte("x"))
	f.Fuzz(func(t *testing.T, frame, value []byte) {
		if Check(frame) != nil || IsChannelData(frame) || len(value) == 0 || len(value) > 100 {
			return
		}
		got := Replaced(frame, AttrNonce, value)
		if err := Check(got); err != nil && len(got) <= MaxFrame {
			t.Fatalf("% x became % x: %v", frame, got, err)
		}
		if TypeOf(got) != TypeOf(frame) || Transaction(got) != Transaction(frame) {
			t.Fatalf("another message: % x", got)
		}
		if v, ok := Find(got, AttrNonce); ok && string(v) != string(value) {
			t.Fatalf("nonce %q", v)
		}
		// Its own nonce back gives the same again.
		if v, ok := Find(frame, AttrNonce); ok && string(Replaced(got, AttrNonce, v)) != string(Replaced(frame, AttrNonce, v)) {
			t.Fatal("not the same again")
		}
	})
}
