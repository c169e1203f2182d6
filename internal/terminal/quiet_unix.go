//go:build linux || darwin

package terminal

import "golang.org/x/sys/unix"

// hush stops the terminal from showing what is typed and changes nothing else: a
// line still ends where Return is pressed. In raw mode a Return that comes before
// the reader has switched back would be no line end any more, and who typed or
// pasted quickly would wait for ever.
func hush(fd int) error {
	mode, err := unix.IoctlGetTermios(fd, getMode)
	if err != nil {
		return err
	}
	mode.Lflag &^= unix.ECHO
	mode.Lflag |= unix.ICANON | unix.ISIG
	mode.Iflag |= unix.ICRNL
	return unix.IoctlSetTermios(fd, setMode, mode)
}
