package forward

import (
	"math"
	"net"
	"strconv"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
)

// Way says who listens.
type Way byte

// The ways, by the letters that ssh has for them.
const (
	Local   Way = 'L' // here; the machine connects
	Remote  Way = 'R' // the machine; this computer connects
	Dynamic Way = 'D' // here; each client says by SOCKS where the machine connects
)

// Everywhere is the host of a listener on all addresses, here and at the machine, whose
// policy has the same word (policy.Everywhere).
const Everywhere = "*"

// Address is where to listen or to connect: a port of a host, or a socket in a file.
type Address struct {
	Host   string // of a listener "" is unsaid, which means loopback
	Port   uint16 // 0 of a listener is any
	Socket string // absolute path; then Host and Port are empty
}

// String writes it as specs do, with brackets where they are needed.
func (a Address) String() string {
	switch {
	case a.Socket != "":
		return a.Socket
	case a.Host == "":
		return strconv.Itoa(int(a.Port))
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// Spec is one forward.
type Spec struct {
	Way    Way     // which side listens
	Listen Address // where; of port 0 the system chooses one
	To     Address // zero: SOCKS clients say where
}

// String is the spec as ssh takes it behind its letter.
func (s Spec) String() string {
	text := "-" + string(s.Way) + " " + s.Listen.String()
	if s.socks() {
		return text
	}
	return text + ":" + s.To.String()
}

// socks reports a forward without a target. OpenSSH has it for -R too.
func (s Spec) socks() bool { return s.To == Address{} }

// Opening is the channel by which the machine connects to the target.
func (s Spec) Opening() session.Opening { return opening(s.To) }

func opening(to Address) session.Opening {
	if to.Socket != "" {
		return session.Opening{Kind: session.DirectSocket, Host: to.Socket}
	}
	return session.Opening{Kind: session.DirectTCP, Host: to.Host, Port: to.Port}
}

// maxSpec is the longest spec in bytes: two paths of sockets and more; our choice.
const maxSpec = 4096

// Parse reads a spec as ssh writes it:
//
//	-L, -R  [bind_address:]port:host:hostport   [bind_address:]port:/socket
//	        /socket:host:hostport               /socket:/socket
//	-D, -R  [bind_address:]port                 /socket
//
// An IPv6 address is in brackets, a path begins with a slash and has no colon. The
// bind address "*", or an empty one before its colon, is every address. Refusals:
// BadArgument, which does not say -L: whoever uses tucdesk forward has typed none.
func Parse(way Way, text string) (Spec, error) {
	bad := func(why string, args ...any) (Spec, error) {
		return Spec{}, refusal.New(refusal.BadArgument, "forward %q: "+why, append([]any{text}, args...)...)
	}
	if len(text) > maxSpec || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return bad("not a forward")
	}
	fields, ok := split(text)
	if !ok {
		return bad("a bracket is open, or an address in brackets is not followed by a colon")
	}
	for _, f := range fields {
		if tooHigh(f) {
			return bad("%s is no port: they go to 65535", f)
		}
	}
	s, fields := target(way, fields)
	if way != Dynamic && s.socks() && way != Remote {
		return bad("want [bind_address:]port:host:hostport, as 8080:localhost:80")
	}
	if s.To.Socket == "" && !s.socks() && (s.To.Host == "" || s.To.Port == 0) {
		return bad("the target is no host and port, as localhost:80")
	}
	if !s.listener(fields) {
		return bad("want [bind_address:]port, or a path that begins with a slash, to listen at")
	}
	return s, nil
}

// target takes the last fields for where the connections go, if they say so. A port
// that is none stays 0.
func target(way Way, fields []string) (Spec, []string) {
	s, last := Spec{Way: way}, len(fields)-1
	switch {
	case way == Dynamic:
	case isPath(fields[last]) && last > 0:
		s.To.Socket, fields = fields[last], fields[:last]
	case last >= 2:
		s.To.Host = fields[last-1]
		s.To.Port, _ = port(fields[last])
		fields = fields[:last-1]
	}
	return s, fields
}

func (s *Spec) listener(fields []string) (ok bool) {
	switch {
	case len(fields) == 1 && isPath(fields[0]):
		s.Listen.Socket = fields[0]
		return true
	case len(fields) == 2:
		if s.Listen.Host = fields[0]; s.Listen.Host == "" {
			s.Listen.Host = Everywhere
		}
	case len(fields) != 1:
		return false
	}
	s.Listen.Port, ok = port(fields[len(fields)-1])
	return ok && !isPath(s.Listen.Host)
}

func isPath(field string) bool { return strings.HasPrefix(field, "/") }

func port(text string) (uint16, bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil
}

// tooHigh reports a number that somebody took for a port, which a longer one may not
// be: an address can be written as a number.
func tooHigh(field string) bool {
	n, err := strconv.ParseUint(field, 10, 20)
	return err == nil && n > math.MaxUint16
}

// split cuts at colons outside of brackets and takes the brackets away.
func split(text string) (fields []string, ok bool) {
	for {
		if rest, bracket := strings.CutPrefix(text, "["); bracket {
			inside, after, closed := strings.Cut(rest, "]")
			if !closed || after != "" && after[0] != ':' || inside == "" || strings.ContainsAny(inside, "[/") {
				return nil, false
			}
			fields = append(fields, inside)
			if after == "" {
				return fields, true
			}
			text = after[1:]
			continue
		}
		field, rest, more := strings.Cut(text, ":")
		if strings.ContainsAny(field, "[]") {
			return nil, false
		}
		fields = append(fields, field)
		if !more {
			return fields, true
		}
		text = rest
	}
}
