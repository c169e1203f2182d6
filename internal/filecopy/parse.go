package filecopy

import "github.com/tucdesk/tucdesk/internal/refusal"

var errMessage = refusal.New(refusal.ProtocolError, "malformed message of a copy")

// parse reads the body of a message. Slices are parts of body.
func parse(k kind, body []byte) (Message, error) {
	p := parser{b: body}
	var m Message
	switch k {
	case kindGet, kindPut, kindReady, kindRefused:
		m = p.opening(k)
	case kindWant, kindDecline, kindFinished:
		m = p.answer(k)
	case kindProblem:
		m = Problem{Name: p.text(MaxName), Code: p.code(), Text: p.text(MaxText)}
	default:
		m = p.sent(k)
	}
	if p.bad || len(p.b) > 0 || m == nil {
		return nil, errMessage
	}
	return m, nil
}

func (p *parser) opening(k kind) Message {
	switch k {
	case kindGet:
		m := Get{Flags: p.flags()}
		n := p.u16()
		p.bad = p.bad || n == 0 || n > MaxPaths
		for i := 0; i < int(n) && !p.bad; i++ {
			m.Paths = append(m.Paths, p.text(MaxName))
		}
		return m
	case kindPut:
		return Put{Flags: p.flags(), Path: p.text(MaxName)}
	case kindRefused:
		return Refused{Code: p.code(), Text: p.text(MaxText)}
	}
	return Ready{}
}

func (p *parser) sent(k kind) Message {
	switch k {
	case kindFolder:
		return Folder{Mode: p.mode(), Time: int64(p.u64()), Name: p.text(MaxName)}
	case kindLink:
		return Link{Name: p.text(MaxName), Target: p.text(MaxName)}
	case kindSmall:
		return Small{Mode: p.mode(), Time: int64(p.u64()), Hash: p.hash(), Name: p.text(MaxName), Data: p.rest(0, MaxData)}
	case kindOffer:
		m := Offer{ID: p.u32(), Flags: OfferFlags(p.u8()), Mode: p.mode(), Time: int64(p.u64()), Size: p.u64(), Allocated: p.u64(), Name: p.text(MaxName)}
		p.bad = p.bad || m.Flags&^allOfferFlags != 0 || m.Size > MaxSize || m.Flags&Unsized != 0 && m.Size != 0
		return m
	case kindBegin:
		return Begin{ID: p.u32()}
	case kindData:
		return Data{Offset: p.u64(), Bytes: p.rest(1, MaxData)}
	case kindZeros:
		return Zeros{Offset: p.u64(), Length: p.u64()}
	case kindKeep:
		return Keep{First: p.u32(), Count: p.u32()}
	case kindClose:
		return Close{Size: p.u64(), Digest: p.hash()}
	case kindAbandon:
		return Abandon{}
	case kindTotal:
		return Total{Files: p.u64(), Bytes: p.u64()}
	case kindEnd:
		return End{}
	}
	return nil
}

func (p *parser) answer(k kind) Message {
	switch k {
	case kindWant:
		m := Want{ID: p.u32(), More: p.bool(), Hashes: p.rest(0, MaxHashes*HashSize)}
		p.bad = p.bad || len(m.Hashes)%HashSize != 0
		return m
	case kindDecline:
		return Decline{ID: p.u32()}
	}
	return Finished{Files: p.u64(), Folders: p.u64(), Bytes: p.u64(), Kept: p.u64()}
}

// parser takes fields off the front of b; after the first that is not there it is
// bad and gives zeros.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) take(n int) []byte {
	if p.bad || n > len(p.b) {
		p.bad = true
		return nil
	}
	part := p.b[:n]
	p.b = p.b[n:]
	return part
}

func (p *parser) u8() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (p *parser) u16() uint16 {
	if b := p.take(2); b != nil {
		return be.Uint16(b)
	}
	return 0
}

func (p *parser) u32() uint32 {
	if b := p.take(4); b != nil {
		return be.Uint32(b)
	}
	return 0
}

func (p *parser) u64() uint64 {
	if b := p.take(8); b != nil {
		return be.Uint64(b)
	}
	return 0
}

func (p *parser) bool() bool {
	v := p.u8()
	p.bad = p.bad || v > 1
	return v == 1
}

func (p *parser) hash() (h [HashSize]byte) {
	copy(h[:], p.take(HashSize))
	return h
}

func (p *parser) text(limit int) string {
	n := int(p.u16())
	p.bad = p.bad || n > limit
	return string(p.take(n))
}

func (p *parser) rest(least, most int) []byte {
	p.bad = p.bad || len(p.b) < least || len(p.b) > most
	return p.take(len(p.b))
}

func (p *parser) flags() Flags {
	f := Flags(p.u32())
	p.bad = p.bad || f&^allFlags != 0
	return f
}

func (p *parser) mode() uint32 {
	m := p.u32()
	p.bad = p.bad || m > 0o7777
	return m
}

func (p *parser) code() refusal.Code {
	c := refusal.Code(p.text(refusal.MaxCode))
	p.bad = p.bad || c == "" || !c.Valid()
	return c
}
