// Package judge decides on what operators offer to an agent: every check between an
// OPEN and the program that may run, one named refusal for each. It changes nothing
// but what it remembers of requests that it has seen; the caller opens the session,
// uses approvals up and writes the log.
//
// Source: protocol 2.5, 4.3; attacks B2, B10, E, G5, G6.
package judge
