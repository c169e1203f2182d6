package agent

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// frameType names a frame between supervisor and session process; see the
// package comment.
type frameType byte

const (
	frameJob      frameType = 1
	frameKeys     frameType = 2
	frameRejected frameType = 3
	frameEnd      frameType = 4
	frameRelay    frameType = 5
	frameConfirm  frameType = 16
	frameStarted  frameType = 17
	frameExited   frameType = 18
	frameClosed   frameType = 19
)

const frameHead = 5

// limit returns the longest body, in bytes, or -1 for a type that does not exist.
func (t frameType) limit() int {
	switch t {
	case frameJob:
		return 256 << 10 // a session request has 64 KiB, its encoding here a little more
	case frameKeys:
		return 8 << 10
	case frameRejected:
		return 0
	case frameEnd:
		return 64
	case frameConfirm:
		return 512
	case frameRelay, frameStarted, frameExited:
		return 4 << 10
	case frameClosed:
		return 256
	}
	return -1
}

// toParent reports whether the child may send t.
func (t frameType) toParent() bool { return t >= frameConfirm }

// pair is one end of the connection between supervisor and session process. One
// goroutine receives; any may send.
type pair struct {
	rw     io.ReadWriteCloser
	parent bool // this is the supervisor's end

	mu sync.Mutex // serialises writes
}

// sendLimit is how long the other side may leave its buffer full; our choice.
const sendLimit = 5 * time.Second

// send writes one frame. A child that does not read cannot hold its supervisor up.
func (p *pair) send(t frameType, body []byte) error {
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

func (p *pair) sendJSON(t frameType, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding frame %d: %v", t, err)
	}
	return p.send(t, body)
}

// receive returns the next frame. Nothing is allocated for a length or a type
// that this end does not take; io.EOF comes only between frames.
func (p *pair) receive() (frameType, []byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(p.rw, head[:]); err != nil {
		return 0, nil, err
	}
	t, n := frameType(head[0]), binary.BigEndian.Uint32(head[1:])
	if t.limit() < 0 || t.toParent() != p.parent || int64(n) > int64(t.limit()) {
		return 0, nil, fmt.Errorf("receiving frame %d of %d bytes: not allowed", t, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(p.rw, body); err != nil {
		return 0, nil, fmt.Errorf("receiving frame %d: cut short", t)
	}
	return t, body, nil
}

// close ends both directions; the other side sees the end of its input.
func (p *pair) close() { _ = p.rw.Close() }

// joinKeys and splitKeys are the body of frameKeys.
func joinKeys(keys []byte, ready readyData) ([]byte, error) {
	rest, err := json.Marshal(ready)
	if err != nil {
		return nil, fmt.Errorf("encoding what READY says: %v", err)
	}
	body := make([]byte, 0, 2+len(keys)+len(rest))
	body = binary.BigEndian.AppendUint16(body, uint16(len(keys)))
	body = append(body, keys...)
	return append(body, rest...), nil
}

func splitKeys(body []byte) (keys []byte, ready readyData, err error) {
	if len(body) < 2 || len(body) < 2+int(binary.BigEndian.Uint16(body)) {
		return nil, ready, fmt.Errorf("reading keys: cut short")
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	if json.Unmarshal(body[n:], &ready) != nil {
		return nil, ready, fmt.Errorf("reading keys: what READY says is malformed")
	}
	return body[2:n], ready, nil
}
