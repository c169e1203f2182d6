package cgroup

import (
	"bytes"
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

// Parent is where the groups of one agent are made.
type Parent struct {
	dir    string
	prefix string
	limits limits
	why    error // sessions have no limits; nil when they have
}

// anyPrefix begins the name of every group of every agent.
const anyPrefix = "tucdesk-"

// endWithin is how long killed processes may take to disappear, for those that
// hang in a system call; our choice.
const endWithin = 2 * time.Second

// Open finds the group of this process and tries whether groups can be made below
// it; the error says why not. owner, which must be good for a file name, sets the
// groups apart from those of other agents.
func Open(owner string) (*Parent, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("looking for control groups: only root can make any")
	}
	dir, err := own()
	if err != nil {
		return nil, fmt.Errorf("looking for control groups: %v", err)
	}
	p := &Parent{prefix: anyPrefix + owner + "-"}
	p.dir, p.limits, p.why = openLimits(dir)
	_ = os.Remove(filepath.Join(p.dir, p.prefix+"probe")) // of an agent that was killed while it tried; the kernel removes no group with processes
	g, err := p.Make("probe")
	if err != nil {
		return nil, err
	}
	return p, g.End()
}

// own returns the folder of this process' group in the unified hierarchy.
func own() (string, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	return locate(string(groups), string(mounts))
}

// locate puts the line "0::/path" of the first text together with the mount point
// of a cgroup2 in the second.
func locate(groups, mounts string) (string, error) {
	path, found := "", false
	for line := range strings.Lines(groups) {
		if rest, ok := strings.CutPrefix(line, "0::"); ok {
			path, found = strings.TrimSuffix(rest, "\n"), true
		}
	}
	if !found || slices.Contains(strings.Split(path, "/"), "..") {
		return "", errors.New("this process is in no group of the unified hierarchy that is to be seen from here")
	}
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		if rel, err := filepath.Rel(fields[3], path); err == nil && filepath.IsLocal(rel) {
			return filepath.Join(fields[4], rel), nil
		}
	}
	return "", errors.New("the unified hierarchy is not mounted")
}

// Unlimited says why a session may start as many processes as it likes; nil means that
// its group bounds them.
func (p *Parent) Unlimited() error { return p.why }

// Make makes a group; name must be good for a file name.
func (p *Parent) Make(name string) (*Group, error) {
	g := &Group{dir: filepath.Join(p.dir, p.prefix+name)}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("making a control group: %v", err)
	}
	if _, err := os.Stat(filepath.Join(g.dir, "cgroup.kill")); err != nil {
		_ = os.Remove(g.dir)
		return nil, errors.New("making a control group: this kernel cannot kill a group")
	}
	if err := g.limit(p.limits); err != nil {
		return nil, errors.Join(err, g.End())
	}
	return g, nil
}

// strayAfter is when an empty group of another owner counts as left behind; our
// choice, far above the moment between Make and Add.
const strayAfter = time.Minute

// Sweep ends what an agent of the same owner left behind that could not end it, and
// removes the empty groups of agents that never came back. What it had left on purpose
// is returned.
func (p *Parent) Sweep() (left []Left, err error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, fmt.Errorf("looking for left control groups: %v", err)
	}
	var errs []error
	for _, e := range entries {
		g := &Group{dir: filepath.Join(p.dir, e.Name())}
		switch info, err := e.Info(); {
		case err != nil || !e.IsDir():
		case strings.HasPrefix(e.Name(), p.prefix):
			if mark, marked := g.mark(); marked && !g.empty() {
				errs = append(errs, g.limit(p.limits))
				left = append(left, Left{g, mark})
				continue
			}
			errs = append(errs, g.End())
		case strings.HasPrefix(e.Name(), anyPrefix) && time.Since(info.ModTime()) > strayAfter:
			_ = os.Remove(g.dir) // the kernel refuses while a process is in it
		}
	}
	p.limits.sweep(p.prefix, p.dir)
	return left, errors.Join(errs...)
}

// leftPrefix begins the name of the group that marks another as left.
const leftPrefix = "left-"

// Leave leaves what is in the group running and marks it; mark must be good for a file
// name. Without anything in it the group is removed, and left is false. So it is on a
// nil group, of whose programs nobody knows.
func (g *Group) Leave(mark string) (left bool, err error) {
	if g == nil {
		return false, nil
	}
	if g.empty() {
		return false, g.End()
	}
	if err := os.Mkdir(filepath.Join(g.dir, leftPrefix+mark), 0o755); err != nil {
		return false, errors.Join(fmt.Errorf("marking a control group: %v", err), g.End())
	}
	return true, nil
}

// Ended removes the group if nothing is in it any more, and reports whether it is gone.
func (g *Group) Ended() bool { return g.removed() || g.empty() && g.End() == nil }

// removed reports that the group is not there: the kernel removes none with processes.
func (g *Group) removed() bool {
	_, err := os.Stat(g.dir)
	return errors.Is(err, fs.ErrNotExist)
}

// mark is what Leave wrote.
func (g *Group) mark() (mark string, marked bool) {
	entries, _ := os.ReadDir(g.dir)
	for _, e := range entries {
		if mark, marked = strings.CutPrefix(e.Name(), leftPrefix); marked && e.IsDir() {
			return mark, true
		}
	}
	return "", false
}

// Add puts a process into the group. Its children are born there; those that it
// has already stay where they are.
func (g *Group) Add(pid int) error {
	err := g.write("cgroup.procs", strconv.Itoa(pid))
	if err == nil && g.counted != "" {
		err = (&Group{dir: g.counted}).write("cgroup.procs", strconv.Itoa(pid))
	}
	if err != nil {
		return fmt.Errorf("putting a session into its control group: %v", err)
	}
	return nil
}

// End kills every process in the group and removes it. On a nil group, and on one that
// somebody else has removed, it does nothing.
func (g *Group) End() error {
	if g == nil {
		return nil
	}
	if g.removed() {
		g.uncount()
		return nil
	}
	err := g.write("cgroup.kill", "1")
	for pause := time.Millisecond; err == nil && !g.empty(); pause *= 2 {
		if pause > endWithin {
			err = errors.New("killed processes are still there")
			break
		}
		time.Sleep(pause)
	}
	if err == nil {
		err = removeAll(g.dir)
	}
	if err == nil {
		g.uncount()
	}
	if err != nil {
		return fmt.Errorf("ending control group %q: %v", g.dir, err)
	}
	return nil
}

// uncount removes the group that only counts. Where root has moved a process out of the
// other alone it stays, and Sweep tries again.
func (g *Group) uncount() {
	if g.counted != "" {
		_ = removeAll(g.counted)
	}
}

// write changes one of the kernel's files, which are never created.
func (g *Group) write(name, text string) error {
	f, err := os.OpenFile(filepath.Join(g.dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func (g *Group) empty() bool {
	events, err := os.ReadFile(filepath.Join(g.dir, "cgroup.events"))
	return err == nil && bytes.Contains(events, []byte("populated 0\n"))
}

// removeAll removes a group and those that a session of root made inside, the
// innermost first.
func removeAll(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, dir := range slices.Backward(dirs) {
		err = errors.Join(err, os.Remove(dir))
	}
	return err
}
