package remote

import (
	"io"
)

// escapes passes a terminal's input on and acts on OpenSSH's escapes: a tilde
// at the beginning of a line, then a dot, a question mark or a tilde; ~s is ours. Without
// them a session whose far end is stuck could only be left by killing us.
type escapes struct {
	in      io.Reader
	say     io.Writer
	leave   func()
	state   func() string // one line about the session
	midLine bool          // the last byte was not a line end
	tilde   bool          // a tilde at the beginning of a line is held back
	left    bool
}

const escapeHelp = "\r\nEscapes, at the beginning of a line:\r\n  ~.  end the session\r\n  ~s  say which way the session goes\r\n  ~?  this help\r\n  ~~  send a tilde\r\n"

// Read returns input without the escapes, io.EOF after "~.".
func (e *escapes) Read(p []byte) (int, error) {
	if len(p) < 2 {
		return 0, io.ErrShortBuffer // one byte may become two: a held tilde and the next
	}
	for !e.left {
		buf := make([]byte, len(p)/2)
		n, err := e.in.Read(buf)
		out := p[:0]
		for _, b := range buf[:n] {
			out = e.step(out, b)
		}
		if len(out) > 0 || err != nil {
			return len(out), err
		}
	}
	return 0, io.EOF
}

func (e *escapes) step(out []byte, b byte) []byte {
	if e.left {
		return out
	}
	if !e.tilde {
		if b == '~' && !e.midLine {
			e.tilde = true
			return out
		}
		e.midLine = b != '\r' && b != '\n'
		return append(out, b)
	}
	e.tilde, e.midLine = false, true
	switch b {
	case '.':
		e.left = true
		e.leave()
		return out
	case '?':
		e.midLine = false
		_, _ = io.WriteString(e.say, escapeHelp)
		return out
	case 's':
		e.midLine = false
		_, _ = io.WriteString(e.say, "\r\n"+e.state()+"\r\n")
		return out
	case '~':
		return append(out, '~')
	}
	e.midLine = b != '\r' && b != '\n'
	return append(out, '~', b)
}
