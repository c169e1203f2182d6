package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How many processes and threads there may be; our choices. Of what the agent's own
// group and the machine have room for, all sessions together get three quarters: in
// the rest the agent starts, answers and is restarted, whatever sessions do.
const (
	// MaxProcesses bounds one session, with what it leaves running: far above what a
	// person or a build starts.
	MaxProcesses = 4096
	// ofOne is the part of all that one session may have where that is less.
	ofOne = 4
	// leastProcesses is enough for a session process, whose threads count, and a shell.
	leastProcesses = 32
)

const (
	// agentGroup is the group of the agent itself inside of its unit's, which the unit
	// names (DelegateSubgroup). Only so can the unit's group limit its other children:
	// one that does may hold no processes, and a service manager that puts the next
	// agent there while programs go on could not start it.
	agentGroup = "agent"
	// sessionsGroup holds the groups with limits, of all sessions of all agents there.
	sessionsGroup = "sessions"
)

// limits is a hierarchy in which processes are counted. The zero value counts none.
type limits struct {
	dir string // of the groups of sessions; "" where there are no limits
	one int    // how many processes a session may have
	own bool   // an older hierarchy of its own (cgroup v1)
}

// openLimits finds out where processes can be counted, below the group dir of this
// process. groups is where the groups of sessions belong then.
func openLimits(dir string) (groups string, l limits, err error) {
	unit := filepath.Dir(dir)
	if filepath.Base(dir) != agentGroup || !strings.HasSuffix(unit, ".service") {
		l, err = openOld()
		return dir, l, err
	}
	if err := enable(unit); err != nil {
		return dir, limits{}, fmt.Errorf("limiting processes: %v", err)
	}
	l, err = limit(unit)
	if err == nil {
		err = enable(l.dir)
	}
	if err != nil {
		return dir, limits{}, fmt.Errorf("limiting processes: %v", err)
	}
	return l.dir, l, nil
}

// openOld finds the hierarchy of cgroup v1 that counts, which may hold processes
// anywhere.
func openOld() (limits, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return limits{}, fmt.Errorf("limiting processes: %v", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return limits{}, fmt.Errorf("limiting processes: %v", err)
	}
	dir, err := locateOld(string(groups), string(mounts))
	if err != nil {
		return limits{}, err
	}
	l, err := limit(dir)
	if err != nil {
		return limits{}, fmt.Errorf("limiting processes: %v", err)
	}
	l.own = true
	return l, nil
}

// locateOld is locate for the hierarchy that counts.
func locateOld(groups, mounts string) (string, error) {
	for line := range strings.Lines(groups) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 || !slices.Contains(strings.Split(parts[1], ","), "pids") || slices.Contains(strings.Split(parts[2], "/"), "..") {
			continue
		}
		for mount := range strings.Lines(mounts) {
			before, after, _ := strings.Cut(mount, " - ")
			at, kind := strings.Fields(before), strings.Fields(after)
			if len(at) < 5 || len(kind) < 3 || kind[0] != "cgroup" || !slices.Contains(strings.Split(kind[2], ","), "pids") {
				continue
			}
			if rel, err := filepath.Rel(at[3], parts[2]); err == nil && filepath.IsLocal(rel) {
				return filepath.Join(at[4], rel), nil
			}
		}
	}
	return "", errors.New("limiting processes: the agent runs in no group of its own below a unit of systemd 254 or newer (DelegateSubgroup)")
}

// enable lets the children of a group have limits.
func enable(dir string) error {
	return (&Group{dir: dir}).write("cgroup.subtree_control", "+pids")
}

// limit makes the group of all sessions below dir.
func limit(dir string) (limits, error) {
	room, err := room(dir)
	if err != nil {
		return limits{}, err
	}
	l := limits{dir: filepath.Join(dir, sessionsGroup), one: max(leastProcesses, min(MaxProcesses, room/ofOne))}
	if err := os.Mkdir(l.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return limits{}, err
	}
	return l, setLimit(l.dir, max(leastProcesses, room-room/4))
}

// room is how many processes there may be in a group: as many as it, those around it
// and the machine allow.
func room(dir string) (int, error) {
	least, known := 0, false
	note := func(path string) error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		word := strings.TrimSpace(string(text))
		if word == "max" {
			return nil
		}
		n, err := strconv.Atoi(word)
		if err == nil && (!known || n < least) {
			least, known = n, true
		}
		return err
	}
	for _, path := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		if err := note(path); err != nil {
			return 0, err
		}
	}
	for ; note(filepath.Join(dir, pidsMax)) == nil; dir = filepath.Dir(dir) { // the root of the hierarchy has none
	}
	return least, nil
}

const pidsMax = "pids.max"

func setLimit(dir string, n int) error {
	return (&Group{dir: dir}).write(pidsMax, strconv.Itoa(n))
}

// limit gives the group its limit, also where an agent left it that knew of none.
func (g *Group) limit(l limits) error {
	if l.dir == "" {
		return nil
	}
	dir := g.dir
	if l.own {
		dir = filepath.Join(l.dir, filepath.Base(g.dir))
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("limiting a session's processes: %v", err)
		}
		g.counted = dir
	}
	if err := setLimit(dir, l.one); err != nil {
		return fmt.Errorf("limiting a session's processes: %v", err)
	}
	return nil
}

// sweep removes what is left of groups that have ended, of those that begin so and,
// when it is old, of others.
func (l limits) sweep(prefix string, groups string) {
	if !l.own {
		return
	}
	entries, _ := os.ReadDir(l.dir)
	for _, e := range entries {
		info, err := e.Info()
		_, there := os.Stat(filepath.Join(groups, e.Name()))
		if err != nil || !e.IsDir() || !errors.Is(there, fs.ErrNotExist) {
			continue
		}
		if strings.HasPrefix(e.Name(), prefix) || strings.HasPrefix(e.Name(), anyPrefix) && time.Since(info.ModTime()) > strayAfter {
			_ = removeAll(filepath.Join(l.dir, e.Name())) // the kernel refuses while a process is in it
		}
	}
}
