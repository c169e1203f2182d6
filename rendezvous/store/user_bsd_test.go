//go:build unix && !linux

package store

import "syscall"

func diesWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
