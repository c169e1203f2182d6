package session

import (
	"encoding/binary"
	"slices"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Limits of requests, our choice. Sizes of windows are clamped, not refused
// (attack H5): a peer with an odd terminal still gets a usable one, and none
// gets a screen for which a program would allocate gigabytes.
const (
	MaxColumns = 2048 // characters of a line
	MaxRows    = 1024 // lines
	maxPixels  = 65535

	defaultColumns = 80 // for a width of 0, which means "unknown"
	defaultRows    = 24

	maxTerm     = 64
	maxModes    = 128
	maxEnvName  = 256
	maxEnvValue = 32 << 10
	maxArgs     = 4096
	maxText     = 512 // text of a refusal, for people
	maxName     = 64  // request and channel type names
	maxCode     = refusal.MaxCode
)

// Names of requests and channel types.
const (
	nameSession      = "session"
	nameControl      = "control"
	namePTY          = "pty-req"
	nameEnv          = "env"
	nameShell        = "shell"
	nameExec         = "exec-argv"
	nameSubsystem    = "subsystem"
	nameAgent        = "auth-agent-req@openssh.com"
	nameWindowChange = "window-change"
	nameSignal       = "signal"
	nameExitStatus   = "exit-status"
	nameExitSignal   = "exit-signal"
	nameRefusal      = "refusal"
)

// Size is the size of a terminal window. Width and height are in pixels and may
// be 0 for unknown. What the agent sees has been clamped to 1 to MaxColumns and
// 1 to MaxRows.
type Size struct {
	Columns, Rows uint16
	Width, Height uint16
}

// Mode is one terminal mode of RFC 4254, section 8.
type Mode struct {
	Op    byte // 1 to 159
	Value uint32
}

// PTY is what the operator knows about its own terminal.
type PTY struct {
	Term  string // value of TERM: printable ASCII, at most 64 bytes
	Size  Size
	Modes []Mode // at most 128
}

// Request is what the operator asks of a channel: one of the types below.
type Request interface{ append([]byte) []byte }

// PTYRequest asks for a pseudo-terminal for the program that follows. It has no
// answer of its own: an agent that cannot give one refuses the program.
type PTYRequest struct{ PTY PTY }

// EnvRequest adds one variable to the environment of the program that follows;
// likewise without an answer.
type EnvRequest struct{ Name, Value string }

// ShellRequest asks for the user's shell. ServerChannel.Start or Refuse answers.
type ShellRequest struct{}

// ExecRequest asks for one program. ServerChannel.Start or Refuse answers. The
// agent compares Argv with the signed request; it is not an authorisation.
type ExecRequest struct{ Argv [][]byte }

// SubsystemRequest asks for something that the agent itself serves, by its name in
// SSH. ServerChannel.Start or Refuse answers.
type SubsystemRequest struct{ Name string }

// AgentRequest asks that the program that follows be lent the operator's SSH agent;
// without an answer of its own. Connections to it come as pipes of kind AgentSocket.
type AgentRequest struct{}

// WindowChange tells that the operator's window has another size now.
type WindowChange struct{ Size Size }

// SignalRequest asks to send a signal to the program's process group.
type SignalRequest struct{ Signal Signal }

// Signal is the name of a signal without SIG (RFC 4254, section 6.10).
type Signal string

// The signals that exist in RFC 4254.
var signals = []Signal{"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"}

// Valid reports whether s is one of the thirteen names of RFC 4254.
func (s Signal) Valid() bool { return slices.Contains(signals, s) }

func (r PTYRequest) append(b []byte) []byte {
	b = appendString(appendString(b, namePTY), r.PTY.Term)
	b = r.PTY.Size.append(b)
	b = binary.BigEndian.AppendUint32(b, uint32(5*len(r.PTY.Modes)+1))
	for _, m := range r.PTY.Modes {
		b = binary.BigEndian.AppendUint32(append(b, m.Op), m.Value)
	}
	return append(b, 0) // TTY_OP_END
}

func (s Size) append(b []byte) []byte {
	for _, v := range [...]uint16{s.Columns, s.Rows, s.Width, s.Height} {
		b = binary.BigEndian.AppendUint32(b, uint32(v))
	}
	return b
}

func (r EnvRequest) append(b []byte) []byte {
	return appendString(appendString(appendString(b, nameEnv), r.Name), r.Value)
}

func (r ShellRequest) append(b []byte) []byte { return appendString(b, nameShell) }

func (r ExecRequest) append(b []byte) []byte {
	b = appendString(b, nameExec)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Argv)))
	for _, a := range r.Argv {
		b = appendString(b, string(a))
	}
	return b
}

func (r SubsystemRequest) append(b []byte) []byte {
	return appendString(appendString(b, nameSubsystem), r.Name)
}

func (r AgentRequest) append(b []byte) []byte { return appendString(b, nameAgent) }

func (r WindowChange) append(b []byte) []byte {
	return r.Size.append(appendString(b, nameWindowChange))
}

func (r SignalRequest) append(b []byte) []byte {
	return appendString(appendString(b, nameSignal), string(r.Signal))
}

// parseRequest reads the body of a request message at the agent. A name it does
// not know is a fault: both ends have one version (protocol 2.3).
func parseRequest(body []byte) (Request, error) {
	p := parser{b: body}
	var r Request
	switch p.string(maxName) {
	case namePTY:
		r = PTYRequest{PTY: PTY{Term: p.term(), Size: p.size(), Modes: p.modes()}}
	case nameEnv:
		r = EnvRequest{Name: p.string(maxEnvName), Value: p.string(maxEnvValue)}
	case nameShell:
		r = ShellRequest{}
	case nameExec:
		r = ExecRequest{Argv: p.argv()}
	case nameAgent:
		r = AgentRequest{}
	case nameSubsystem:
		r = SubsystemRequest{Name: p.string(maxName)}
	case nameWindowChange:
		r = WindowChange{Size: p.size()}
	case nameSignal:
		s := Signal(p.string(maxName))
		p.bad = p.bad || !s.Valid()
		r = SignalRequest{Signal: s}
	default:
		return nil, errMessage
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	return r, nil
}

func (p *parser) term() string {
	s := p.string(maxTerm)
	p.bad = p.bad || !validTerm(s)
	return s
}

func validTerm(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(s) <= maxTerm
}

func (p *parser) size() Size {
	return Size{
		Columns: clamp(p.uint32(), MaxColumns, defaultColumns),
		Rows:    clamp(p.uint32(), MaxRows, defaultRows),
		Width:   clamp(p.uint32(), maxPixels, 0),
		Height:  clamp(p.uint32(), maxPixels, 0),
	}
}

func clamp(v, limit uint32, unknown uint16) uint16 {
	if v == 0 {
		return unknown
	}
	return uint16(min(v, limit))
}

func (p *parser) modes() []Mode {
	inner := parser{b: p.bytes(5*maxModes + 1)}
	var modes []Mode
	for {
		op := inner.byte()
		if inner.bad || op == 0 {
			break
		}
		modes = append(modes, Mode{Op: op, Value: inner.uint32()})
		inner.bad = inner.bad || op >= 160 // RFC 4254: 160 and up end the parse
	}
	p.bad = p.bad || inner.end() != nil
	return modes
}

func (p *parser) argv() [][]byte {
	n := p.uint32()
	if n == 0 || n > maxArgs {
		p.bad = true
		return nil
	}
	var argv [][]byte
	for range n {
		a := p.bytes(maxMessage)
		if p.bad {
			return nil
		}
		argv = append(argv, append([]byte{}, a...))
	}
	return argv
}

// Exit is how a program ended: by status, by signal, or not started at all.
type Exit struct {
	Status     uint32         // of which Unix uses 8; meaningful when neither of the others is set
	Signal     Signal         // it was killed by this signal
	CoreDumped bool           // together with Signal
	Refusal    *refusal.Error // the agent stopped or never started it
}

// append writes the body of the request message that reports e.
func (e Exit) append(b []byte) []byte {
	switch {
	case e.Refusal != nil:
		return appendRefusal(appendString(b, nameRefusal), e.Refusal)
	case e.Signal != "":
		b = appendString(appendString(b, nameExitSignal), string(e.Signal))
		if e.CoreDumped {
			return append(b, 1)
		}
		return append(b, 0)
	}
	return binary.BigEndian.AppendUint32(appendString(b, nameExitStatus), e.Status)
}

// parseExit reads what append wrote, at the operator. A signal's name may be one
// that RFC 4254 does not list; it is checked to be a name.
func parseExit(body []byte) (Exit, error) {
	p := parser{b: body}
	var e Exit
	switch p.string(maxName) {
	case nameExitStatus:
		e.Status = p.uint32()
	case nameExitSignal:
		e.Signal = Signal(p.string(maxName))
		e.CoreDumped = p.bool()
		p.bad = p.bad || !validSignalName(e.Signal)
	case nameRefusal:
		e.Refusal = p.refusal()
	default:
		return e, errMessage
	}
	return e, p.end()
}

func validSignalName(s Signal) bool {
	for _, c := range []byte(s) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 16
}

func appendRefusal(b []byte, e *refusal.Error) []byte {
	text := e.Detail
	if len(text) > maxText {
		text = text[:maxText]
	}
	return appendString(appendString(b, string(e.Code)), text)
}

// refusal reads a code and its text. The text came from the peer: whoever shows
// it escapes it (attack J).
func (p *parser) refusal() *refusal.Error {
	code, text := p.string(maxCode), p.string(maxText)
	p.bad = p.bad || !validCode(code) || code == ""
	return &refusal.Error{Code: refusal.Code(code), Detail: text}
}

// validCode allows "", which CLOSE has for a normal end.
func validCode(s string) bool { return s == "" || refusal.Code(s).Valid() }
