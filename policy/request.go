package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Action is what an operator asks to do (protocol 2.3, field "action").
type Action string

// The actions that rules can name. A request with any other is denied.
const (
	Shell   Action = "shell"   // an interactive shell, or a command line for the user's shell to read
	Exec    Action = "exec"    // one program with exactly the given arguments, no shell
	Copy    Action = "copy"    // files in either direction: both of the two below
	Forward Action = "forward" // connections in either direction: both of the two below

	CopyRead      Action = "copy-read"      // files, folders and their names, from the host
	CopyWrite     Action = "copy-write"     // files to the host; also renaming, removing, modes and times
	ForwardLocal  Action = "forward-local"  // connections that the host makes for the operator, to Target
	ForwardRemote Action = "forward-remote" // listening on the host, at Target, for connections to the operator's side

	// ForwardAgent lends the operator's SSH agent to what runs in a session. It is
	// none of Forward's two: a rule that means it says so.
	ForwardAgent Action = "forward-agent"

	// Background lets programs that left their session go on when it ends (package doc,
	// "Background").
	Background Action = "background"

	// Ping opens a session in which nothing can be opened: it shows that the host
	// is there, and the way to it. So it is allowed wherever anything else may be
	// (package doc, "Ping").
	Ping Action = "ping"
)

// actions gives every single action its bit, in this order.
var actions = [...]Action{Shell, Exec, CopyRead, CopyWrite, ForwardLocal, ForwardRemote, ForwardAgent, Background, Ping}

// Actions returns every single action, in the order of the manual. The caller owns it.
func Actions() []Action { return slices.Clone(actions[:]) }

// parts are the actions that a is short for, or nil.
func (a Action) parts() []Action {
	switch a {
	case Copy:
		return actions[2:4]
	case Forward:
		return actions[4:6]
	}
	return nil
}

// bit returns the action's bit or those of its parts, or 0 when it is unknown.
func (a Action) bit() (set actionSet) {
	for _, part := range a.parts() {
		set |= part.bit()
	}
	if set != 0 {
		return set
	}
	for i, known := range actions {
		if a == known {
			return 1 << i
		}
	}
	return 0
}

// UnmarshalText reads an action's name and refuses unknown ones.
func (a *Action) UnmarshalText(text []byte) error {
	if Action(text).bit() == 0 {
		return fmt.Errorf("%q is not an action: write shell, exec, copy, copy-read, copy-write, forward, forward-local, forward-remote, forward-agent, background or ping", text)
	}
	*a = Action(text)
	return nil
}

type actionSet uint16

// Limits of a request. A signed session request has at most 64 KiB (protocol
// 4.1), so nothing longer can be meant honestly.
const (
	MaxArgs     = 1024     // elements of argv
	MaxArgBytes = 64 << 10 // all elements of argv together
	MaxCwdBytes = 4096     // working directory
	MaxEnv      = 128      // environment additions
	MaxTags     = 64       // tags of one host
)

// Request is one question to the policy. The caller has verified all of it: who
// asks from the roster, what is asked from the signed session request, and the
// host's name and tags from its certificate or the roster. What an agent reports
// about itself must never be put in here (attack F7). Decide only reads it.
type Request struct {
	Action Action

	// Argv is the exact argument vector; for Shell it may hold the one command
	// line, or nothing.
	Argv [][]byte

	// File is the real path of the file that Argv[0] stands for, after all
	// symbolic links, as the agent found and opened it (protocol 4.3, "command
	// identity"). Exec without it is refused, unless Unresolved is set.
	File string

	// Unresolved is set by the rendezvous, which cannot see the host's files. A
	// command is then matched by Argv[0] as written, or by its last element when
	// it has no "/". The answer may be milder than the agent's; that is safe only
	// because the agent decides again. The agent sets it only to find out whether
	// an operator may hear that there is no such file.
	Unresolved bool

	Cwd string // working directory asked for; "" is the user's home
	// Target is what ForwardLocal reaches or ForwardRemote listens at, as Target
	// makes it; "" asks whether there is any that may be. Other actions have none.
	Target string

	Env  []string // names, not values, of the environment additions
	User string   // login user on the host; "" is the user the agent itself runs as
	Self string   // name of the user the agent runs as; the rendezvous leaves it empty

	Agent string   // the host's name
	Tags  []string // the host's tags

	Operator key.ID // the key that signed: this is the identity
	Email    string // of that key's roster entry, compared byte by byte
	Person   string // person id of that entry
	Role     Role   // highest role of that entry
}

// problem is a request that no rule can answer: it is denied as it stands.
type problem struct {
	code   refusal.Code
	reason string
}

// check looks for what makes a request unanswerable. The texts are constant: a
// reason goes to terminals and logs and must carry nothing that a peer wrote.
func (q *Request) check() *problem {
	switch {
	case q.Action.bit() == 0:
		return &unknownAction
	case !q.Role.Valid():
		return &noRole
	case len(q.Tags) > MaxTags:
		return &tooManyTags
	case !validArgv(q.Argv), len(q.Cwd) > MaxCwdBytes, strings.IndexByte(q.Cwd, 0) >= 0:
		return &badArgv
	case q.Cwd != "" && !absolute(q.Cwd): // a rule compares it, and one folder has many such names
		return &badCwd
	}
	if q.Action == Ping && (len(q.Argv) > 0 || q.File != "" || q.Cwd != "" || q.User != "" && q.User != AgentUser || len(q.Env) > 0) {
		return &pingsNothing
	}
	if q.Action != Exec {
		return nil
	}
	switch {
	case len(q.Argv) == 0 || len(q.Argv[0]) == 0:
		return &noCommand
	case q.Unresolved && q.File != "", !q.Unresolved && !absolute(q.File):
		return &notResolved
	}
	return nil
}

func validArgv(argv [][]byte) bool {
	if len(argv) > MaxArgs {
		return false
	}
	total := 0
	for _, a := range argv {
		if total += len(a); total > MaxArgBytes || bytes.IndexByte(a, 0) >= 0 {
			return false
		}
	}
	return true
}

var (
	unknownAction = problem{refusal.PolicyDenied, "this version of the policy knows no such action"}
	noRole        = problem{refusal.PolicyDenied, "the operator's roster entry has no role"}
	tooManyTags   = problem{refusal.PolicyDenied, "the host has more tags than a policy looks at"}
	badArgv       = problem{refusal.BadArgument, "an argument or the working directory is too long or holds a zero byte"}
	badCwd        = problem{refusal.BadArgument, "the working directory is no absolute path in its shortest form: write it without ., .. and slashes that say nothing"}
	noCommand     = problem{refusal.BadArgument, "exec without a program to run"}
	pingsNothing  = problem{refusal.BadArgument, "ping runs nothing: it takes no user, folder, environment or arguments"}
	notResolved   = problem{refusal.BadArgument, "the program to run was not resolved to an absolute path"}
)
