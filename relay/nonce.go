package relay

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"time"
)

// Sizes in bytes and life of a nonce. pion forgets its own after an hour; ours
// must be the first to be too old, or a client would be asked for ever. Our choice.
const (
	nonceTime = 8
	nonceMAC  = 16
	nonceLife = 50 * time.Minute
)

// nonces are what the relay challenges clients with:
//
//	time (8)   Unix nanoseconds at which it was given out
//	mac (16)   HMAC-SHA256(key of this process, time, address (16), port (2)), cut
//
// in base64url, 32 characters. pion's own are not bound to an address and equal
// for everybody within a millisecond. So who records a client's Allocate could
// send it again from elsewhere, and, as the newest allocation takes over, get its
// place. A nonce of ours proves nothing from another address, and its time says
// whether a message is older than the allocation it would replace (table.go).
type nonces struct{ key []byte }

func newNonces() nonces {
	key := make([]byte, sha256.Size)
	rand.Read(key)
	return nonces{key}
}

// issue makes the nonce that one client gets now.
func (n nonces) issue(to netip.AddrPort, now time.Time) []byte {
	raw := binary.BigEndian.AppendUint64(nil, uint64(now.UnixNano()))
	return base64.RawURLEncoding.AppendEncode(nil, append(raw, n.mac(raw, to)...))
}

func (n nonces) mac(issued []byte, to netip.AddrPort) []byte {
	m := hmac.New(sha256.New, n.key)
	m.Write(issued)
	addr := to.Addr().As16()
	m.Write(addr[:])
	m.Write(binary.BigEndian.AppendUint16(nil, to.Port()))
	return m.Sum(nil)[:nonceMAC]
}

// check reports whether nonce was given to that client, and is not too old.
func (n nonces) check(nonce []byte, from netip.AddrPort, now time.Time) (issued time.Time, ok bool) {
	var raw [nonceTime + nonceMAC]byte
	if len(nonce) != base64.RawURLEncoding.EncodedLen(len(raw)) {
		return time.Time{}, false
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(raw[:], nonce); err != nil || !hmac.Equal(raw[nonceTime:], n.mac(raw[:nonceTime], from)) {
		return time.Time{}, false
	}
	issued = time.Unix(0, int64(binary.BigEndian.Uint64(raw[:])))
	return issued, now.Sub(issued) < nonceLife
}
