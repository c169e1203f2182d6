package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxHost is the longest name that DNS can carry.
const maxHost = 253

// Target is how a rule writes a TCP target: HOST:PORT, an IPv6 address in brackets,
// names in lower case and without the dot at the end, addresses in their one form
// (RFC 5952), an IPv4 one as such. ok is false for what cannot be one.
func Target(host string, port uint16) (text string, ok bool) {
	host = plainHost(host)
	if !validHost(host) {
		return "", false
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.Unmap().String()
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(port)), true
}

// plainHost is a name in lower case and without the dot at the end.
func plainHost(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

// cutPort cuts HOST:PORT before its port, and takes the brackets off an IPv6 address. ok
// is false where there is no colon, and where brackets are missing or not needed; what
// host and port mean is not looked at.
func cutPort(text string) (host, port string, ok bool) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return "", "", false
	}
	host, opened := strings.CutPrefix(text[:i], "[")
	host, closed := strings.CutSuffix(host, "]")
	return host, text[i+1:], opened == closed && opened == strings.Contains(host, ":")
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
	if host, port, ok := cutPort(s); ok {
		n, err := strconv.ParseUint(port, 10, 16)
		text, ok := Target(host, uint16(n))
		if ok && port == "*" {
			text = text[:strings.LastIndexByte(text, ':')] + ":*"
		}
		if ok && (port == "*" || err == nil && n > 0) {
			if *t = target(s); text != s {
				return fmt.Errorf("%q is written %q", s, text)
			}
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

// manySockets is why nothing is written while rules name more sockets than one answer
// holds, which is as much as of folders: the process that serves a copy has to know all.
const manySockets = "the allow rules name more than 1,000 sockets as targets, or 64 KiB of their names, so no copy can leave all of them in their places"

// namedSockets are those that allow rules name as targets, for whomever: the agent reaches
// them, or listens at them, by the name alone.
func namedSockets(rules []*rule) (list []string) {
	for _, r := range rules {
		for _, t := range r.targets {
			if _, ok := SocketTarget(t); ok && !r.block {
				list = append(list, t)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
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
	host, port := q.Target[:i], q.Target[i+1:]
	here := r.block && isHere(host)
	for _, t := range r.targets {
		j := strings.LastIndexByte(t, ':')
		if j < 0 || t[0] == '/' || t[j+1:] != port && t[j+1:] != "*" {
			continue
		}
		if t[:j] == host || here && isHere(t[:j]) {
			return true
		}
	}
	return false
}

// isHere reports a host, as Target writes it, under which a machine reaches itself: by all
// of these somebody gets to what listens at one of them, so whoever blocks one blocks all.
// An allow rule means the one that it names. Other names are not looked up, here or
// anywhere before the target is dialled: what must not be reached under any name is kept
// in by a list of what may.
func isHere(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && (addr.IsLoopback() || addr.IsUnspecified())
}
