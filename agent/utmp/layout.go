package utmp

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"time"
)

// The types of a record that we use, from utmp(5).
const (
	initProcess = 5
	userProcess = 7
	deadProcess = 8
)

// Sizes of a record's texts, from utmp(5).
const (
	lineSize = 32
	idSize   = 4
	userSize = 32
	hostSize = 256
)

// Places in a record that are the same on all architectures.
const (
	pidAt  = 4
	lineAt = 8
	idAt   = lineAt + lineSize
	userAt = idAt + idSize
	hostAt = userAt + userSize
	exitAt = hostAt + hostSize // 332: two numbers of 16 bits
)

// layout is what differs.
type layout struct {
	size    int // of a record
	timeAt  int
	wide    bool // seconds and microseconds of 64 bits, else of 32
	lastlog int  // size of a record of lastlog
}

// layouts are glibc's: systems of 64 bits that run programs of 32 bits, which share
// the files, have their times in 32 bits.
var layouts = map[string]layout{
	"amd64": {size: 384, timeAt: 340, lastlog: 4 + lineSize + hostSize},
	"arm64": {size: 400, timeAt: 344, wide: true, lastlog: 8 + lineSize + hostSize},
}

// here is the layout of this machine; not ok where it is not known.
func here() (l layout, ok bool) {
	l, ok = layouts[runtime.GOARCH]
	return l, ok && runtime.GOOS == "linux"
}

// encode makes a record of a type.
func (l layout) encode(kind int16, r Login) []byte {
	b := make([]byte, l.size)
	binary.NativeEndian.PutUint16(b, uint16(kind))
	binary.NativeEndian.PutUint32(b[pidAt:], uint32(r.PID))
	copy(b[lineAt:lineAt+lineSize], r.Line)
	copy(b[idAt:idAt+idSize], id(r.Line))
	if kind == userProcess {
		copy(b[userAt:userAt+userSize], r.User)
		copy(b[hostAt:hostAt+hostSize], printable(r.Host))
		binary.NativeEndian.PutUint32(b[exitAt+4:], uint32(r.PID)) // ut_session: the program leads one
	}
	l.putTime(b[l.timeAt:], r.At)
	return b
}

func (l layout) putTime(b []byte, at time.Time) {
	if l.wide {
		binary.NativeEndian.PutUint64(b, uint64(at.Unix()))
		binary.NativeEndian.PutUint64(b[8:], uint64(at.Nanosecond()/1000))
		return
	}
	binary.NativeEndian.PutUint32(b, uint32(at.Unix())) // good until 2106 for those who read it unsigned
	binary.NativeEndian.PutUint32(b[4:], uint32(at.Nanosecond()/1000))
}

// encodeLast makes a record of lastlog.
func (l layout) encodeLast(r Login) []byte {
	b := make([]byte, l.lastlog)
	n := l.lastlog - lineSize - hostSize
	if n == 8 {
		binary.NativeEndian.PutUint64(b, uint64(r.At.Unix()))
	} else {
		binary.NativeEndian.PutUint32(b, uint32(r.At.Unix()))
	}
	copy(b[n:n+lineSize], r.Line)
	copy(b[n+lineSize:], printable(r.Host)[:min(len(r.Host), hostSize)])
	return b
}

// decode reads what we need of a record.
func (l layout) decode(b []byte) (kind int16, r Login) {
	text := func(at, size int) string {
		s, _, _ := bytes.Cut(b[at:at+size], []byte{0})
		return string(s)
	}
	r = Login{PID: int(int32(binary.NativeEndian.Uint32(b[pidAt:]))), Line: text(lineAt, lineSize), User: text(userAt, userSize), Host: text(hostAt, hostSize)}
	return int16(binary.NativeEndian.Uint16(b)), r
}

// id is what records of one terminal have in common: the end of its name.
func id(line string) string { return line[max(0, len(line)-idSize):] }

// printable keeps control characters from the terminals of those who run who(1)
// (attack J1).
func printable(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
