package kept

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// frameType names a frame of a stream; see the package comment.
type frameType byte

const (
	frameBegin   frameType = 1
	frameInput   frameType = 2
	frameResize  frameType = 3
	frameSignal  frameType = 4
	frameBegun   frameType = 16
	frameRefused frameType = 17
	frameOutput  frameType = 18
	frameExited  frameType = 19
	frameTaken   frameType = 20
)

const (
	frameHead = 5
	maxData   = 32 << 10 // bytes of input or output in one frame
)

// limit returns the longest body in bytes, or -1 for a type that does not exist.
func (t frameType) limit() int {
	switch t {
	case frameBegin:
		return 8 << 10
	case frameInput, frameOutput:
		return maxData
	case frameResize, frameExited:
		return 64
	case frameSignal:
		return 16
	case frameBegun, frameTaken:
		return 0
	case frameRefused:
		return 4 << 10
	}
	return -1
}

// toHolder reports whether t goes to the holder.
func (t frameType) toHolder() bool { return t < frameBegun }

// framer is one end of a stream. One goroutine receives; any may send.
type framer struct {
	rw     io.ReadWriteCloser
	holder bool // this is the holder's end

	mu sync.Mutex // serialises writes
}

// send writes one frame.
func (f *framer) send(t frameType, body []byte) error {
	if len(body) > t.limit() || t.toHolder() == f.holder {
		return fmt.Errorf("sending frame %d of %d bytes: not allowed", t, len(body))
	}
	b := make([]byte, 0, frameHead+len(body))
	b = binary.BigEndian.AppendUint32(append(b, byte(t)), uint32(len(body)))
	b = append(b, body...)
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.rw.Write(b); err != nil {
		return fmt.Errorf("sending frame %d: %v", t, err)
	}
	return nil
}

func (f *framer) sendJSON(t frameType, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding frame %d: %v", t, err)
	}
	return f.send(t, body)
}

// receive returns the next frame. Nothing is allocated for a length or a type that
// this end does not take; io.EOF comes only between frames.
func (f *framer) receive() (frameType, []byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(f.rw, head[:]); err != nil {
		return 0, nil, err
	}
	t, n := frameType(head[0]), binary.BigEndian.Uint32(head[1:])
	if t.limit() < 0 || t.toHolder() != f.holder || int64(n) > int64(t.limit()) {
		return 0, nil, fmt.Errorf("receiving frame %d of %d bytes: not allowed", t, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(f.rw, body); err != nil {
		return 0, nil, fmt.Errorf("receiving frame %d: cut short", t)
	}
	return t, body, nil
}
