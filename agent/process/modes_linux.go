package process

import (
	"os"
	"syscall"
	"unsafe"
)

// iutf8 is IUTF8 of termios(3): erasing removes a whole character. It is on
// unless the other side turns it off; terminals speak UTF-8 today.
const iutf8 = 0x4000

// controls maps opcodes to indexes of c_cc.
var controls = map[byte]int{
	1: syscall.VINTR, 2: syscall.VQUIT, 3: syscall.VERASE, 4: syscall.VKILL, 5: syscall.VEOF, 6: syscall.VEOL,
	7: syscall.VEOL2, 8: syscall.VSTART, 9: syscall.VSTOP, 10: syscall.VSUSP, 12: syscall.VREPRINT,
	13: syscall.VWERASE, 14: syscall.VLNEXT, 18: syscall.VDISCARD,
}

var inputFlags = map[byte]uint32{
	30: syscall.IGNPAR, 31: syscall.PARMRK, 32: syscall.INPCK, 33: syscall.ISTRIP, 34: syscall.INLCR, 35: syscall.IGNCR,
	36: syscall.ICRNL, 37: syscall.IUCLC, 38: syscall.IXON, 39: syscall.IXANY, 40: syscall.IXOFF, 41: syscall.IMAXBEL, 42: iutf8,
}

var localFlags = map[byte]uint32{
	50: syscall.ISIG, 51: syscall.ICANON, 52: syscall.XCASE, 53: syscall.ECHO, 54: syscall.ECHOE, 55: syscall.ECHOK,
	56: syscall.ECHONL, 57: syscall.NOFLSH, 58: syscall.TOSTOP, 59: syscall.IEXTEN, 60: syscall.ECHOCTL, 61: syscall.ECHOKE,
	62: syscall.PENDIN,
}

var outputFlags = map[byte]uint32{
	70: syscall.OPOST, 71: syscall.OLCUC, 72: syscall.ONLCR, 73: syscall.OCRNL, 74: syscall.ONOCR, 75: syscall.ONLRET,
}

// setModes applies the modes that this system has; line speeds mean nothing here.
func setModes(tty *os.File, modes []Mode) error {
	var t syscall.Termios
	if err := termios(tty, syscall.TCGETS, &t); err != nil {
		return err
	}
	t.Iflag |= iutf8
	for _, m := range modes {
		if i, ok := controls[m.Op]; ok {
			t.Cc[i] = control(m.Value)
			continue
		}
		setFlag(&t.Iflag, inputFlags[m.Op], m.Value)
		setFlag(&t.Lflag, localFlags[m.Op], m.Value)
		setFlag(&t.Oflag, outputFlags[m.Op], m.Value)
	}
	return termios(tty, syscall.TCSETS, &t)
}

// control turns the RFC's 255 for "none" into this system's 0.
func control(v uint32) uint8 {
	if v >= 255 {
		return 0
	}
	return uint8(v)
}

func setFlag(field *uint32, flag, value uint32) {
	if value != 0 {
		*field |= flag
	} else {
		*field &^= flag
	}
}

func termios(tty *os.File, request uintptr, t *syscall.Termios) error {
	raw, err := tty.SyscallConn()
	if err != nil {
		return err
	}
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(t)))
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}
