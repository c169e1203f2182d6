package hop

import (
	"encoding/binary"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// Limits of what one connection takes from the network before its keys protect
// it. Our choice; an honest handshake sends under 1 KiB to the server and under 2
// KiB to the client.
const (
	maxHandshake = 32 << 10 // bytes in all until the handshake is over
	maxUnproved  = 4 << 10  // bytes until the client has shown that it receives at its address
	maxMessage   = 8 << 10  // bytes of one handshake message
	maxSequence  = 15       // of handshake messages
	maxRepeats   = 4        // datagrams of the client's last flight, sent again because our answer was lost
)

// Record types (RFC 5246, section 6.2.1) and handshake types (section 7.4).
const (
	typeChange    = 20
	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23

	clientHello       = 1
	serverHello       = 2
	helloVerify       = 3
	certificate       = 11
	serverKeyExchange = 12
	serverHelloDone   = 14
	clientKeyExchange = 16

	fragmentHead = 12 // type, length (3), sequence (2), offset (3), fragment length (3)
)

// filter looks at every record before the library does. The library honours
// unprotected alerts after the handshake, so that one forged datagram ends a
// connection (probe Z4); keeps fragments without counting them (Z5); and waits a
// second before it reads on when a handshake message comes late.
type filter struct {
	server bool

	mu      sync.Mutex // guards everything below
	proved  bool       // server: the client has echoed our cookie
	done    bool       // the handshake is over on our side
	settled bool       // and on the peer's: it has sent data under the new keys
	taken   int        // bytes passed until done
	repeats int        // datagrams passed between done and settled
}

// finish ends the handshake.
func (f *filter) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = true
	f.settled = f.settled || !f.server // the last flight is the server's: a client has nothing to repeat
}

// settle is called when a record has been opened after the handshake: a client
// that sends data has our last flight.
func (f *filter) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settled = true
}

func (f *filter) prove() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.proved = true
}

// pass moves the records of one datagram that may go on to its front and returns
// them; they may be none. What stands behind a malformed record is dropped.
func (f *filter) pass(datagram []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	out, handshakes := datagram[:0], false
	for rest := datagram; len(rest) > 0; {
		n := recordLength(rest)
		if n == 0 {
			break
		}
		if f.mayPassLocked(rest[:n]) {
			handshakes = handshakes || rest[0] != typeData
			out = append(out, rest[:n]...)
		}
		rest = rest[n:]
	}
	if len(out) == 0 || !f.budgetLocked(len(out), handshakes) {
		return nil
	}
	return out
}

func (f *filter) budgetLocked(n int, handshakes bool) bool {
	if f.done {
		if handshakes && !f.settled {
			f.repeats++
			return f.repeats <= maxRepeats
		}
		return true
	}
	limit := maxHandshake
	if f.server && !f.proved {
		limit = maxUnproved
	}
	if f.taken+n > limit {
		return false
	}
	f.taken += n
	return true
}

func (f *filter) mayPassLocked(record []byte) bool {
	body := record[recordHead:]
	switch epoch := binary.BigEndian.Uint16(record[recordEpoch:]); {
	case epoch == 1 && len(body) > chacha20poly1305.Overhead:
		// Sealed: what does not open is dropped later.
		return record[0] == typeData || record[0] == typeAlert || record[0] == typeHandshake && !f.settled
	case epoch != 0 || f.settled:
		return false
	case record[0] == typeChange:
		return len(body) == 1 && body[0] == 1
	case record[0] == typeAlert:
		return len(body) == 2 && !f.done
	case record[0] == typeHandshake:
		return f.fragments(body)
	}
	return false // data in the clear
}

// fragments reports whether a record holds fragments of messages that the other
// side may send in the clear, and nothing else.
func (f *filter) fragments(b []byte) bool {
	for len(b) > 0 {
		n := fragmentLength(b)
		if n == 0 || !f.expects(b[0]) {
			return false
		}
		b = b[n:]
	}
	return true
}

func (f *filter) expects(message byte) bool {
	if f.server {
		return message == clientHello || message == clientKeyExchange
	}
	switch message {
	case serverHello, helloVerify, certificate, serverKeyExchange, serverHelloDone:
		return true
	}
	return false
}

// fragmentLength returns the length of the fragment that b begins with, head
// included, or 0 if none may begin so. An empty fragment of a message that is not
// empty makes no progress, and the library keeps it (probe Z5).
func fragmentLength(b []byte) int {
	if len(b) < fragmentHead {
		return 0
	}
	message, offset, n := uint24(b[1:]), uint24(b[6:]), uint24(b[9:])
	sequence := binary.BigEndian.Uint16(b[4:])
	if message > maxMessage || sequence > maxSequence || offset+n > message || n == 0 && message > 0 || fragmentHead+n > len(b) {
		return 0
	}
	return fragmentHead + n
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// recordLength returns the length of the record that b begins with, head included,
// or 0 if none may begin so.
func recordLength(b []byte) int {
	if len(b) <= recordHead || b[0] < typeChange || b[0] > typeData || b[1] != 0xfe || b[2] != 0xff && b[2] != 0xfd {
		return 0
	}
	n := recordHead + int(binary.BigEndian.Uint16(b[recordSize:]))
	if n == recordHead || n > len(b) {
		return 0
	}
	return n
}

// opensConversation reports whether a stranger's datagram may begin a handshake:
// its first record is a whole ClientHello, the first message of all.
func opensConversation(b []byte) bool {
	n := recordLength(b)
	if n == 0 || b[0] != typeHandshake || binary.BigEndian.Uint16(b[recordEpoch:]) != 0 {
		return false
	}
	body := b[recordHead:n]
	return fragmentLength(body) == len(body) && body[0] == clientHello &&
		binary.BigEndian.Uint16(body[4:]) == 0 && uint24(body[9:]) == uint24(body[1:])
}

// answersCookie reports whether a datagram of ours begins with a ServerHello: the
// library sends none before the client has echoed its cookie.
func answersCookie(b []byte) bool {
	n := recordLength(b)
	return n > recordHead && b[0] == typeHandshake && binary.BigEndian.Uint16(b[recordEpoch:]) == 0 && b[recordHead] == serverHello
}

func (f *filter) isProved() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.proved
}
