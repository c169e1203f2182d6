package files

import (
	"os"
	"syscall"

	"github.com/pkg/sftp"
)

func volume(d *os.File) (*sftp.StatVFS, error) {
	var s syscall.Statfs_t
	if err := syscall.Fstatfs(int(d.Fd()), &s); err != nil {
		return nil, err
	}
	return &sftp.StatVFS{
		Bsize: uint64(s.Bsize), Frsize: uint64(s.Frsize), Blocks: s.Blocks, Bfree: s.Bfree, Bavail: s.Bavail,
		Files: s.Files, Ffree: s.Ffree, Favail: s.Ffree, Flag: uint64(s.Flags), Namemax: uint64(s.Namelen),
	}, nil
}
