package policy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxHost is the longest name that DNS can carry.
const maxHost = 253

// Target is how a rule writes a TCP target: HOST:PORT, an IPv6 address in brackets,
// names in lower case and without the dot at the end. ok is false for what cannot
// be one.
func Target(host string, port uint16) (text string, ok bool) {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if !validHost(host) {
		return "", false
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(port)), true
}

// SocketTarget is how a rule writes the path of a socket. ok is false for what is
// not one absolute path without "." and "..".
func SocketTarget(path string) (text string, ok bool) {
	return path, absolute(path) && len(path) <= maxPath
}

// validHost takes names and addresses; what they mean is found out by who dials.
func validHost(s string) bool {
	return s != "" && len(s) <= maxHost && s[0] != '-' && only(s, alphabet+".-_:")
}

// target is one element of a rule's targets.
type target string

// UnmarshalText takes what Target and SocketTarget write, and HOST:* for any port.
func (t *target) UnmarshalText(text []byte) error {
	s := string(text)
	if _, ok := SocketTarget(s); ok {
		*t = target(s)
		return nil
	}
	i := strings.LastIndexByte(s, ':')
	if i > 0 {
		host, port := s[:i], s[i+1:]
		bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		n, err := strconv.ParseUint(port, 10, 16)
		if text, ok := Target(bare, uint16(n)); ok && (port == "*" || err == nil && n > 0 && text == s) && strings.Contains(bare, ":") == (bare != host) {
			*t = target(s)
			return nil
		}
	}
	return fmt.Errorf("%q is no target: write HOST:PORT, HOST:* or the absolute path of a socket, in lower case", text)
}

func targets(list []target, on actionSet, err *error) []string {
	if *err == nil && list != nil && on&^Forward.bit() != 0 {
		*err = errors.New(`targets: they restrict forwards only; write actions = ["forward-local"] and another rule for the rest`)
	}
	return texts(list)
}

// matchTarget: an allow rule may cover a request that names no target yet, a block
// rule never does.
func (r *rule) matchTarget(q *Request) bool {
	if q.Target == "" {
		return !r.block
	}
	if slices.Contains(r.targets, q.Target) {
		return true
	}
	i := strings.LastIndexByte(q.Target, ':')
	if i < 0 || q.Target[0] == '/' {
		return false
	}
	for _, t := range r.targets {
		if len(t) == i+2 && t[:i+1] == q.Target[:i+1] && t[i+1] == '*' {
			return true
		}
	}
	return false
}
