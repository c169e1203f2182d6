package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// echoing is what runs on the target's terminal: a program that answers every key,
// as an editor or a line editor does.
const echoing = "stty raw -echo; printf '#\\r'; exec cat"

// openTime is how long a session may take to open, and lostKey how long a key may
// take to show, before we give up; our choice.
const (
	openTime = 30 * time.Second
	lostKey  = 10 * time.Second
)

// alphabet is what is typed: no character of the words in which mosh tells of a
// lost network, and no escape of any client.
const alphabet = "!$%&*+,/;<=>?@_{|}"

// lineKeys is how many keys are typed before the cursor goes back to the left
// edge. It is no multiple of the alphabet: what shows a screen's differences only,
// as mosh does, must show every key.
const lineKeys = 60

// errEnded is what is left when a client has ended by itself.
var errEnded = errors.New("the session ended")

// terminal is a client on a terminal, with us at the keyboard.
type terminal struct {
	keyboard *os.File
	shown    chan glyph
	typed    int
}

// glyph is one printed character and when it came.
type glyph struct {
	c  byte
	at time.Time
}

// open starts a subject's session and waits until the program on the target runs.
func (s *stage) open(x subject, h *netlab.Host) (*terminal, error) {
	if x.missing != nil {
		return nil, x.missing
	}
	cmd, err := x.shell(h, echoing)
	if err != nil {
		return nil, err
	}
	t, err := s.start(cmd)
	if err != nil {
		return nil, err
	}
	if _, err := t.await('#', openTime); err != nil {
		return nil, fmt.Errorf("the session did not open: %v", err)
	}
	return t, nil
}

// start runs a command on a new terminal of 200 columns.
func (s *stage) start(cmd *exec.Cmd) (*terminal, error) {
	master, slave, err := openPTY()
	if err != nil {
		return nil, err
	}
	defer slave.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	if err := cmd.Start(); err != nil {
		_ = master.Close()
		return nil, err
	}
	t := &terminal{keyboard: master, shown: make(chan glyph, 1<<16)}
	read := make(chan struct{})
	go func() { t.read(); close(read) }()
	s.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = master.Close()
		<-read
	})
	return t, nil
}

func openPTY() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = master.Close()
		}
	}()
	raw, err := master.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var n int
	var fail error
	err = raw.Control(func(fd uintptr) {
		n, fail = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		fail = errors.Join(fail, unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0),
			unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 200}))
	})
	if err = errors.Join(err, fail); err != nil {
		return nil, nil, err
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	return master, slave, err
}

// read passes on what the client shows, without sequences that only move the
// cursor or change colours.
func (t *terminal) read() {
	defer close(t.shown)
	b := make([]byte, 32768)
	var e escapes
	for {
		n, err := t.keyboard.Read(b)
		now := time.Now()
		for _, c := range b[:n] {
			if e.visible(c) {
				select {
				case t.shown <- glyph{c, now}:
				default: // nobody looks, and nobody will
				}
			}
		}
		if err != nil {
			return
		}
	}
}

// escapes is how far we are in a control sequence.
type escapes int

const (
	plain escapes = iota
	escaped
	inCSI    // until a letter
	inString // OSC, DCS and the like, until BEL or ESC
	charset  // one more byte
)

// visible takes the next byte and reports whether it is shown as a character.
func (e *escapes) visible(c byte) bool {
	switch {
	case c == 0x1b:
		*e = escaped
	case *e == escaped:
		*e = plain
		switch c {
		case '[':
			*e = inCSI
		case ']', 'P', '^', '_', 'X':
			*e = inString
		case '(', ')', '*', '+', '#':
			*e = charset
		}
	case *e == inCSI:
		if c >= 0x40 && c <= 0x7e {
			*e = plain
		}
	case *e == inString:
		if c == 0x07 {
			*e = plain
		}
	case *e == charset:
		*e = plain
	default:
		return c > ' ' && c < 0x7f
	}
	return false
}

// await returns when a character shows.
func (t *terminal) await(c byte, within time.Duration) (time.Time, error) {
	deadline := time.After(within)
	for {
		select {
		case g, open := <-t.shown:
			if !open {
				return time.Time{}, errEnded
			}
			if g.c == c {
				return g.at, nil
			}
		case <-deadline:
			return time.Time{}, fmt.Errorf("nothing within %v", within)
		}
	}
}

// press types the next key without waiting and returns it.
func (t *terminal) press() (byte, time.Time, error) {
	for len(t.shown) > 0 {
		<-t.shown
	}
	key := alphabet[t.typed%len(alphabet)]
	text := []byte{key}
	if t.typed++; t.typed%lineKeys == 0 {
		text = []byte{'\r', key}
	}
	at := time.Now()
	_, err := t.keyboard.Write(text)
	return key, at, err
}

// key types the next key and returns how long it took to show.
func (t *terminal) key(within time.Duration) (time.Duration, error) {
	key, start, err := t.press()
	if err != nil {
		return 0, err
	}
	at, err := t.await(key, within)
	return at.Sub(start), err
}
