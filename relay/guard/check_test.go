package guard

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// The probes of the dependency survey: each kills an unguarded pion v2.
const (
	probeT1STUN    = "0000ffec2112a442" + "000000000000000000000000"
	probeT1Channel = "4000fffc" + "00000000000000000000000000000000"
	probeT2        = "0016000c2112a442" + "000000000000000000000000" + "0013000400000000" + "00120000"
	probeT3        = "0017000c2112a442" + "000000000000000000000000" + "0013000400000000" + "00120000"
)

// rfc5769 are the four sample messages of RFC 5769, sections 2.1 to 2.4.
var rfc5769 = map[string]string{
	"2.1 request": "000100582112a442b7e7a701bc34d686fa87dfae" +
		"802200105354554e207465737420636c69656e74" +
		"002400046e0001ff" + "80290008932ff9b151263b36" +
		"000600096576746a3a68367659202020" +
		"000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2" +
		"80280004e57a3bcf",
	"2.2 IPv4 response": "0101003c2112a442b7e7a701bc34d686fa87dfae" +
		"8022000b7465737420766563746f7220" +
		"002000080001a147e112a643" +
		"000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7" +
		"80280004c07d4c96",
	"2.3 IPv6 response": "010100482112a442b7e7a701bc34d686fa87dfae" +
		"8022000b7465737420766563746f7220" +
		"002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9" +
		"00080014a382954e4be67bf11784c97c8292c275bfe3ed41" +
		"80280004c8fb0b4c",
	"2.4 long-term request": "000100602112a44278ad3433c6ad72c029da412e" +
		"00060012e3839ee38388e383aae38383e382afe382b90000" +
		"0015001c662f2f3439396b39353464364f4c33346f4c39465354767936347341" +
		"0014000b6578616d706c652e6f726700" +
		"00080014f67024656dd64a3e02b8e0712e85c9a28ca89666",
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatalf("bad hex in the test: %v", err)
	}
	return b
}

// attr encodes one attribute, zero-padded.
func attr(typ uint16, value ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	b = append(b, value...)
	return append(b, make([]byte, pad4(len(value))-len(value))...)
}

// message encodes a STUN message with those attributes.
func message(typ Type, attrs ...[]byte) []byte {
	body := bytes.Join(attrs, nil)
	b := binary.BigEndian.AppendUint16(nil, uint16(typ))
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = binary.BigEndian.AppendUint32(b, magicCookie)
	b = append(b, "transaction!"...)
	return append(b, body...)
}

// peer encodes PeerAddr, or one with another port, as an XOR-PEER-ADDRESS.
func peer(port uint16) []byte {
	ip := PeerAddr().Addr().As4()
	v := []byte{0, 1}
	v = binary.BigEndian.AppendUint16(v, port^(magicCookie>>16))
	v = binary.BigEndian.AppendUint32(v, binary.BigEndian.Uint32(ip[:])^magicCookie)
	return attr(AttrPeerAddress, v...)
}

func TestRFC5769VectorsPass(t *testing.T) {
	for name, s := range rfc5769 {
		if err := Check(unhex(t, s)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The long-term vector of RFC 5769 carries a MAC that only the right split makes.
func TestIntegritySplitsAtTheAttribute(t *testing.T) {
	frame := unhex(t, rfc5769["2.4 long-term request"])
	signed, mac, ok := Integrity(frame)
	if !ok || len(signed) != len(frame)-24 || len(mac) != 20 || mac[0] != 0xf6 {
		t.Errorf("%d bytes signed, %d of MAC, %v", len(signed), len(mac), ok)
	}
	if _, _, ok := Integrity(message(AllocateRequest, peer(9))); ok {
		t.Error("found in a message without it")
	}
	if _, ok := Find(message(AllocateRequest, peer(9)), AttrIntegrity); ok {
		t.Error("Find found it")
	}
}

func TestM4AndM5ProbesAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name, frame string
		want        error
	}{
		{"T1 STUN", probeT1STUN, BadLength},
		{"T1 channel", probeT1Channel, BadLength},
		{"T2", probeT2, BadAttribute},
		{"T3", probeT3, BadAttribute},
	} {
		if err := Check(unhex(t, tc.frame)); err != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestEveryTruncationAndExtensionIsRefused(t *testing.T) {
	for name, s := range rfc5769 {
		frame := unhex(t, s)
		for n := range frame {
			if Check(frame[:n]) == nil {
				t.Errorf("%s cut to %d bytes was accepted", name, n)
			}
		}
		for n := 1; n <= 8; n++ {
			if Check(append(bytes.Clone(frame), make([]byte, n)...)) == nil {
				t.Errorf("%s with %d bytes more was accepted", name, n)
			}
		}
	}
}

func TestMalformedMessagesAreRefusedForTheRightReason(t *testing.T) {
	many := make([][]byte, MaxAttributes+1)
	for i := range many {
		many[i] = peer(9)
	}
	cookie := message(AllocateRequest)
	cookie[7]++
	integrity := attr(AttrIntegrity, make([]byte, 20)...)
	overrun := message(AllocateRequest, attr(AttrLifetime, 0, 0, 0, 1))
	overrun[HeaderSize+3] = 5
	for _, tc := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"empty", nil, BadLength},
		{"first bits 10", append([]byte{0x80}, make([]byte, 19)...), BadType},
		{"magic cookie", cookie, BadType},
		{"over 1500", message(AllocateRequest, attr(AttrPadding, make([]byte, 1480)...)), BadLength},
		{"seventeen attributes", message(CreatePermissionRequest, many...), TooMany},
		{"two lifetimes", message(RefreshRequest, attr(AttrLifetime, 0, 0, 0, 1), attr(AttrLifetime, 0, 0, 0, 1)), Duplicate},
		{"attribute behind integrity", message(RefreshRequest, integrity, attr(AttrLifetime, 0, 0, 0, 1)), BadOrder},
		{"attribute behind fingerprint", message(RefreshRequest, attr(AttrFingerprint, 0, 0, 0, 0), attr(AttrLifetime, 0, 0, 0, 1)), BadOrder},
		{"value leaves message", overrun, BadAttribute},
		{"half an attribute header", message(RefreshRequest, []byte{0, 1, 0, 0}), BadAttribute},
		{"short lifetime", message(RefreshRequest, attr(AttrLifetime, 0, 0, 1)), BadAttribute},
		{"long channel", message(ChannelBindRequest, attr(AttrChannel, 0, 0, 0, 0, 0)), BadAttribute},
		{"short integrity", message(RefreshRequest, attr(AttrIntegrity, make([]byte, 19)...)), BadAttribute},
		{"long integrity", message(RefreshRequest, attr(AttrIntegrity, make([]byte, 24)...)), BadAttribute},
		{"short fingerprint", message(RefreshRequest, attr(AttrFingerprint, 0)), BadAttribute},
		{"empty user name", message(RefreshRequest, attr(AttrUsername)), BadAttribute},
		{"user name of 513", message(RefreshRequest, attr(AttrUsername, make([]byte, 513)...)), BadAttribute},
		{"even port of 4", message(AllocateRequest, attr(AttrEvenPort, 0, 0, 0, 0)), BadAttribute},
		{"empty transport", message(AllocateRequest, attr(AttrRequestedTransport)), BadAttribute},
		{"empty token", message(AllocateRequest, attr(AttrReservationToken)), BadAttribute},
		{"error code of 3", message(AllocateError, attr(AttrErrorCode, 0, 0, 4)), BadAttribute},
		{"IPv6 family in 8 bytes", message(SendIndication, attr(AttrPeerAddress, 0, 2, 0, 0, 0, 0, 0, 0)), BadAttribute},
		{"IPv4 family in 20 bytes", message(SendIndication, attr(AttrPeerAddress, append([]byte{0, 1}, make([]byte, 18)...)...)), BadAttribute},
		{"family with a high byte", message(SendIndication, attr(AttrPeerAddress, 1, 1, 0, 0, 0, 0, 0, 0)), BadAttribute},
		{"channel number 0x8000", []byte{0x80, 0, 0, 0}, BadLength},
		{"channel data one short", []byte{0x40, 0, 0, 2, 1}, BadLength},
		{"channel data one long", []byte{0x40, 0, 0, 4, 1, 2, 3, 4, 5}, BadLength},
		{"channel data of 1501", append([]byte{0x40, 0, 5, 0xd9}, make([]byte, 1497)...), BadLength},
	} {
		if err := Check(tc.frame); err != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestEveryAddressSizeButTwoIsRefused(t *testing.T) {
	for _, typ := range []uint16{0x0001, AttrPeerAddress, AttrRelayedAddress, AttrMappedAddress, 0x8020, 0x8023} {
		for n := range 32 {
			v := make([]byte, n)
			if n > 1 {
				v[1] = 1
			}
			if n == 20 {
				v[1] = 2
			}
			ok := Check(message(AllocateSuccess, attr(typ, v...))) == nil
			if ok != (n == 8 || n == 20) {
				t.Errorf("attribute %#04x of %d bytes: accepted %v", typ, n, ok)
			}
		}
	}
}

func TestSidesReceiveOnlyTheirOwnTypes(t *testing.T) {
	data := attr(AttrData, 1, 2, 3)
	for typ := range 0x4000 {
		frame := message(Type(typ), peer(9), data)
		server, client := Server.Check(frame), Client.Check(frame)
		if server == nil && client == nil {
			t.Errorf("type %#04x passes on both sides", typ)
		}
	}
	for _, typ := range []Type{0x0001, 0x0101, 0x000a, 0x001c} { // binding, connect, connection attempt
		if Server.Check(message(typ)) == nil || Client.Check(message(typ)) == nil {
			t.Errorf("type %#04x passes", uint16(typ))
		}
	}
}

func TestIndicationsNeedPeerAndData(t *testing.T) {
	for _, tc := range []struct {
		side Side
		typ  Type
	}{{Server, SendIndication}, {Client, DataIndication}} {
		if err := tc.side.Check(message(tc.typ, peer(9))); err != Missing {
			t.Errorf("%#04x without data: %v", uint16(tc.typ), err)
		}
		if err := tc.side.Check(message(tc.typ, attr(AttrData, 1))); err != Missing {
			t.Errorf("%#04x without peer: %v", uint16(tc.typ), err)
		}
		if err := tc.side.Check(message(tc.typ, peer(9), attr(AttrData, 1))); err != nil {
			t.Errorf("%#04x: %v", uint16(tc.typ), err)
		}
	}
}

func TestChannelDataThatLooksLikeSTUNNeverReachesAClient(t *testing.T) {
	frame := append([]byte{0x40, 0, 0, 16}, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	if err := Client.Check(frame); err != Ambiguous {
		t.Errorf("client: %v", err)
	}
	if err := Server.Check(frame); err != nil {
		t.Errorf("server: %v", err)
	}
}

func TestPairedRuleAllowsOnePeerAndOneChannel(t *testing.T) {
	foreign := attr(AttrPeerAddress, 0, 1, 0, 0, 1, 2, 3, 4)
	channel := func(n uint16) []byte { return attr(AttrChannel, byte(n>>8), byte(n), 0, 0) }
	for _, tc := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"bind", message(ChannelBindRequest, peer(9), channel(Channel)), nil},
		{"other channel", message(ChannelBindRequest, peer(9), channel(Channel+1)), NotPaired},
		{"other port", message(ChannelBindRequest, peer(10), channel(Channel)), NotPaired},
		{"two peers", message(CreatePermissionRequest, peer(9), peer(9)), NotPaired},
		{"foreign peer is pion's to refuse", message(CreatePermissionRequest, foreign), nil},
		{"even port", message(AllocateRequest, attr(AttrEvenPort, 0)), NotPaired},
		{"reservation", message(AllocateRequest, attr(AttrReservationToken, make([]byte, 8)...)), NotPaired},
		{"TCP allocation", message(AllocateRequest, attr(AttrRequestedTransport, 6, 0, 0, 0)), NotPaired},
		{"UDP allocation", message(AllocateRequest, attr(AttrRequestedTransport, 17, 0, 0, 0)), nil},
		{"data", []byte{0x40, 0, 0, 0}, nil},
		{"data on another channel", []byte{0x40, 1, 0, 0}, NotPaired},
	} {
		if err := Server.Check(tc.frame); err != nil {
			t.Fatalf("%s: bad test frame: %v", tc.name, err)
		}
		if err := Paired(tc.frame); err != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestChannelDataRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 4, 1248, MaxPayload} {
		frame := make([]byte, ChannelHeaderSize+n, PaddedSize(n))
		PutChannelHeader(frame, Channel, n)
		for _, f := range [][]byte{frame, frame[:PaddedSize(n)]} {
			ch, payload, err := ParseChannelData(f)
			if err != nil || ch != Channel || len(payload) != n {
				t.Errorf("%d bytes in a frame of %d: %#x, %d, %v", n, len(f), ch, len(payload), err)
			}
		}
	}
	if _, _, err := ParseChannelData([]byte{0x40, 0, 0, 1}); err != BadLength {
		t.Errorf("short frame: %v", err)
	}
}

func TestPadRequestFillsOnlyTheFirstRequest(t *testing.T) {
	transport := attr(AttrRequestedTransport, 17, 0, 0, 0)
	plain := message(AllocateRequest, transport)
	marked := message(AllocateRequest, transport, make([]byte, 8))
	putFingerprint(marked)
	for _, frame := range [][]byte{plain, marked} {
		out := PadRequest(frame)
		if len(out) != FirstRequestSize || Server.Check(out) != nil || Paired(out) != nil {
			t.Fatalf("padded request has %d bytes, check says %v", len(out), Server.Check(out))
		}
		if !bytes.Equal(out[8:HeaderSize], frame[8:HeaderSize]) {
			t.Error("transaction id changed")
		}
		if !bytes.Equal(PadRequest(out), out) {
			t.Error("padding twice changed the frame")
		}
	}
	out := PadRequest(marked)
	again := bytes.Clone(out)
	putFingerprint(again)
	if !bytes.Equal(out, again) {
		t.Error("fingerprint is not the last attribute or is wrong")
	}
	for name, frame := range map[string][]byte{
		"signed":  message(AllocateRequest, transport, attr(AttrIntegrity, make([]byte, 20)...)),
		"refresh": message(RefreshRequest),
		"data":    {0x40, 0, 0, 0},
		"garbage": []byte("garbage"),
	} {
		if !bytes.Equal(PadRequest(frame), frame) {
			t.Errorf("%s was changed", name)
		}
	}
}

func TestReasonsHaveStableNamesAndAreCounted(t *testing.T) {
	var s Stats
	for r := Reason(1); r < reasonCount; r++ {
		if name := r.String(); name == "" || name == "unknown" || !strings.HasSuffix(r.Error(), name) {
			t.Errorf("reason %d has the name %q", r, name)
		}
		s.Count(r)
	}
	s.Count(200)
	s.countErr(errors.New("not a reason"))
	if got := len(s.Snapshot()); got != int(reasonCount)-1 {
		t.Errorf("%d reasons counted", got)
	}
	var none *Stats
	none.Count(BadType)
	if none.Drops(BadType) != 0 || len(none.Snapshot()) != 0 {
		t.Error("a nil Stats counted")
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	good, bad := unhex(t, rfc5769["2.1 request"]), unhex(t, probeT2)
	if n := testing.AllocsPerRun(100, func() { _, _ = Check(good), Check(bad) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// remarshal rebuilds an accepted frame from what the parser saw of it. Only the
// contents of padding, which nobody reads, are taken over.
func remarshal(t *testing.T, frame []byte) []byte {
	if IsChannelData(frame) {
		ch, payload, err := ParseChannelData(frame)
		if err != nil {
			t.Fatalf("accepted but not parsed: %v", err)
		}
		out := make([]byte, ChannelHeaderSize, len(frame))
		PutChannelHeader(out, ch, len(payload))
		out = append(out, payload...)
		return append(out, frame[len(out):]...)
	}
	out := binary.BigEndian.AppendUint16(nil, uint16(TypeOf(frame)))
	out = binary.BigEndian.AppendUint16(out, uint16(len(frame)-HeaderSize))
	out = append(out, frame[4:HeaderSize]...)
	for b := frame[HeaderSize:]; len(b) > 0; {
		typ, value, rest, err := nextAttribute(b)
		if err != nil {
			t.Fatalf("accepted but not parsed: %v", err)
		}
		out = append(out, attr(typ, value...)...)
		for i := range pad4(len(value)) - len(value) {
			out[len(out)-1-i] = frame[len(out)-1-i]
		}
		b = rest
	}
	return out
}

func FuzzCheck(f *testing.F) {
	for _, s := range rfc5769 {
		f.Add(unhex(f, s))
	}
	for _, s := range []string{probeT1STUN, probeT1Channel, probeT2, probeT3, "4000000568656c6c6f", "4000000568656c6c6f000000"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if Check(frame) != nil {
			if Server.Check(frame) == nil || Client.Check(frame) == nil {
				t.Fatal("a side accepts what the parser refuses")
			}
			return
		}
		if got := remarshal(t, frame); !bytes.Equal(got, frame) {
			t.Fatalf("parsed %x, wrote %x", frame, got)
		}
		if Server.Check(frame) == nil {
			_ = Paired(frame)
		}
		if out := PadRequest(frame); Check(out) != nil {
			t.Fatalf("padding broke %x", frame)
		}
	})
}
