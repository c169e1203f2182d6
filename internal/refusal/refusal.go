// Package refusal is the closed set of reasons for which TucDesk says no.
//
// A refusal crosses every border of the system: an agent refuses a session, the
// rendezvous passes that on, the operator's terminal prints it and ends with a
// fixed exit code, the audit log records it. So that all of them mean the same
// thing, the code is one of the constants below, never a text made up on the
// way, and nothing that came from a peer is ever put into Detail.
//
// "No such thing" and "not yours" are deliberately one code, NotFound: a caller
// must not learn which names exist in another team.
package refusal

import (
	"errors"
	"fmt"
)

// Code is the stable name of one reason. Codes are part of the API: they are
// never renamed, only added to.
type Code string

// Error is a refusal with its code. Callers match it with errors.As or ask Of.
type Error struct {
	Code   Code
	Detail string // for people, in our own words; never secrets, never a peer's bytes
}

// New makes a refusal whose detail is formatted as by fmt.Sprintf.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Error returns "code: detail", or the code alone.
func (e *Error) Error() string {
	if e.Detail == "" {
		return string(e.Code)
	}
	return string(e.Code) + ": " + e.Detail
}

// Is makes two refusals equal under errors.Is when their codes are.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Of returns the code of the first refusal in err's chain, or "" when there is
// none. Internal faults have no code: they must not be mistaken for a decision.
func Of(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// MaxCode is the longest code, in bytes; our choice.
const MaxCode = 32

// Valid reports whether c has the form of a code: 1 to MaxCode of a-z, 0-9 and _.
// It need not be one of ours, as a peer may be newer. Whatever takes a code from
// a peer asks this first: codes are compared, logged and printed (attack J).
func (c Code) Valid() bool {
	for _, b := range []byte(c) {
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '_' {
			return false
		}
	}
	return len(c) > 0 && len(c) <= MaxCode
}

// Plain returns c when it is valid or "", which is no refusal; anything else a
// peer may have sent becomes ProtocolError.
func Plain(c Code) Code {
	if c == "" || c.Valid() {
		return c
	}
	return ProtocolError
}
