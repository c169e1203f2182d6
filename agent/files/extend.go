package files

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"sync"
)

// What the library does not serve of OpenSSH's extensions (its PROTOCOL, section 4) is
// served in front of it. Requests and answers are packets: a length (4 bytes), a type (1),
// which the length counts, and the rest. An extended request goes on with an id (4), the
// extension's name and its own fields, strings with a length (4) in front of them.
//
//	limits@openssh.com       nothing       -> an extended reply: four numbers of 8 bytes
//	fsync@openssh.com        handle        -> a status, when the file is on the disk
//	expand-path@openssh.com  path          -> a name, as of realpath
//
// Example: limits as request 7 is `00000017 c8 00000007 00000012 limits@openssh.com`.
// Others are answered with "operation unsupported", by name where we know why.

// Types of packets (draft-ietf-secsh-filexfer-02, section 3).
const (
	typeVersion       = 2
	typeWrite         = 6
	typeRealpath      = 16
	typeStatus        = 101
	typeExtended      = 200
	typeExtendedReply = 201
)

// Codes of a status (the same, section 7).
const (
	statusNoSuchFile  = 2
	statusUnsupported = 8
)

const (
	maxPacket   = 256 << 10        // the library's; also OpenSSH's
	maxData     = maxPacket - 1024 // of one read or write, as OpenSSH's server says it
	maxExtended = 12 << 10         // of an extended request, which is two paths and a name; our choice
)

// offered is what VERSION says besides what the library does.
var offered = [...][2]string{{"fsync@openssh.com", "1"}, {"limits@openssh.com", "1"}, {"expand-path@openssh.com", "1"}}

// refused are extensions that clients of OpenSSH ask for, and why there are none.
var refused = map[string]string{
	"copy-data":                      "files are not copied within the machine over sftp: cp in a shell does it",
	"lsetstat@openssh.com":           "modes and times of links are not changed",
	"users-groups-by-id@openssh.com": "names of users and groups are not told",
	"fstatvfs@openssh.com":           "free space is asked for by a path",
	"home-directory":                 "homes of users are not told",
}

// syncAt is the offset at which a write of nothing means fsync: the library gives it to
// the file whose handle the client named, which only the library knows.
const syncAt = math.MaxInt64

var (
	errUnsyncable = errors.New("a file that is open for reading has nothing to be synced")
	errImpatient  = errors.New("too many requests before the first answer")
)

// WriteAt writes, or brings what was written to the disk.
func (f *file) WriteAt(b []byte, off int64) (int, error) {
	if len(b) == 0 && off == syncAt {
		return 0, f.Sync()
	}
	return f.File.WriteAt(b, off)
}

// ReadAt reads. What WriteAt knows comes here for a file that is only read.
func (f *file) ReadAt(b []byte, off int64) (int, error) {
	if len(b) == 0 && off == syncAt {
		return 0, errUnsyncable
	}
	return f.File.ReadAt(b, off)
}

// requests are what the client sends, as the library gets it. It is read by one goroutine.
type requests struct {
	r    io.Reader
	out  *answers
	home string // as clients write it

	ready []byte // of a packet, not read yet
	pass  int64  // bytes of the packet after these that go through as they are
}

// Read gives the next bytes.
func (q *requests) Read(p []byte) (n int, err error) {
	for len(q.ready) == 0 && q.pass == 0 {
		if err := q.next(); err != nil {
			return 0, err
		}
	}
	if len(q.ready) > 0 {
		n = copy(p, q.ready)
		q.ready = q.ready[n:]
		return n, nil
	}
	n, err = q.r.Read(p[:min(int64(len(p)), q.pass)])
	q.pass -= int64(n)
	return n, err
}

// next looks at the head of a packet. One that makes no sense is left to the library,
// which ends the session.
func (q *requests) next() error {
	head := make([]byte, 5)
	if _, err := io.ReadFull(q.r, head[:4]); err != nil {
		return err
	}
	length := int64(binary.BigEndian.Uint32(head))
	if length == 0 {
		q.ready = head[:4]
		return nil
	}
	if err := q.rest(head[4:]); err != nil {
		return err
	}
	if head[4] != typeExtended || length > maxExtended {
		q.ready, q.pass = head, length-1
		return nil
	}
	packet := make([]byte, 4+length)
	copy(packet, head)
	if err := q.rest(packet[5:]); err != nil {
		return err
	}
	return q.extended(packet)
}

// rest reads on in a packet, in which there is no end.
func (q *requests) rest(b []byte) error {
	_, err := io.ReadFull(q.r, b)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// extended answers an extended request, or makes it one that the library knows.
func (q *requests) extended(packet []byte) error {
	f := fields{packet[5:]}
	id, name := f.number(), f.text()
	if f.rest == nil { // too short
		q.ready = packet
		return nil
	}
	switch name {
	case "limits@openssh.com":
		return q.out.answer(typeExtendedReply, id, numbers(maxPacket, maxData, maxData, maxOpen))
	case "fsync@openssh.com":
		if handle := f.text(); f.rest != nil {
			q.ready = pack(typeWrite, id, written(handle), numbers(syncAt), []byte{0, 0, 0, 0})
			return nil
		}
	case "expand-path@openssh.com":
		if path := f.text(); f.rest != nil {
			return q.expand(id, path)
		}
	}
	if why, known := refused[name]; known {
		return q.out.answer(typeStatus, id, status(statusUnsupported, why))
	}
	q.ready = packet
	return nil
}

// expand asks the library for the path that "~" stands for.
func (q *requests) expand(id uint32, path string) error {
	if rest, home := strings.CutPrefix(path, "~"); home {
		if rest != "" && rest[0] != '/' {
			return q.out.answer(typeStatus, id, status(statusNoSuchFile, "homes of other users are not told: write the path"))
		}
		path = q.home + rest
	}
	q.ready = pack(typeRealpath, id, written(path))
	return nil
}

// answers are what the library says, with ours between its packets.
type answers struct {
	w io.Writer

	mu      sync.Mutex
	head    []byte // guarded by mu; of the packet that is being written, until its length is known
	left    int64  // guarded by mu; bytes of that packet that are to come
	waiting []byte // guarded by mu; our packets
	greeted bool   // guarded by mu; VERSION, which is the first packet, is out
}

// Write takes what the library says. It writes no packet together with another.
func (a *answers) Write(p []byte) (n int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	whole := p
	if !a.greeted {
		return len(p), a.greetLocked(p)
	}
	for len(p) > 0 {
		if a.left > 0 {
			n := min(a.left, int64(len(p)))
			a.left, p = a.left-n, p[n:]
			continue
		}
		n := min(4-len(a.head), len(p))
		a.head, p = append(a.head, p[:n]...), p[n:]
		if len(a.head) == 4 {
			a.left, a.head = int64(binary.BigEndian.Uint32(a.head)), a.head[:0]
		}
	}
	if n, err = a.w.Write(whole); err != nil {
		return n, err
	}
	return n, a.flushLocked()
}

// greetLocked keeps the first packet until it is complete, and adds to it what we serve.
func (a *answers) greetLocked(p []byte) error {
	a.head = append(a.head, p...)
	if len(a.head) < 5 || int64(len(a.head)) < 4+int64(binary.BigEndian.Uint32(a.head)) {
		return nil
	}
	packet := a.head
	a.head, a.greeted = nil, true
	if packet[4] == typeVersion {
		for _, x := range offered {
			packet = append(append(packet, written(x[0])...), written(x[1])...)
		}
		binary.BigEndian.PutUint32(packet, uint32(len(packet)-4))
	}
	if _, err := a.w.Write(packet); err != nil {
		return err
	}
	return a.flushLocked()
}

// answer says something of our own as soon as no packet of the library's is half written.
func (a *answers) answer(kind byte, id uint32, body []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) > maxPacket { // of a client that never greets us
		return errImpatient
	}
	a.waiting = append(a.waiting, pack(kind, id, body)...)
	return a.flushLocked()
}

func (a *answers) flushLocked() error {
	if !a.greeted || a.left > 0 || len(a.head) > 0 || len(a.waiting) == 0 {
		return nil
	}
	_, err := a.w.Write(a.waiting)
	a.waiting = nil
	return err
}

// fields are what is left of a packet; nil when it was too short.
type fields struct{ rest []byte }

func (f *fields) number() uint32 {
	if len(f.rest) < 4 {
		f.rest = nil
		return 0
	}
	n := binary.BigEndian.Uint32(f.rest)
	f.rest = f.rest[4:]
	return n
}

func (f *fields) text() string {
	n := f.number()
	if f.rest == nil || uint64(n) > uint64(len(f.rest)) {
		f.rest = nil
		return ""
	}
	s := string(f.rest[:n])
	f.rest = f.rest[n:]
	return s
}

// pack makes a packet.
func pack(kind byte, id uint32, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	b := binary.BigEndian.AppendUint32(nil, uint32(5+len(body)))
	b = binary.BigEndian.AppendUint32(append(b, kind), id)
	return append(b, body...)
}

// written is a string as packets have it.
func written(s string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

func numbers(list ...uint64) (b []byte) {
	for _, n := range list {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// status is the body of one, without a language.
func status(code uint32, why string) []byte {
	return append(append(binary.BigEndian.AppendUint32(nil, code), written(why)...), 0, 0, 0, 0)
}
