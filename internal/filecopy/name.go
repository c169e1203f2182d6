package filecopy

import (
	"path"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

const maxElement = 255 // bytes of one element of a name, on every system we know

// PartSuffix ends the name of a file that is not complete. No file of that name is
// copied.
const PartSuffix = ".tucdesk-part"

// IsPart reports that an element of a name is that of a file that is not complete, also
// on a disk that knows no capitals or drops dots at the end.
func IsPart(element string) bool {
	return strings.HasSuffix(strings.ToLower(strings.ToUpper(strings.TrimRight(element, ". "))), PartSuffix)
}

// CheckName says whether a name that the peer sent may be created on a system, by
// its name as in runtime.GOOS. Its error is bad_path and repeats nothing of it
// (attack I1).
func CheckName(system, name string) error {
	if len(name) > MaxName || name == "" {
		return badPath("a name is empty or longer than %d bytes", MaxName)
	}
	for element := range strings.SplitSeq(name, "/") {
		switch {
		case element == "", element == ".", element == "..":
			return badPath("a name that is absolute, or has an empty, \".\" or \"..\" element")
		case len(element) > maxElement:
			return badPath("an element of a name is longer than %d bytes", maxElement)
		case strings.IndexByte(element, 0) >= 0:
			return badPath("a name with a zero byte")
		case IsPart(element):
			return badPath("a name that belongs to files which are not complete")
		case system == "windows" && !windowsName(element):
			return badPath("a name that Windows does not have, or reads as a device or another place")
		}
	}
	return nil
}

func badPath(format string, args ...any) error { return refusal.New(refusal.BadPath, format, args...) }

// windowsName: what Windows takes for separators, streams, wild cards or devices,
// and endings that it drops.
func windowsName(element string) bool {
	if strings.ContainsAny(element, `\:<>"|?*`) || strings.TrimRight(element, ". ") != element {
		return false
	}
	for _, c := range []byte(element) {
		if c < ' ' {
			return false
		}
	}
	stem, _, _ := strings.Cut(strings.ToUpper(element), ".")
	switch stem = strings.TrimRight(stem, " "); stem {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return false
	}
	for _, device := range [...]string{"COM", "LPT"} {
		if digit, ok := strings.CutPrefix(stem, device); ok && strings.Contains("0123456789¹²³", digit) && digit != "" {
			return false
		}
	}
	return true
}

// CheckLink says whether a link of that name may point to target: inside its own
// tree, and relative.
func CheckLink(name, target string) error {
	top, _, below := strings.Cut(name, "/")
	if !below || target == "" || path.IsAbs(target) || strings.ContainsAny(target, "\x00\\") {
		return badPath("a link that is absolute, empty or no part of a folder")
	}
	plain := false
	for element := range strings.SplitSeq(target, "/") {
		if len(element) > maxElement || element == ".." && plain {
			return badPath("a link with an element that is too long, or with \"..\" behind a name, which may be a link itself")
		}
		plain = plain || element != ".."
	}
	if to := path.Join(path.Dir(name), target); to != top && !strings.HasPrefix(to, top+"/") {
		return badPath("a link that leaves the folder that is copied")
	}
	return nil
}
