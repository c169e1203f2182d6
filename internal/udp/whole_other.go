//go:build !linux

package udp

import (
	"errors"
	"syscall"
)

func setWhole(syscall.RawConn, bool, bool) error { return errors.ErrUnsupported }
