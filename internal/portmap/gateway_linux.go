package portmap

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
)

// routes is the kernel's table for version 4: a line per route, fields between
// tabs: interface, destination, gateway, flags, ..., metric, mask. Addresses are
// hexadecimal in this machine's byte order.
const (
	routes    = "/proc/thread-self/net/route"
	maxRoutes = 1 << 20 // bytes of it that are read; our choice
)

var errNoRoute = errors.New("there is no default route")

func defaultGateway() (Gateway, error) {
	f, err := os.Open(routes)
	if err != nil {
		return Gateway{}, err
	}
	defer f.Close()
	at, err := parseRoutes(io.LimitReader(f, maxRoutes))
	if err != nil {
		return Gateway{}, err
	}
	return Gateway{Addr: at, Source: sourceTo(at)}, nil
}

// parseRoutes finds the first default route; the kernel lists the one it takes
// before others.
func parseRoutes(r io.Reader) (netip.Addr, error) {
	for s := bufio.NewScanner(r); s.Scan(); {
		field := strings.Fields(s.Text())
		if len(field) < 8 || field[1] != "00000000" || field[7] != "00000000" {
			continue
		}
		raw, err := hex.DecodeString(field[2])
		if err != nil || len(raw) != 4 {
			continue
		}
		var ip [4]byte
		binary.NativeEndian.PutUint32(ip[:], binary.BigEndian.Uint32(raw))
		if a := netip.AddrFrom4(ip); !a.IsUnspecified() {
			return a, nil
		}
	}
	return netip.Addr{}, errNoRoute
}

// sourceTo is our address on the way there. Nothing is sent.
func sourceTo(to netip.Addr) netip.Addr {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, searchPort)))
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
