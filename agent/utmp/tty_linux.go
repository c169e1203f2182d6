package utmp

import (
	"bytes"
	"os"
	"strconv"
)

// TerminalOf returns the pseudo-terminal that a process has as its controlling one,
// as the kernel says it, without /dev/; "" for none. ancestor has to be among the
// parents of the process: who names a stranger's process is told nothing.
func TerminalOf(pid, ancestor int) string {
	line := ""
	for n, at := 0, pid; n < maxParents; n++ {
		parent, tty, ok := stat(at)
		if !ok {
			return ""
		}
		if n == 0 {
			line = pts(tty)
		}
		if parent == ancestor {
			return line
		}
		at = parent
	}
	return ""
}

// maxParents is how far up is looked; our choice: a session process, and what opened a
// login for it.
const maxParents = 4

// stat reads parent and terminal of "pid (name) state ppid pgrp session tty …". The
// name may hold anything, so fields are counted from the last ")".
func stat(pid int) (parent int, tty uint64, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, false
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 5 {
		return 0, 0, false
	}
	parent, err1 := strconv.Atoi(string(f[1]))
	dev, err2 := strconv.ParseInt(string(f[4]), 10, 64)
	return parent, uint64(uint32(dev)), err1 == nil && err2 == nil
}

// Majors of pseudo-terminals (devices.txt of Linux), 256 minors each of old, all in
// the first one by now.
const (
	firstPTS = 136
	lastPTS  = 143
)

// pts names the pseudo-terminal of a device number, or "".
func pts(dev uint64) string {
	major, minor := dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	if major < firstPTS || major > lastPTS {
		return ""
	}
	return "pts/" + strconv.FormatUint((major-firstPTS)<<8|minor, 10)
}
