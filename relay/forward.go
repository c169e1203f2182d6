package relay

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// allocate makes the allocation of a proved request and pairs it.
func (s *Server) allocate(f *front, req request) (net.PacketConn, net.Addr, error) {
	now := time.Now()
	a := &allocation{user: s.userOf(req.name, req.from), from: req.from, stream: f.stream, front: f, issued: req.issued}
	a.lapses.Store(now.Add(granted(req.frame)).UnixNano())
	a.relayed = newRelayed(s, a)
	var conn net.PacketConn = a.relayed
	var addr net.Addr = a.relayed.addr
	if s.cfg.Lab != nil {
		lab, err := openLab(s, a.relayed)
		if err != nil {
			return nil, nil, err
		}
		conn, addr = lab, lab.LocalAddr()
	}
	old, err := s.table.add(a, req.name.Expires, req.issued, now)
	if err != nil {
		conn.Close()
		s.metrics.count(eventOf(err))
		s.cfg.Logger.Debug("allocation refused", "from", req.from.String(), "reason", err.Error())
		return nil, nil, err
	}
	if f.stream != nil {
		f.stream.alloc.Store(a)
	}
	if old != nil {
		s.metrics.count(evTakenOver)
		if old.stream != nil {
			old.stream.close() // which ends it when its front is done
		} else {
			old.front.release(old)
		}
	}
	s.metrics.count(evAllocated)
	s.cfg.Logger.Debug("allocated", "from", req.from.String(), "role", string(rune(a.user.role)), "stream", f.stream != nil, "instead", old != nil)
	return conn, addr, nil
}

func (s *Server) userOf(n credential.Name, from netip.AddrPort) user {
	u := user{pair: n.Pair, role: n.Role}
	if s.cfg.Lab != nil {
		u.from = from
	}
	return u
}

func eventOf(err error) event {
	for _, e := range []struct {
		err error
		ev  event
	}{
		{errReplayed, evReplayed}, {errTakeOvers, evTakeOvers},
		{errQuotaTotal, evQuotaTotal}, {errQuotaSource, evQuotaSource},
	} {
		if errors.Is(err, e.err) {
			return e.ev
		}
	}
	return evMismatch
}

// permit is pion's question whether a client may send to a peer. In paired mode
// there is one peer, and only in its plain IPv4 form: an address that embeds
// another one is a way around every list (attack M2).
func (s *Server) permit(_ net.Addr, peer net.IP) bool {
	addr, ok := netip.AddrFromSlice(peer)
	if !ok {
		return false
	}
	if s.cfg.Lab != nil {
		return s.cfg.Lab.allows(addr)
	}
	return addr == guard.PeerAddr().Addr()
}

// forward takes ChannelData frames of one allocation to its peer: run holds
// frames of size bytes, the last one shorter, or with size 0 a single frame. The
// caller has checked every one of them. It blocks on nothing.
func (s *Server) forward(a *allocation, run []byte, size int, out *udp.Coalescer, now time.Time) {
	frames := 1
	if size > 0 {
		frames = (len(run) + size - 1) / size
	}
	payload := len(run) - frames*guard.ChannelHeaderSize
	if !s.admits(a, payload, frames, now) {
		return
	}
	p := a.peer.Load()
	if p == nil {
		s.metrics.countN(evNoPeer, frames)
		return
	}
	a.active.Store(now.UnixNano())
	p.active.Store(now.UnixNano())
	s.metrics.frames.Add(uint64(frames))
	s.metrics.bytes.Add(uint64(payload))
	switch {
	case !p.isBound(now):
		for frame := range udp.Segments(run, size) {
			if _, data, err := guard.ParseChannelData(frame); err == nil {
				p.relayed.push(data)
			}
		}
	case p.stream != nil:
		for frame := range udp.Segments(run, size) {
			p.stream.send(frame)
		}
	case frames == 1:
		out.Add(run, p.from)
	default:
		out.AddSegments(run, size, p.from)
	}
}

// admits books payload bytes of some frames against the limits of a's user.
func (s *Server) admits(a *allocation, payload, frames int, now time.Time) bool {
	if q := s.cfg.Limits.BytesPerAllocation; q > 0 && a.sent.Add(uint64(payload)) > q {
		s.metrics.countN(evByteQuota, frames)
		return false
	}
	if r := s.cfg.Limits.BytesPerSecond; r > 0 && !a.rate.take(payload, r, now) {
		s.metrics.countN(evByteRate, frames)
		return false
	}
	return true
}

// deliver takes one payload that came as a Send indication to the peer of a. It
// runs on pion's goroutines.
func (s *Server) deliver(a *allocation, payload []byte) {
	now := time.Now()
	if !s.admits(a, len(payload), 1, now) {
		return
	}
	p := a.peer.Load()
	if p == nil {
		s.metrics.count(evNoPeer)
		return
	}
	a.active.Store(now.UnixNano())
	p.active.Store(now.UnixNano())
	s.metrics.frames.Add(1)
	s.metrics.bytes.Add(uint64(len(payload)))
	if !p.isBound(now) {
		p.relayed.push(payload)
		return
	}
	frame := make([]byte, guard.ChannelHeaderSize, guard.PaddedSize(len(payload)))
	guard.PutChannelHeader(frame, guard.Channel, len(payload))
	frame = append(frame, payload...)
	if p.stream != nil {
		p.stream.send(frame)
	} else if s.sock.WriteTo(frame, p.from) != nil {
		s.metrics.count(evSendFailed)
	}
}

// control judges a frame that is not forwarded and returns what pion may see of
// it, or nil. The rate is taken before anything is parsed.
func (s *Server) control(frame []byte, from netip.AddrPort, a *allocation, now time.Time) []byte {
	if a != nil && !s.sources.takeOf(a, now) || a == nil && !s.sources.take(from.Addr(), len(frame), now) {
		s.metrics.count(evRateLimited)
		return nil
	}
	err := guard.Server.Check(frame)
	if err == nil && s.cfg.Lab == nil {
		err = guard.Paired(frame)
	}
	if err != nil {
		if r, ok := err.(guard.Reason); ok {
			s.drops.Count(r)
		}
		return nil
	}
	if a != nil && !belongsTo(frame, a) {
		s.metrics.count(evForeignUser)
		return nil
	}
	return append([]byte(nil), frame...)
}

// belongsTo: pion ties later requests to the 5-tuple only, so whoever holds a
// credential of his own and can forge a source address could delete or widen
// another's allocation. Requests without a user name get pion's challenge.
func belongsTo(frame []byte, a *allocation) bool {
	if guard.IsChannelData(frame) {
		return true
	}
	name, ok := guard.Find(frame, guard.AttrUsername)
	return !ok || sameUser(string(name), a)
}
