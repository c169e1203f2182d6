package path

import (
	"encoding/binary"
	"net/netip"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Frame types of paths; see the package comment. All have the bit that lets
// somebody who does not know them skip them.
const (
	Challenge      = 0x90
	Response       = 0x91
	Candidates     = 0x92
	CandidatesSeen = 0x93
)

// Sizes in bytes, from the package comment.
const (
	tokenSize     = 8
	addrPortSize  = 16 + 2
	responseSize  = tokenSize + addrPortSize
	sequenceSize  = 4
	candidateSize = 1 + addrPortSize
)

// MaxCandidates is the length of the longest list; protocol 2.7, Roaming. What is
// probed grows with it, and a host has seldom more than six.
const MaxCandidates = 16

var errFrame = refusal.New(refusal.ProtocolError, "malformed path frame")

// response is the body of a Response frame.
type response struct {
	token    uint64
	observed netip.AddrPort // zero through a relay
}

func appendChallenge(token uint64) []byte { return binary.BigEndian.AppendUint64(nil, token) }

func parseChallenge(b []byte) (token uint64, err error) {
	if len(b) != tokenSize {
		return 0, errFrame
	}
	return binary.BigEndian.Uint64(b), nil
}

func (r response) append() []byte {
	return appendAddrPort(binary.BigEndian.AppendUint64(make([]byte, 0, responseSize), r.token), r.observed)
}

func parseResponse(b []byte) (r response, err error) {
	if len(b) != responseSize {
		return r, errFrame
	}
	return response{token: binary.BigEndian.Uint64(b), observed: parseAddrPort(b[tokenSize:])}, nil
}

// list is the body of a Candidates frame.
type list struct {
	sequence   uint32
	candidates []Candidate
}

func (l list) append() []byte {
	b := make([]byte, 0, sequenceSize+1+len(l.candidates)*candidateSize)
	b = binary.BigEndian.AppendUint32(b, l.sequence)
	b = append(b, byte(len(l.candidates)))
	for _, c := range l.candidates {
		b = appendAddrPort(append(b, byte(c.Kind)), c.Addr)
	}
	return b
}

// parseList refuses what no honest peer writes. Which of the addresses may be
// probed is another question: see Manager.allowed.
func parseList(b []byte) (l list, err error) {
	if len(b) < sequenceSize+1 {
		return l, errFrame
	}
	n := int(b[sequenceSize])
	l.sequence = binary.BigEndian.Uint32(b)
	b = b[sequenceSize+1:]
	if n > MaxCandidates || len(b) != n*candidateSize || l.sequence == 0 {
		return list{}, errFrame
	}
	for ; len(b) > 0; b = b[candidateSize:] {
		kind := Kind(b[0])
		if kind < Host || kind > Configured {
			return list{}, errFrame
		}
		l.candidates = append(l.candidates, Candidate{Kind: kind, Addr: parseAddrPort(b[1:candidateSize])})
	}
	return l, nil
}

func appendSeen(sequence uint32) []byte { return binary.BigEndian.AppendUint32(nil, sequence) }

func parseSeen(b []byte) (sequence uint32, err error) {
	if len(b) != sequenceSize {
		return 0, errFrame
	}
	return binary.BigEndian.Uint32(b), nil
}

// appendAddrPort writes the zero AddrPort as zeros.
func appendAddrPort(b []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return append(b, make([]byte, addrPortSize)...)
	}
	raw := a.Addr().As16()
	return binary.BigEndian.AppendUint16(append(b, raw[:]...), a.Port())
}

func parseAddrPort(b []byte) netip.AddrPort {
	addr := netip.AddrFrom16([16]byte(b[:16])).Unmap()
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[16:addrPortSize]))
}
