//go:build !linux

package listen

import (
	"context"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// Socket listens at a path where nothing is, with mode 0600. Closing the listener removes
// what was made. On Windows a mode keeps nobody out.
//
// The socket is made in a folder of its own first: until its mode is 0600, nobody else may
// even see it.
func Socket(ctx context.Context, path string) (net.Listener, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fs.ErrExist
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".t")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	hidden := filepath.Join(dir, "s")
	var config net.ListenConfig
	made, err := config.Listen(ctx, "unix", hidden)
	if err != nil {
		return nil, err
	}
	l := made.(*net.UnixListener)
	l.SetUnlinkOnClose(false)
	err = os.Chmod(hidden, 0o600)
	if err == nil {
		err = os.Rename(hidden, path)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return &socket{UnixListener: l, path: path}, nil
}

// socket takes its file along.
type socket struct {
	*net.UnixListener
	path string
	once sync.Once
}

// Close removes the file, then ends the listener, and is done when it returns. A
// second call leaves alone what has that name by then.
func (l *socket) Close() (err error) {
	l.once.Do(func() {
		_ = os.Remove(l.path)
		err = l.UnixListener.Close()
	})
	return err
}
