package files

import (
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/fleet"
)

// place is one SRC or DST.
type place struct {
	host string // "" is this machine
	user string // at host; "" is the user that the agent runs as
	path string
}

// standard is our standard input as a source, and output as a target.
const standard = "-"

// parsePlace reads [USER@]HOST:PATH, or a path of this machine: one without a colon,
// or with a slash before the first one.
func parsePlace(arg string) (place, error) {
	host, p, remote := strings.Cut(arg, ":")
	if !remote || strings.ContainsAny(host, `/\`) || runtime.GOOS == "windows" && len(host) == 1 {
		if arg == "" {
			return place{}, refusal.New(refusal.BadArgument, "an empty name is neither a file nor HOST:PATH")
		}
		return place{path: arg}, nil
	}
	at := fleet.ParseTarget(host)
	w := place{host: at.Name, user: at.User, path: p}
	if w.host == "" {
		return w, refusal.New(refusal.BadArgument, "%q has no host before the colon; a file of that name is \"./%s\"", arg, arg)
	}
	return w, nil
}

func (p place) remote() bool   { return p.host != "" }
func (p place) standard() bool { return p.host == "" && p.path == standard }

// group is sources that one session can send.
type group struct {
	host, user string
	paths      []string
}

// groups joins neighbours of one origin, so that the order stays the person's.
func groups(sources []place) []group {
	var all []group
	for _, s := range sources {
		if n := len(all); n == 0 || all[n-1].host != s.host || all[n-1].user != s.user {
			all = append(all, group{host: s.host, user: s.user})
		}
		g := &all[len(all)-1]
		g.paths = append(g.paths, s.path)
	}
	return all
}

// check refuses what cannot be copied, before anything is opened.
func check(sources []place, target place, recursive bool) error {
	remote := target.remote()
	for _, s := range sources {
		remote = remote || s.remote()
		if s.standard() && (len(sources) > 1 || recursive) || target.standard() && (len(sources) > 1 || recursive) {
			return refusal.New(refusal.BadArgument, "\"-\" is one stream: it takes or gives one file, without -r")
		}
		if s.remote() && nameless(s.path) {
			return refusal.New(refusal.BadPath, "%q has no name of its own; name the folder or its contents, such as \"%s/*\"", s.path, strings.TrimRight(s.path, "/"))
		}
	}
	if !remote {
		return refusal.New(refusal.BadArgument, "neither side is HOST:PATH")
	}
	return nil
}

// nameless: what comes from a machine must have a name that we know before, or it
// could be called anything (attack I6).
func nameless(p string) bool {
	switch path.Base(p) {
	case ".", "..", "/", "~":
		return true
	}
	return false
}

// local is the absolute path of a source here.
func local(paths []string) ([]string, error) {
	all := make([]string, len(paths))
	for i, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		all[i] = abs
	}
	return all, nil
}
