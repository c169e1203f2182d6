package link

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"slices"
	"sync"

	"github.com/pion/turn/v2"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// identity is who we are to the relay: the newest credential that it took.
//
// pion's client cannot change its user. So what it has signed is signed anew on
// its way out, with the newest credential and the newest nonce. Allocation,
// permission and channel hang on the five-tuple, and the relay takes all
// credentials of one pair and role for one user (protocol 6.2).
type identity struct {
	mu           sync.Mutex
	realm, nonce []byte // guarded by mu; the relay's last challenge
	username     string // guarded by mu; "" before establish
	password     string // guarded by mu

	asked [recently][12]byte // guarded by mu; transactions of requests that went out last
	turns int                // guarded by mu; how many have
}

// recently is how many requests are remembered, more than are ever under way; our choice.
const recently = 64

// note remembers a request that goes out.
func (i *identity) note(transaction [12]byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked[i.turns%recently] = transaction
	i.turns++
}

// learn takes the challenge out of an answer of the relay, if it has one. It has to answer
// something that was asked: whoever can send in the relay's name and read nothing would
// else give us one wrong nonce after the other, and no request would ever be granted.
func (i *identity) learn(frame []byte) {
	realm, ok := guard.Find(frame, guard.AttrRealm)
	nonce, both := guard.Find(frame, guard.AttrNonce)
	if !ok || !both {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if slices.Contains(i.asked[:min(i.turns, recently)], guard.Transaction(frame)) {
		i.realm, i.nonce = bytes.Clone(realm), bytes.Clone(nonce)
	}
}

// take makes cred the one that everything is signed with.
func (i *identity) take(cred wire.Relay) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.username, i.password = cred.Username, credential.Text(cred.Password)
}

func (i *identity) newest() (username, password string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.username, i.password
}

// key is what answers to us are signed with.
func (i *identity) key() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return turn.GenerateAuthKey(i.username, string(i.realm), i.password)
}

// resign signs what pion has signed with its own credential; anything else is
// returned as it is.
func (i *identity) resign(frame []byte) []byte {
	if guard.IsChannelData(frame) {
		return frame
	}
	i.note(guard.Transaction(frame))
	username, password := i.newest()
	if username == "" {
		return frame
	}
	head, ok := guard.Before(frame, guard.AttrUsername)
	if !ok {
		return frame
	}
	signed, _ := i.sign(head, username, password)
	return signed
}

// sign appends user, challenge and integrity (RFC 8489, section 9.2) and returns
// the key, with which the answer is signed too.
func (i *identity) sign(frame []byte, username, password string) (signed, key []byte) {
	i.note(guard.Transaction(frame))
	i.mu.Lock()
	realm, nonce := i.realm, i.nonce
	i.mu.Unlock()
	frame = guard.AppendAttribute(frame, guard.AttrUsername, []byte(username))
	frame = guard.AppendAttribute(frame, guard.AttrRealm, realm)
	frame = guard.AppendAttribute(frame, guard.AttrNonce, nonce)
	key = turn.GenerateAuthKey(username, string(realm), password)
	// The length that is signed counts the integrity itself (section 14.5).
	signed = guard.AppendAttribute(frame, guard.AttrIntegrity, make([]byte, sha1.Size))
	_, mac, _ := guard.Integrity(signed)
	copy(mac, integrity(signed, key))
	return signed, key
}

// integrity computes the MAC of a message whose last attribute it is to be.
func integrity(frame, key []byte) []byte {
	m := hmac.New(sha1.New, key)
	m.Write(frame[:len(frame)-4-sha1.Size])
	return m.Sum(nil)
}

// answers reports whether a message of the relay was signed with key. Nothing
// may follow the integrity: the relay adds nothing.
func answers(frame, key []byte) bool {
	signed, mac, ok := guard.Integrity(frame)
	return ok && len(signed)+4+sha1.Size == len(frame) && hmac.Equal(mac, integrity(frame, key))
}
