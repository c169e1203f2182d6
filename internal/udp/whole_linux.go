package udp

import (
	"cmp"
	"syscall"

	"golang.org/x/sys/unix"
)

// setWhole switches fragments off for what the socket sends, and on again as the
// system has them at first.
func setWhole(raw syscall.RawConn, v4, whole bool) error {
	level, option, how := unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_WANT
	if whole {
		how = unix.IPV6_PMTUDISC_DO
	}
	if v4 {
		level, option, how = unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_WANT
		if whole {
			how = unix.IP_PMTUDISC_DO
		}
	}
	var failed error
	err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, how) })
	return cmp.Or(err, failed)
}
