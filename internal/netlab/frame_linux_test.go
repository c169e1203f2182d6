package netlab

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// train builds n packets of one flow as a kernel would hand them over.
func train(t *testing.T, proto Protocol, v6 bool, payload []byte, gso int) *frame {
	t.Helper()
	src, dst := netip.MustParseAddr("198.18.1.10"), netip.MustParseAddr("198.18.2.10")
	if v6 {
		src, dst = netip.MustParseAddr("2001:2::1"), netip.MustParseAddr("2001:2::2")
	}
	l4, kind := 8, byte(vnetUDP)
	if proto == TCP {
		l4, kind = 32, vnetTCP4
		if v6 {
			kind = vnetTCP6
		}
	}
	var ip []byte
	if v6 {
		ip = append([]byte{0x60, 0, 0, 0, 0, 0, byte(proto), 64}, append(src.AsSlice(), dst.AsSlice()...)...)
	} else {
		ip = append([]byte{0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, byte(proto), 0, 0}, append(src.AsSlice(), dst.AsSlice()...)...)
	}
	head := make([]byte, l4)
	binary.BigEndian.PutUint16(head, 1000)
	binary.BigEndian.PutUint16(head[2:], 443)
	if proto == TCP {
		binary.BigEndian.PutUint32(head[4:], 0xfffffff0) // wraps within the train
		head[12], head[13] = 8<<4, tcpACK|tcpPSH|tcpFIN|tcpCWR
	} else {
		binary.BigEndian.PutUint16(head[4:], uint16(8+len(payload)))
	}
	ip = append(append(ip, head...), payload...)
	if v6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	}
	b := append(blankHead(ip), ip...)
	if gso > 0 {
		b[1] = kind
		binary.NativeEndian.PutUint16(b[4:], uint16(gso))
	}
	f, ok := parse(b)
	if !ok {
		t.Fatal("not parsed")
	}
	f.finish()
	return f
}

// checksumsHold fills in what the network card would and checks all of it.
func checksumsHold(f *frame) bool {
	if !f.v6 && fold(sum(f.b[ipStart:ipStart+20])) != 0xffff {
		return false
	}
	segment := append([]byte(nil), f.b[f.l4:]...)
	at := int(binary.NativeEndian.Uint16(f.b[8:]))
	if len(segment)%2 == 1 {
		segment = append(segment, 0)
	}
	filled := ^fold(sum(segment)) // the field holds the pseudo header's sum, as the card expects
	binary.BigEndian.PutUint16(segment[at:], filled)
	return fold(sum(segment)+uint32(f.pseudo())) == 0xffff
}

func TestTrainsAreCutAsCardsDo(t *testing.T) {
	payload := make([]byte, 10*100+1)
	for i := range payload {
		payload[i] = byte(i)
	}
	for _, proto := range []Protocol{TCP, UDP} {
		for _, v6 := range []bool{false, true} {
			f := train(t, proto, v6, payload, 100)
			if f.packets() != 11 || f.size(10) != f.head-ipStart+1 {
				t.Fatalf("%d packets, the last of %d bytes", f.packets(), f.size(10))
			}
			for _, step := range []int{1, 3, 11} {
				var got []byte
				for from := 0; from < 11; from += step {
					c := f.cut(from, min(11, from+step))
					again, ok := parse(append([]byte(nil), c.b...))
					if !ok || again.packets() != min(step, 11-from) {
						t.Fatalf("protocol %d: packets %d and on parse as %d", proto, from, again.packets())
					}
					if !checksumsHold(c) {
						t.Errorf("protocol %d, IPv6 %v: wrong checksum from packet %d", proto, v6, from)
					}
					if proto == TCP {
						checkTCP(t, c, uint32(len(got)), from == 0, from+step >= 11)
					}
					got = append(got, c.b[c.head:]...)
				}
				if !bytes.Equal(got, payload) {
					t.Errorf("protocol %d: cut by %d, the payload changed", proto, step)
				}
			}
		}
	}
}

func checkTCP(t *testing.T, c *frame, offset uint32, first, last bool) {
	t.Helper()
	tcp := c.b[c.l4:]
	if got := binary.BigEndian.Uint32(tcp[4:]); got != 0xfffffff0+offset {
		t.Errorf("sequence number %#x, want %#x", got, 0xfffffff0+offset)
	}
	if got := tcp[13]&(tcpFIN|tcpPSH) != 0; got != last {
		t.Errorf("at offset %d FIN and PSH are %v", offset, got)
	}
	if got := tcp[13]&tcpCWR != 0; got != first {
		t.Errorf("at offset %d CWR is %v", offset, got)
	}
}

func TestTranslationKeepsChecksums(t *testing.T) {
	for _, proto := range []Protocol{TCP, UDP} {
		for _, payload := range []string{"", "odd", "even"} {
			f := train(t, proto, false, []byte(payload), 0)
			f.setSource(netip.MustParseAddrPort("10.0.1.10:4242"))
			f.setDestination(netip.MustParseAddrPort("10.0.2.20:4343"))
			again, ok := parse(f.b)
			if !ok || again.src != f.src || again.dst != f.dst || !checksumsHold(f) {
				t.Errorf("protocol %d, %q: %v to %v", proto, payload, again.src, again.dst)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	t := new(testing.T)
	for _, proto := range []Protocol{TCP, UDP} {
		f.Add(train(t, proto, false, []byte("payload of a train"), 4).b, 1, 3)
		f.Add(train(t, proto, true, []byte("payload of a train"), 4).b, 0, 2)
	}
	f.Fuzz(func(t *testing.T, b []byte, from, to int) {
		g, ok := parse(append([]byte(nil), b...))
		if !ok {
			return
		}
		n := g.packets()
		if n < 1 || len(g.b) > len(b) {
			t.Fatalf("%d packets of %d bytes", n, len(g.b))
		}
		total := 0
		for i := range n {
			total += g.size(i) - (g.head - ipStart)
		}
		if g.gso > 0 && total != len(g.b)-g.head {
			t.Fatalf("packets carry %d bytes of %d", total, len(g.b)-g.head)
		}
		if 0 <= from && from < to && to <= n {
			if c := g.cut(from, to); c.packets() != to-from {
				t.Fatalf("cut %d to %d has %d packets", from, to, c.packets())
			}
		}
	})
}
