//go:build !linux

package files

import (
	"os"

	"github.com/pkg/sftp"
)

// volume is for Linux alone; clients do without.
func volume(*os.File) (*sftp.StatVFS, error) { return nil, sftp.ErrSSHFxOpUnsupported }
