package socks

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"strings"
	"testing"
)

// client is one that has said all of it at once.
type client struct {
	io.Reader
	answers bytes.Buffer
}

func (c *client) Write(b []byte) (int, error) { return c.answers.Write(b) }

func speak(said []byte) (*client, *Request, error) {
	c := &client{Reader: bytes.NewReader(said)}
	r, err := Accept(c)
	return c, r, err
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequestsOfAllVersions(t *testing.T) {
	for _, c := range []struct{ name, said, host, greeting string }{
		{"4", "04 01 0050 0a000001 00", "10.0.0.1", ""},
		{"4 with a user", "04 01 0050 0a000001 6a6f 00", "10.0.0.1", ""},
		{"4a", "04 01 0050 00000001 00 776562 00", "web", ""},
		{"5, IPv4", "05 01 00 05 01 00 01 0a000001 0050", "10.0.0.1", "0500"},
		{"5, IPv6", "05 02 02 00 05 01 00 04 20010db8000000000000000000000001 0050", "2001:db8::1", "0500"},
		{"5, name", "05 01 00 05 01 00 03 03 776562 0050", "web", "0500"},
		{"5, name of four bytes is no address", "05 01 00 05 01 00 03 04 61626364 0050", "abcd", "0500"},
	} {
		who, r, err := speak(append(unhex(t, c.said), "GET /"...))
		if err != nil || r.Host != c.host || r.Port != 80 {
			t.Errorf("%s: %+v, %v", c.name, r, err)
			continue
		}
		if rest, _ := io.ReadAll(who.Reader); string(rest) != "GET /" {
			t.Errorf("%s: took bytes of the connection, left %q", c.name, rest)
		}
		if got := hex.EncodeToString(who.answers.Bytes()); got != c.greeting {
			t.Errorf("%s: greeted with %s", c.name, got)
		}
		who.answers.Reset()
		if err := r.Answer(Granted); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		want := "005a000000000000"
		if c.greeting != "" {
			want = "05000001000000000000"
		}
		if got := hex.EncodeToString(who.answers.Bytes()); got != want {
			t.Errorf("%s: answered %s", c.name, got)
		}
	}
}

func TestP6NothingButConnections(t *testing.T) {
	for _, c := range []struct{ name, said, answer string }{
		{"4, bind", "04 02 0050 0a000001 00", "005b000000000000"},
		{"5, bind", "05 01 00 05 02 00 01 0a000001 0050", "050005070001000000000000"},
		{"5, UDP", "05 01 00 05 03 00 01 0a000001 0050", "050005070001000000000000"},
		{"5, address of no type", "05 01 00 05 01 00 02 0a000001 0050", "050005080001000000000000"},
		{"5, password only", "05 01 02", "05ff"},
		{"5, no method", "05 00", "05ff"},
		{"5, port 0", "05 01 00 05 01 00 01 0a000001 0000", "050005010001000000000000"},
		{"5, empty name", "05 01 00 05 01 00 03 00 0050", "050005010001000000000000"},
		{"5, control byte in a name", "05 01 00 05 01 00 03 02 611b 0050", "050005010001000000000000"},
		{"4a, empty name", "04 01 0050 00000001 00 00", "005b000000000000"},
		{"4, endless user", "04 01 0050 0a000001 " + strings.Repeat("61", 300), "005b000000000000"},
		{"HTTP", "47 45 54", ""},
		{"half", "05 01 00 05 01", "050005010001000000000000"},
	} {
		who, r, err := speak(unhex(t, c.said))
		if err == nil {
			t.Errorf("%s: taken as %+v", c.name, r)
		}
		if got := hex.EncodeToString(who.answers.Bytes()); got != c.answer {
			t.Errorf("%s: answered %s, want %s", c.name, got, c.answer)
		}
	}
}

// FuzzAccept: what is taken, said again in its shortest form, is taken for the same.
func FuzzAccept(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x03\x03web\x00\x50"))
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50"))
	f.Add([]byte("\x04\x01\x00\x50\x00\x00\x00\x01joe\x00web\x00"))
	f.Fuzz(func(t *testing.T, said []byte) {
		_, r, err := speak(said)
		if err != nil {
			return
		}
		_, again, err := speak(marshal(r))
		if err != nil || again.Host != r.Host || again.Port != r.Port || again.version != r.version {
			t.Fatalf("%q: %+v, said again %+v, %v", said, r, again, err)
		}
	})
}

func marshal(r *Request) []byte {
	addr, err := netip.ParseAddr(r.Host)
	port := binary.BigEndian.AppendUint16(nil, r.Port)
	if r.version == version4 {
		b := append([]byte{version4, connect}, port...)
		if err == nil && addr.Is4() && (addr.As4()[3] == 0 || addr.As4()[0]|addr.As4()[1]|addr.As4()[2] != 0) {
			return append(append(b, addr.AsSlice()...), 0)
		}
		return append(append(append(b, 0, 0, 0, 1, 0), r.Host...), 0)
	}
	b := []byte{version5, 1, openToAll, version5, connect, 0}
	if err == nil && addr.Zone() == "" {
		kind := byte(typeIPv4)
		if !addr.Is4() {
			kind = typeIPv6
		}
		if addr.String() == r.Host {
			return append(append(append(b, kind), addr.AsSlice()...), port...)
		}
	}
	return append(append(append(b, typeName, byte(len(r.Host))), r.Host...), port...)
}
