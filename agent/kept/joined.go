package kept

import (
	"io"

	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Joined is a session process' end of a stream.
type Joined struct {
	f    framer
	rest []byte // of an output frame; of Read
	end  error  // of Read
}

// Join asks for the shell on rw, which Close closes, and returns when it is there. A
// refusal says why it is not.
func Join(rw io.ReadWriteCloser, at Terminal) (*Joined, error) {
	j := &Joined{f: framer{rw: rw}}
	if err := j.f.sendJSON(frameBegin, at); err != nil {
		return nil, refusal.New(refusal.NotFound, "the shell has ended")
	}
	t, body, err := j.f.receive()
	why, ok := decode[no](body)
	switch {
	case err != nil:
		return nil, refusal.New(refusal.NotFound, "the shell has ended")
	case t == frameBegun:
		return j, nil
	case t == frameRefused && ok && why.Code.Valid():
		return nil, &refusal.Error{Code: why.Code, Detail: why.Detail}
	}
	return nil, refusal.New(refusal.ProtocolError, "the holder of the shell sent a frame out of place")
}

// Ended is the error by which Read says how the program ended.
type Ended struct{ Exit Exit }

// Error says so.
func (Ended) Error() string { return "the program has ended" }

// Read returns output, earlier and new. Its error is Ended, or a refusal: TakenOver,
// or Unavailable when the holder is gone.
func (j *Joined) Read(b []byte) (int, error) {
	for len(j.rest) == 0 && j.end == nil {
		j.fill()
	}
	if len(j.rest) == 0 {
		return 0, j.end
	}
	n := copy(b, j.rest)
	j.rest = j.rest[n:]
	return n, nil
}

func (j *Joined) fill() {
	t, body, err := j.f.receive()
	switch {
	case err != nil:
		j.end = refusal.New(refusal.Unavailable, "the shell is gone")
	case t == frameOutput:
		j.rest = body
	case t == frameTaken:
		j.end = refusal.New(refusal.TakenOver, "another session has this shell now")
	case t == frameExited:
		if e, ok := decode[Exit](body); ok {
			j.end = Ended{e}
			return
		}
		fallthrough
	default:
		j.end = refusal.New(refusal.ProtocolError, "the holder of the shell sent a frame out of place")
	}
}

// Write passes input on.
func (j *Joined) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		part := b[:min(len(b), maxData)]
		if err := j.f.send(frameInput, part); err != nil {
			return n, err
		}
		n, b = n+len(part), b[len(part):]
	}
	return n, nil
}

// Resize tells the terminal's new size.
func (j *Joined) Resize(s process.Size) error { return j.f.sendJSON(frameResize, s) }

// Signal sends a signal, by its name without SIG, to the program's process group.
func (j *Joined) Signal(name string) error {
	if len(name) > frameSignal.limit() {
		return nil // no signal has such a name
	}
	return j.f.send(frameSignal, []byte(name))
}

// Close lets the shell run on without us.
func (j *Joined) Close() error { return j.f.rw.Close() }
