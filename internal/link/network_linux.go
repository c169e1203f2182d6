package link

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// groups of rtnetlink messages: links, addresses and routes of both families.
const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV6_ROUTE

// subscribe returns a channel that gets a value when the kernel has said anything
// about addresses or routes; nil when it does not tell, as in a sandbox. What it
// says is not parsed: we look ourselves.
func subscribe() (events <-chan struct{}, stop func()) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, func() {}
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, func() {}
	}
	f := os.NewFile(uintptr(fd), "rtnetlink")
	came := make(chan struct{}, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		b := make([]byte, 1<<16)
		for {
			_, err := f.Read(b)
			if err != nil && !errors.Is(err, unix.ENOBUFS) { // some were lost; that is news too
				return
			}
			poke(came)
		}
	})
	return came, func() {
		_ = f.Close()
		reader.Wait()
	}
}
