package terminal

import "golang.org/x/sys/windows"

// hush stops the console from showing what is typed; lines stay lines.
func hush(fd int) error {
	var mode uint32
	if err := windows.GetConsoleMode(windows.Handle(fd), &mode); err != nil {
		return err
	}
	mode &^= windows.ENABLE_ECHO_INPUT
	mode |= windows.ENABLE_PROCESSED_INPUT | windows.ENABLE_LINE_INPUT | windows.ENABLE_PROCESSED_OUTPUT
	return windows.SetConsoleMode(windows.Handle(fd), mode)
}

// discard drops what was typed and not read.
func discard(fd int) error { return windows.FlushConsoleInputBuffer(windows.Handle(fd)) }
