package netlab

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hardware is the Ethernet address of every interface. A host without address
// resolution sends every frame to its own address, so that no frame needs another
// on its way.
var hardware = [6]byte{0x02, 0, 0, 0, 0, 1}

// Offloads that we take from a kernel's stack: it may leave checksums open and
// trains together. The last two exist from Linux 6.2 on.
const (
	offloadTCP = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	offloadUDP = unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// openTAP makes an Ethernet interface in the calling thread's namespace and
// returns its other end.
func openTAP(name string) (fd int, err error) {
	fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	req, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return -1, fmt.Errorf("making interface %q: %v", name, err)
	}
	var mac struct {
		name   [unix.IFNAMSIZ]byte
		family uint16
		addr   [14]byte
		_      [8]byte
	}
	copy(mac.name[:], name)
	mac.family = unix.ARPHRD_ETHER
	copy(mac.addr[:], hardware[:])
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&mac))); errno != 0 {
		return -1, fmt.Errorf("setting the address of %q: %v", name, errno)
	}
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloadTCP|offloadUDP) != nil {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloadTCP); err != nil {
			return -1, fmt.Errorf("setting offloads of %q: %v", name, err)
		}
	}
	return fd, nil
}
