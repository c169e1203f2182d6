package roster

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// ProgramVersion is the version of one of our programs, in the one spelling of
// Semantic Versioning 2.0.0: MAJOR.MINOR.PATCH, then perhaps "-" and a
// pre-release. Builds of one version ("+…") count as that version.
type ProgramVersion struct {
	core [3]uint64
	pre  []string // identifiers of the pre-release; none for a release
}

// ParseProgramVersion reads a version of at most MaxName bytes; a "v" in front,
// as build tools write it, is allowed. Anything else is bad_statement: a version
// that two programs read differently would let one of them stay behind.
func ParseProgramVersion(s string) (ProgramVersion, error) {
	bad := refusal.New(refusal.BadStatement, "not a version of the form 1.2.3 or 1.2.3-rc.1")
	if len(s) > MaxName {
		return ProgramVersion{}, bad
	}
	text, build, hasBuild := strings.Cut(strings.TrimPrefix(s, "v"), "+")
	if hasBuild && !identifiers(build, false) {
		return ProgramVersion{}, bad
	}
	core, pre, hasPre := strings.Cut(text, "-")
	var v ProgramVersion
	parts := strings.Split(core, ".")
	if len(parts) != len(v.core) || hasPre && !identifiers(pre, true) {
		return ProgramVersion{}, bad
	}
	for i, p := range parts {
		if !number(p) {
			return ProgramVersion{}, bad
		}
		n, err := strconv.ParseUint(p, 10, 32)
		if err != nil {
			return ProgramVersion{}, bad
		}
		v.core[i] = n
	}
	if hasPre {
		v.pre = strings.Split(pre, ".")
	}
	return v, nil
}

// identifiers reports dot-separated words of letters, digits and dashes; in a
// pre-release, numbers among them have no zero in front.
func identifiers(s string, strict bool) bool {
	for _, id := range strings.Split(s, ".") {
		if id == "" || !only(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"+lower+"-") || strict && only(id, "0123456789") && !number(id) {
			return false
		}
	}
	return true
}

// number reports a decimal number in its one spelling.
func number(s string) bool {
	return s != "" && only(s, "0123456789") && (s == "0" || s[0] != '0')
}

// Compare is negative when v is older than w, positive when it is newer, by the
// precedence of Semantic Versioning: a pre-release is older than its release.
func (v ProgramVersion) Compare(w ProgramVersion) int {
	for i := range v.core {
		if c := cmp.Compare(v.core[i], w.core[i]); c != 0 {
			return c
		}
	}
	if len(v.pre) == 0 || len(w.pre) == 0 {
		return cmp.Compare(len(w.pre), len(v.pre))
	}
	for i := range min(len(v.pre), len(w.pre)) {
		if c := compareIdentifiers(v.pre[i], w.pre[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(v.pre), len(w.pre))
}

// compareIdentifiers puts numbers before words. Numbers have no zero in front, so
// the longer one is the greater.
func compareIdentifiers(a, b string) int {
	aNumber, bNumber := number(a), number(b)
	switch {
	case aNumber && !bNumber:
		return -1
	case bNumber && !aNumber:
		return 1
	case aNumber && len(a) != len(b):
		return cmp.Compare(len(a), len(b))
	}
	return strings.Compare(a, b)
}

// CheckProgram reports program_too_old when the roster asks for a newer program
// than version, or for any and version cannot be read: a build that does not know
// what it is may be the one with the hole. It is for a program to ask about
// itself before it opens or answers a session, and for a server about a peer that
// says what it is, which only helps the honest.
func (s *State) CheckProgram(version string) error {
	if s.roster.MinVersion == "" {
		return nil
	}
	least, err := ParseProgramVersion(s.roster.MinVersion)
	if err != nil {
		return err
	}
	have, err := ParseProgramVersion(version)
	if err != nil {
		return refusal.New(refusal.ProgramTooOld, "the team asks for version %s or newer; this build has no release version", s.roster.MinVersion)
	}
	if have.Compare(least) < 0 {
		return refusal.New(refusal.ProgramTooOld, "the team asks for version %s or newer; this is %s", s.roster.MinVersion, strings.TrimPrefix(version, "v"))
	}
	return nil
}

// validMinVersion wants the spelling without "v" and build, so that a version is
// written one way only.
func validMinVersion(s string) error {
	if s == "" {
		return nil
	}
	if strings.HasPrefix(s, "v") || strings.Contains(s, "+") {
		return refusal.New(refusal.BadStatement, "minimum version: write it as 1.2.3")
	}
	if _, err := ParseProgramVersion(s); err != nil {
		return refusal.New(refusal.BadStatement, "minimum version: write it as 1.2.3")
	}
	return nil
}
