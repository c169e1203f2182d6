// Package pair is the connection between the supervisor and one session process,
// and how such a process is started.
//
// One socket pair, descriptor 3 of the child (on Windows two pipes, its standard
// input and output). The supervisor takes the child for hostile: it may be run by the
// bytes of an operator. Frames, integers big-endian:
//
//	0  1  type
//	1  4  length of the body
//	5  n  body
//
//	type  name       direction   limit    body
//	1     job        to child    256 KiB  JSON: what to do, relay credentials, proxies
//	2     keys       to child    8 KiB    length (2) and export of the keys, then JSON: what READY says
//	3     rejected   to child    0        that CONFIRM was not good; keep waiting
//	4     end        to child    64       refusal code: end the session
//	5     relay      to child    16 KiB   JSON: the next relay credential
//	6     answer     to child    1024 KiB JSON: whether what was asked for may be
//	16    confirm    to parent   512      a CONFIRM datagram
//	17    started    to parent   4 KiB    JSON: the program that was started
//	18    exited     to parent   4 KiB    JSON: how it ended, byte counts
//	19    closed     to parent   256      JSON: why the session ended
//	20    forged     to parent   64       JSON: how many datagrams did not open
//	21    ask        to parent   4 KiB    JSON: may this be read, written, reached, listened at?
//	22    way        to parent   16       the kind of way by which a relay was reached in this network
//
// The child allocates on the relay while the operator's ACCEPT is still on its
// way, and knows no key until the supervisor has checked CONFIRM. The supervisor
// asks the rendezvous for the next relay credential in time, as only it has the
// control channel (protocol 6.2). When the pair closes, for whatever reason, the
// child ends its program and itself.
//
// Source: design 4.1; attacks H2, H6.
package pair

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// FrameType names a frame between supervisor and session process; see the
// package comment.
type FrameType byte

// The frames; see the package comment.
const (
	FrameJob      FrameType = 1
	FrameKeys     FrameType = 2
	FrameRejected FrameType = 3
	FrameEnd      FrameType = 4
	FrameRelay    FrameType = 5
	FrameAnswer   FrameType = 6
	FrameConfirm  FrameType = 16
	FrameStarted  FrameType = 17
	FrameExited   FrameType = 18
	FrameClosed   FrameType = 19
	FrameForged   FrameType = 20
	FrameAsk      FrameType = 21
	FrameWay      FrameType = 22
)

const frameHead = 5

// limit returns the longest body, in bytes, or -1 for a type that does not exist.
func (t FrameType) limit() int {
	switch t {
	case FrameJob:
		return 256 << 10 // a session request has 64 KiB, its encoding here a little more
	case FrameKeys:
		return 8 << 10
	case FrameRejected:
		return 0
	case FrameEnd, FrameForged:
		return 64
	case FrameConfirm:
		return 512
	case FrameRelay:
		return 16 << 10 // every relay of a grant with the longest names
	case FrameAnswer:
		return 1 << 20 // folders and sockets, policy.MaxRootBytes of each, a byte as the six that JSON may need
	case FrameStarted, FrameExited, FrameAsk:
		return 4 << 10
	case FrameClosed:
		return 256
	case FrameWay:
		return 16
	}
	return -1
}

// toParent reports whether the child may send t.
func (t FrameType) toParent() bool { return t >= FrameConfirm }

// Frame is one message.
type Frame struct {
	Type FrameType
	Body []byte
}

// Conn is one end of the connection between supervisor and session process. One
// goroutine receives; any may send.
type Conn struct {
	rw     io.ReadWriteCloser
	parent bool // this is the supervisor's end

	mu sync.Mutex // serialises writes
}

// Supervisor is the supervisor's end on rw, which Close closes.
func Supervisor(rw io.ReadWriteCloser) *Conn { return &Conn{rw: rw, parent: true} }

// Worker is the session process' end on rw, which Close closes.
func Worker(rw io.ReadWriteCloser) *Conn { return &Conn{rw: rw} }

// sendLimit is how long the other side may leave its buffer full; our choice.
const sendLimit = 5 * time.Second

// Send writes one frame. A child that does not read cannot hold its supervisor up.
func (p *Conn) Send(t FrameType, body []byte) error {
	if len(body) > t.limit() || t.toParent() == p.parent {
		return fmt.Errorf("sending frame %d of %d bytes: not allowed", t, len(body))
	}
	b := make([]byte, 0, frameHead+len(body))
	b = append(b, byte(t))
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, body...)
	defer clear(b) // it may have been keys
	p.mu.Lock()
	defer p.mu.Unlock()
	if d, ok := p.rw.(interface{ SetWriteDeadline(time.Time) error }); ok && p.parent {
		_ = d.SetWriteDeadline(time.Now().Add(sendLimit)) // without one the write still ends with the pair
	}
	if _, err := p.rw.Write(b); err != nil {
		return fmt.Errorf("sending frame %d: %v", t, err)
	}
	return nil
}

// SendJSON is Send for a body that is v as JSON.
func (p *Conn) SendJSON(t FrameType, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding frame %d: %v", t, err)
	}
	return p.Send(t, body)
}

// Receive returns the next frame. Nothing is allocated for a length or a type
// that this end does not take; io.EOF comes only between frames.
func (p *Conn) Receive() (FrameType, []byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(p.rw, head[:]); err != nil {
		return 0, nil, err
	}
	t, n := FrameType(head[0]), binary.BigEndian.Uint32(head[1:])
	if t.limit() < 0 || t.toParent() != p.parent || int64(n) > int64(t.limit()) {
		return 0, nil, fmt.Errorf("receiving frame %d of %d bytes: not allowed", t, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(p.rw, body); err != nil {
		return 0, nil, fmt.Errorf("receiving frame %d: cut short", t)
	}
	return t, body, nil
}

// Close ends both directions; the other side sees the end of its input.
func (p *Conn) Close() { _ = p.rw.Close() }

// JoinKeys makes the body of FrameKeys of exported keys, which it copies, and what
// READY says. The caller clears it.
func JoinKeys(keys []byte, ready Ready) ([]byte, error) {
	rest, err := json.Marshal(ready)
	if err != nil {
		return nil, fmt.Errorf("encoding what READY says: %v", err)
	}
	body := make([]byte, 0, 2+len(keys)+len(rest))
	body = binary.BigEndian.AppendUint16(body, uint16(len(keys)))
	body = append(body, keys...)
	return append(body, rest...), nil
}

// SplitKeys reads the body of FrameKeys; keys is a part of it.
func SplitKeys(body []byte) (keys []byte, ready Ready, err error) {
	if len(body) < 2 || len(body) < 2+int(binary.BigEndian.Uint16(body)) {
		return nil, ready, fmt.Errorf("reading keys: cut short")
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	if json.Unmarshal(body[n:], &ready) != nil {
		return nil, ready, fmt.Errorf("reading keys: what READY says is malformed")
	}
	return body[2:n], ready, nil
}
