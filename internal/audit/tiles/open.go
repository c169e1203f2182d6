package tiles

import (
	"fmt"
	"io/fs"
	"os"
)

// openRegular opens a file of a folder that may be an attacker's, to read it. A FIFO in
// the place of a tile would hold the reader up for ever, in a call that no signal to
// end gets through; a link would have it read what is elsewhere, a device perhaps. So
// nothing is waited for, no link leads anywhere, and nothing but a file of bytes is
// taken. Package os keeps links of folders within root.
func openRegular(root *os.Root, name string) (*os.File, error) {
	info, err := root.Lstat(name) // first, because opening some devices does something
	if err == nil {
		err = regular(info, name)
	}
	if err != nil {
		return nil, err
	}
	f, err := root.OpenFile(name, os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil { // again: it may be another by now
		err = regular(info, name)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func regular(info fs.FileInfo, name string) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("opening %q: not a regular file", name)
	}
	return nil
}
