package probe

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

func message(t guard.Type) []byte {
	var id [12]byte
	rand.Read(id[:])
	return guard.NewMessage(t, id)
}

func allocateRequest() []byte {
	const udpProtocol = 17 // IANA protocol number
	return guard.AppendAttribute(message(guard.AllocateRequest), guard.AttrRequestedTransport, []byte{udpProtocol, 0, 0, 0})
}

// leave gives the place back. If that is lost, the place ends with the credential.
func (s *speaker) leave(cred wire.Relay) {
	request := guard.AppendAttribute(message(guard.RefreshRequest), guard.AttrLifetime, binary.BigEndian.AppendUint32(nil, 0))
	request, _ = s.sign(request, cred)
	_ = s.send(request)
}

// learn takes the challenge out of an answer, if it has one.
func (s *speaker) learn(frame []byte) {
	realm, ok := guard.Find(frame, guard.AttrRealm)
	nonce, both := guard.Find(frame, guard.AttrNonce)
	if ok && both {
		s.realm, s.nonce = bytes.Clone(realm), bytes.Clone(nonce)
	}
}

// sign appends user, challenge and integrity (RFC 8489, section 9.2) and returns
// the key, with which the answer is signed too. MD5 and SHA-1 are the RFC's; the
// password is random and 256 bits long (protocol 6.2).
func (s *speaker) sign(frame []byte, cred wire.Relay) (signed, key []byte) {
	frame = guard.AppendAttribute(frame, guard.AttrUsername, []byte(cred.Username))
	frame = guard.AppendAttribute(frame, guard.AttrRealm, s.realm)
	frame = guard.AppendAttribute(frame, guard.AttrNonce, s.nonce)
	sum := md5.Sum([]byte(cred.Username + ":" + string(s.realm) + ":" + credential.Text(cred.Password)))
	// The length that is signed counts the integrity itself (section 14.5).
	signed = guard.AppendAttribute(frame, guard.AttrIntegrity, make([]byte, sha1.Size))
	_, mac, _ := guard.Integrity(signed)
	copy(mac, integrity(signed, sum[:]))
	return signed, sum[:]
}

// integrity computes the MAC of a message whose last attribute it is to be.
func integrity(frame, key []byte) []byte {
	m := hmac.New(sha1.New, key)
	m.Write(frame[:len(frame)-4-sha1.Size])
	return m.Sum(nil)
}

// signedBy reports whether a message of the relay was signed with key. Nothing may
// follow the integrity: the relay adds nothing.
func signedBy(frame, key []byte) bool {
	signed, mac, ok := guard.Integrity(frame)
	return ok && len(signed)+4+sha1.Size == len(frame) && hmac.Equal(mac, integrity(frame, key))
}

// errorCode of an answer, 0 if it names none.
func errorCode(frame []byte) int {
	v, ok := guard.Find(frame, guard.AttrErrorCode)
	if !ok {
		return 0
	}
	return int(v[2]&7)*100 + int(v[3])
}

// mapped reads where the relay saw a request come from (RFC 8489, section 14.2);
// zero if it does not say.
func mapped(frame []byte) netip.AddrPort {
	v, ok := guard.Find(frame, guard.AttrMappedAddress)
	if !ok || len(v) != 8 && len(v) != 20 {
		return netip.AddrPort{}
	}
	ip := slices.Clone(v[4:])
	for i := range ip {
		ip[i] ^= frame[4+i] // magic cookie, then the transaction's number
	}
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(v[2:])^binary.BigEndian.Uint16(frame[4:]))
}
