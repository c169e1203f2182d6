package policy

import (
	"fmt"
	"strings"
	"time"
)

// Names in a policy are compared byte for byte and mean only themselves: there
// are no patterns, no case folding and no Unicode to confuse a reader with
// (attack F8). So each kind has one narrow alphabet, and anything else is an
// error when the file is loaded, not a rule that silently never matches.

const (
	alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"

	maxName  = 63  // tags, host names, rule ids; of the roster's rules
	maxEmail = 254 // longest address that mail can carry
	maxUser  = 64  // longest login name; Windows with a domain is the widest
	maxPath  = 4096
)

// ValidTag reports whether s can be the tag of a host: 1 to 63 of a-z, 0-9,
// ".", "_", "=", ":" and "-", the first a letter or digit.
func ValidTag(s string) bool { return validName(s, "._=:-") }

// ValidAgentName reports whether s can be the name of a host: 1 to 63 of a-z,
// 0-9, "." and "-", the first a letter or digit.
func ValidAgentName(s string) bool { return validName(s, ".-") }

func validName(s, extra string) bool {
	return len(s) > 0 && len(s) <= maxName && strings.IndexByte(alphabet, s[0]) >= 0 &&
		only(s, alphabet+extra)
}

// only reports whether every byte of s is one of set.
func only(s, set string) bool {
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) < 0 {
			return false
		}
	}
	return true
}

// printable reports visible ASCII without quotes, backslash and wildcards.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || strings.IndexByte("\"'`*?<>()[]{},;|", s[i]) >= 0 {
			return false
		}
	}
	return true
}

// The types below are the leaves of the file. They check themselves while the
// file is decoded, so that the error carries the line.

type tagName string

// UnmarshalText takes a tag; see ValidTag.
func (t *tagName) UnmarshalText(text []byte) error {
	if !ValidTag(string(text)) {
		return fmt.Errorf("%q is not a tag: write a-z, 0-9 and . _ = : - only; tags match exactly, there are no patterns", text)
	}
	*t = tagName(text)
	return nil
}

type agentName string

// UnmarshalText takes the name of a host; see ValidAgentName.
func (a *agentName) UnmarshalText(text []byte) error {
	if !ValidAgentName(string(text)) {
		return fmt.Errorf("%q is not a host name: write a-z, 0-9, . and - only; names match exactly, there are no patterns", text)
	}
	*a = agentName(text)
	return nil
}

type ruleID string

// UnmarshalText takes 1 to 63 of a-z, 0-9, ".", "_" and "-".
func (r *ruleID) UnmarshalText(text []byte) error {
	if !validName(string(text), "._-") {
		return fmt.Errorf("%q is not a rule id: write up to %d of a-z, 0-9, . _ -", text, maxName)
	}
	*r = ruleID(text)
	return nil
}

type email string

// UnmarshalText takes one whole address. "*@team.com" and "@team.com" are
// refused: a mail domain grants nothing (attack F12).
func (e *email) UnmarshalText(text []byte) error {
	s := string(text)
	local, domain, _ := strings.Cut(s, "@")
	if local == "" || domain == "" || strings.Contains(domain, "@") || len(s) > maxEmail || !printable(s) {
		return fmt.Errorf("%q is not one whole e-mail address; a domain alone never grants anything", text)
	}
	*e = email(s)
	return nil
}

type personID string

// UnmarshalText takes the id of a person as rosters have it.
func (p *personID) UnmarshalText(text []byte) error {
	if s := string(text); s == "" || len(s) > maxEmail || !printable(s) {
		return fmt.Errorf("%q is not a person id", text)
	}
	*p = personID(text)
	return nil
}

// AgentUser is the word for "the user the agent itself runs as" in a rule's
// users. It is what a request without a user name asks for.
const AgentUser = "@agent"

type userName string

// UnmarshalText takes a login name or AgentUser.
func (u *userName) UnmarshalText(text []byte) error {
	s := string(text)
	if s != AgentUser && (s == "" || len(s) > maxUser || !printable(s) || s[0] == '-' || s[0] == '@') {
		return fmt.Errorf("%q is not a login name: write the exact name, or %q for the agent's own user", text, AgentUser)
	}
	*u = userName(text)
	return nil
}

type directory string

// UnmarshalText takes an absolute path that names one place.
func (d *directory) UnmarshalText(text []byte) error {
	if s := string(text); !absolute(s) || len(s) > maxPath {
		return fmt.Errorf("%q is not an absolute directory: write it in full, without . or .. in it", text)
	}
	*d = directory(text)
	return nil
}

// absolute reports a path that names one place: from the root, and without
// empty, "." and ".." elements. Windows paths begin with a drive letter.
func absolute(s string) bool {
	sep := "/"
	if len(s) >= 3 && s[1] == ':' && s[2] == '\\' && only(strings.ToLower(s[:1]), alphabet[:26]) {
		s, sep = s[2:], `\`
	}
	if !strings.HasPrefix(s, sep) || strings.IndexByte(s, 0) >= 0 {
		return false
	}
	for part := range strings.SplitSeq(s[1:], sep) {
		if part == "" && s != sep || part == "." || part == ".." {
			return false
		}
	}
	return true
}

type duration time.Duration

// UnmarshalText takes a Go duration from a second to 30 days.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < time.Second || v > maxDuration {
		return fmt.Errorf("%q is not a duration from 1s to %v: write for example \"8h\" or \"30m\"", text, maxDuration)
	}
	*d = duration(v)
	return nil
}

// mode is the file's main switch.
type mode string

const (
	modeEnforce  mode = "enforce"
	modeLockdown mode = "lockdown"
)

// UnmarshalText takes the two modes.
func (m *mode) UnmarshalText(text []byte) error {
	switch mode(text) {
	case modeEnforce, modeLockdown:
		*m = mode(text)
		return nil
	}
	return fmt.Errorf("%q is not a mode: write enforce or lockdown", text)
}
