//go:build unix

package udp

import "golang.org/x/sys/unix"

func forbidBroadcast(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 0)
}
