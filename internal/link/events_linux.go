package link

import (
	"os"

	"golang.org/x/sys/unix"
)

// addressEvents tells when the system's addresses or links change, as rtnetlink(7)
// says it. Without the socket nothing comes, and the look every few seconds has to
// do.
func (l *Link) addressEvents() <-chan struct{} {
	events := make(chan struct{}, 1)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return events
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return events
	}
	socket := os.NewFile(uintptr(fd), "rtnetlink") // its Close wakes Read
	l.wg.Go(func() {
		buf := make([]byte, 8<<10)
		for {
			if _, err := socket.Read(buf); err != nil && l.ctx.Err() != nil {
				return
			}
			select {
			case events <- struct{}{}:
			default:
			}
			if !sleep(l.ctx, settle) { // also keeps an error that stays from spinning
				return
			}
		}
	})
	l.wg.Go(func() {
		<-l.ctx.Done()
		_ = socket.Close()
	})
	return events
}
