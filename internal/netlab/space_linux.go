package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// marked begins the name that a host's loopback interface gets, so that a later
// lab can tell which process made it.
const marked = "netlab"

// killTime is how long killed processes may take to end; our choice.
const killTime = 10 * time.Second

// onThread runs f, which may change the namespace of its thread, and puts the
// thread back afterwards. It must not end instead, as Go would have it: the system
// kills processes that were started from a thread with Pdeathsig when the thread
// ends, and any thread may have started some before. The first thread is spared: it
// stands for the whole process in /proc.
func onThread(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			err = onThread(f)
			runtime.UnlockOSThread()
			return
		}
		home, fail := os.Open("/proc/thread-self/ns/net")
		if fail != nil {
			err = fail
			return
		}
		defer home.Close()
		defer func() {
			// A thread that cannot go back must not run anything else.
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}()
		err = f()
	}()
	<-done
	return err
}

// mark names this process: its id, and when it was started, since ids come back.
func mark() string { return fmt.Sprintf("%s %d %s", marked, os.Getpid(), startOf(os.Getpid())) }

// startOf returns when a process started, in the system's ticks, "" when there is
// no such process.
func startOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

// inode returns the number of what a path leads to.
func inode(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}

// processes returns the ids of all other processes by the namespace they are in.
func processes() (map[uint64][]int, error) {
	list, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	spaces := map[uint64][]int{}
	for _, dir := range list {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if ino, err := inode(dir + "/ns/net"); err == nil { // else it has ended
			spaces[ino] = append(spaces[ino], pid)
		}
	}
	return spaces, nil
}

// killNamespaces kills every process in these namespaces, and what they start
// meanwhile, and returns when none is left. Looking at all processes of the machine is
// what it costs, so it looks once for all namespaces of a lab.
func killNamespaces(inodes ...uint64) error {
	deadline := time.Now().Add(killTime)
	for {
		spaces, err := processes()
		if err != nil {
			return err
		}
		var pids []int
		for _, ino := range inodes {
			pids = append(pids, spaces[ino]...)
		}
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end", pids)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("killing process %d: %v", pid, err)
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// killStale kills what runs on hosts whose lab has died without a chance to do it.
func killStale() error {
	own, err := inode("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	spaces, err := processes()
	if err != nil {
		return err
	}
	var stale []uint64
	for ino, pids := range spaces {
		if ino != own && abandoned(pids[0]) {
			stale = append(stale, ino)
		}
	}
	if len(stale) == 0 {
		return nil
	}
	return killNamespaces(stale...)
}

// abandoned reports whether a process runs on a host whose lab is gone.
func abandoned(pid int) bool {
	out, err := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", pid), "--", "ip", "-details", "link", "show", "dev", "lo").Output()
	if err != nil {
		return false // ended, or a namespace without loopback: not ours
	}
	_, alias, found := strings.Cut(string(out), "alias "+marked+" ")
	fields := strings.Fields(alias)
	if !found || len(fields) < 2 {
		return false
	}
	owner, err := strconv.Atoi(fields[0])
	return err == nil && startOf(owner) != fields[1]
}
