package portmap

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// PCP (RFC 6887), as much of it as one mapping of UDP over IPv4 needs. All numbers
// are big-endian, addresses 16 bytes, those of version 4 as ::ffff:a.b.c.d.
//
//	request   version 2 · opcode · 0 (2) · lifetime in seconds (4) · our address (16)
//	answer    version 2 · 128+opcode · 0 · result · lifetime (4) · epoch (4) · 0 (12)
//	MAP, both nonce (12) · protocol · 0 (3) · inner port (2) · outer port (2) · outer address (16)
//
// Options may follow; we send none and need none that is sent. A router that knows
// only NAT-PMP answers with version 0, from the same port.
const (
	pcpPort     = 5351
	pcpVersion  = 2
	pcpAnnounce = 0
	pcpMap      = 1
	pcpAnswer   = 128
	pcpHead     = 24
	pcpMapSize  = pcpHead + 36
	pcpMost     = 1100 // bytes of a datagram, RFC 6887, section 7
	protocolUDP = 17
)

// A question is asked pcpTries times, with pcpPause for each answer; our choice: a
// router that is there answers within a few milliseconds, and the next protocol waits.
const (
	pcpTries = 3
	pcpPause = 100 * time.Millisecond
)

var (
	errOldRouter = errors.New("the router does not speak version 2")
	errNotAnswer = errors.New("no answer to what was asked")
)

// pcp is what has to be known from one question to the next. The zero value has not
// asked yet.
type pcp struct {
	nonce [12]byte // of the mapping; whoever knows it can change that
	epoch epoch
}

// reply is an answer, as far as it is one to our question.
type reply struct {
	result   byte
	life     time.Duration
	epoch    uint32 // seconds for which the router has remembered its mappings
	nonce    [12]byte
	protocol byte
	inner    uint16
	external netip.AddrPort
}

// ask is the protocol.
func (p *pcp) ask(ctx context.Context, g Gateway, port, wish uint16) (mapping, error) {
	if wish == 0 {
		rand.Read(p.nonce[:])
		p.epoch, wish = epoch{}, port
	}
	first := p.epoch == epoch{}
	r, err := p.exchange(ctx, g, pcpMap, p.mapRequest(g, port, wish, lease))
	if err == nil {
		_ = p.epoch.follows(r.epoch, time.Now()) // what the router has forgotten is there again with this answer
		err = r.refusal()
	}
	if err != nil {
		if first && !errors.Is(err, errOldRouter) {
			_ = p.forget(ctx, g, port) // the answer may have been lost, and the mapping made
		}
		return mapping{}, fmt.Errorf("asking %v by PCP: %w", g.Addr, err)
	}
	return mapping{
		external: r.external, life: r.life,
		release: func(ctx context.Context) error { return p.forget(ctx, g, port) },
		stands:  func(ctx context.Context) bool { return p.stands(ctx, g) },
	}, nil
}

// mapRequest asks for a mapping that lives that long; 0 ends it.
func (p *pcp) mapRequest(g Gateway, port, wish uint16, life time.Duration) []byte {
	b := pcpRequest(g, pcpMap, life)
	b = append(b, p.nonce[:]...)
	b = append(b, protocolUDP, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, wish)
	none := netip.IPv4Unspecified().As16()
	return append(b, none[:]...)
}

func pcpRequest(g Gateway, opcode byte, life time.Duration) []byte {
	b := []byte{pcpVersion, opcode, 0, 0}
	b = binary.BigEndian.AppendUint32(b, uint32(life/time.Second))
	us := g.Source.As16()
	return append(b, us[:]...)
}

// refusal says why there is no mapping.
func (r reply) refusal() error {
	switch {
	case r.result != 0:
		return fmt.Errorf("the router refuses, result %d", r.result)
	case r.life == 0:
		return errNotAnswer
	}
	return nil
}

// forget gives the mapping back. Nobody waits for the answer: what is lost ends by
// itself.
func (p *pcp) forget(ctx context.Context, g Gateway, port uint16) error {
	c, err := dialRouter(ctx, g)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write(p.mapRequest(g, port, 0, 0))
	return err
}

// stands asks whether the router still remembers what it has agreed to: one that was
// switched off and on forwards nothing until it is asked again. No answer means
// nothing.
func (p *pcp) stands(ctx context.Context, g Gateway) bool {
	r, err := p.exchange(ctx, g, pcpAnnounce, pcpRequest(g, pcpAnnounce, 0))
	return err != nil || r.result != 0 || p.epoch.follows(r.epoch, time.Now())
}

// exchange sends a question until its answer is here.
func (p *pcp) exchange(ctx context.Context, g Gateway, opcode byte, question []byte) (reply, error) {
	c, err := dialRouter(ctx, g)
	if err != nil {
		return reply{}, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	for range pcpTries {
		_ = c.SetReadDeadline(time.Now().Add(pcpPause))
		if ctx.Err() != nil {
			return reply{}, ctx.Err()
		}
		if _, err := c.Write(question); err != nil {
			return reply{}, err
		}
		r, err := p.await(c, opcode, question)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return r, err
		}
	}
	return reply{}, errors.New("no answer")
}

// await reads until the answer comes. What is none is skipped: only with the nonce,
// which this network's others have not seen, can somebody answer about the mapping.
func (p *pcp) await(c *net.UDPConn, opcode byte, question []byte) (reply, error) {
	b := make([]byte, pcpMost+1)
	for {
		n, err := c.Read(b)
		if err != nil {
			return reply{}, err
		}
		r, err := parsePCP(b[:n], opcode)
		if err == nil && opcode == pcpMap && !r.belongs(question) {
			err = errNotAnswer
		}
		if !errors.Is(err, errNotAnswer) {
			return r, err
		}
	}
}

// belongs compares nonce, protocol and inner port with the request's.
func (r reply) belongs(question []byte) bool {
	q := question[pcpHead:]
	return bytes.Equal(r.nonce[:], q[:12]) && r.protocol == q[12] && r.inner == binary.BigEndian.Uint16(q[16:])
}

// parsePCP reads an answer to a question of that opcode: errNotAnswer is something
// else, errOldRouter says that there is no sense in asking again.
func parsePCP(b []byte, opcode byte) (r reply, err error) {
	switch {
	case len(b) >= 4 && b[0] < pcpVersion && b[1]&pcpAnswer != 0:
		return r, errOldRouter
	case len(b) < pcpHead || len(b) > pcpMost || len(b)%4 != 0 || b[0] != pcpVersion || b[1] != pcpAnswer|opcode:
		return r, errNotAnswer
	}
	r.result, r.life = b[3], time.Duration(binary.BigEndian.Uint32(b[4:]))*time.Second
	if r.epoch = binary.BigEndian.Uint32(b[8:]); opcode != pcpMap {
		return r, nil
	}
	if len(b) < pcpMapSize {
		return r, errNotAnswer
	}
	b = b[pcpHead:]
	r.nonce, r.protocol, r.inner = [12]byte(b[:12]), b[12], binary.BigEndian.Uint16(b[16:])
	r.external = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[20:36])).Unmap(), binary.BigEndian.Uint16(b[18:]))
	return r, nil
}

// dialRouter returns a socket that takes datagrams of the router's port alone, from
// the address that the mapping is to be for.
func dialRouter(ctx context.Context, g Gateway) (*net.UDPConn, error) {
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.Source, 0))}
	c, err := d.DialContext(ctx, "udp4", netip.AddrPortFrom(g.Addr, pcpPort).String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// epoch is when the router last told its own time.
type epoch struct {
	seconds uint32
	at      time.Time // by our clock; zero when it has not
}

// follows reports whether a router that says so now has remembered its mappings since
// the last time, by RFC 6887, section 8.5: its clock and ours must have gone equally
// far, give or take a sixteenth and two seconds.
func (e *epoch) follows(seconds uint32, now time.Time) bool {
	last := *e
	e.seconds, e.at = seconds, now
	if last.at.IsZero() {
		return true
	}
	ours, theirs := int64(now.Sub(last.at)/time.Second), int64(seconds)-int64(last.seconds)
	return theirs >= -1 && ours+2 >= theirs-theirs/16 && theirs+2 >= ours-ours/16
}
