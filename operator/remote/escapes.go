package remote

import (
	"fmt"
	"io"
)

// escapes passes a terminal's input on and acts on OpenSSH's escapes: a tilde at
// the beginning of a line and one more character. ~s is ours. Without them a
// session whose far end is stuck could only be left by killing us.
type escapes struct {
	in      io.Reader
	say     io.Writer
	char    byte // the tilde; 0 is none
	leave   func()
	suspend func() error  // back when the person goes on
	state   func() string // one line about the session
	list    func() string // lines about forwarded connections
	midLine bool          // the last byte was not a line end
	held    bool          // an escape character at the beginning of a line is held back
	left    bool
}

const escapeHelp = "\r\nEscapes, at the beginning of a line:\r\n" +
	"  %[1]s.   end the session\r\n" +
	"  %[1]s^Z  suspend this program\r\n" +
	"  %[1]s#   list forwarded connections\r\n" +
	"  %[1]ss   say which way the session goes\r\n" +
	"  %[1]s?   this help\r\n" +
	"  %[1]s%[1]s   send the escape character itself\r\n"

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
	switch {
	case e.left:
		return out
	case e.held:
		e.held = false
		if e.act(b) { // the line begins anew
			return out
		}
		if b != e.char {
			out = append(out, e.char)
		}
	case e.char != 0 && b == e.char && !e.midLine:
		e.held = true
		return out
	}
	e.midLine = b != '\r' && b != '\n'
	return append(out, b)
}

const controlZ = 'Z' - '@'

// act does what an escape asks for; false means that it is none.
func (e *escapes) act(b byte) bool {
	text := ""
	switch b {
	case '.':
		e.left = true
		e.leave()
		return true
	case controlZ:
		if err := e.suspend(); err != nil {
			text = err.Error() + "\r\n"
		}
	case '?':
		text = fmt.Sprintf(escapeHelp, e.shown())
	case '#':
		text = e.list()
	case 's':
		text = "\r\n" + e.state() + "\r\n"
	case 'C':
		text = "\r\nno command line here; for more forwards: tucdesk forward HOST SPEC\r\n"
	default:
		return false
	}
	_, _ = io.WriteString(e.say, text)
	return true
}

// shown is the escape character as people read it.
func (e *escapes) shown() string {
	if e.char < ' ' {
		return "^" + string(rune(e.char+'@'))
	}
	return string(rune(e.char))
}
