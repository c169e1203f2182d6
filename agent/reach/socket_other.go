//go:build !linux

package reach

import (
	"context"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/tucdesk/tucdesk/internal/listen"
)

// dialThere connects to what lies at path. These systems connect by name alone, so it looks
// before and after: who exchanges something for a link and back within that moment is not
// found out.
func dialThere(ctx context.Context, d *net.Dialer, path string) (net.Conn, error) {
	before, err := lies(path)
	if err != nil {
		return nil, err
	}
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	after, err := lies(path)
	if err == nil && !os.SameFile(before, after) {
		err = errLinked
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// listenThere listens at path, in the folder that lies there itself as far as a look before
// and after can tell.
func listenThere(ctx context.Context, path string) (net.Listener, error) {
	before, err := lies(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	l, err := listen.Socket(ctx, path)
	if err != nil {
		return nil, err
	}
	after, err := lies(filepath.Dir(path))
	if err == nil && !os.SameFile(before, after) {
		err = errLinked
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// lies is what is at a path in which there are none but the system's links.
func lies(path string) (info fs.FileInfo, err error) {
	err = straight(path, func(at string, elements []string) (int, error) {
		for i, name := range elements {
			at = filepath.Join(at, name)
			if info, err = os.Lstat(at); err != nil {
				return 0, err
			}
			if mode := info.Mode(); mode&fs.ModeSymlink != 0 || i < len(elements)-1 && !mode.IsDir() { // a junction is neither
				return i + 1, nil
			}
		}
		return 0, nil
	})
	return info, err
}
