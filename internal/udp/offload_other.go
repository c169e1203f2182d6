//go:build !linux

package udp

import (
	"errors"
	"net"
	"net/netip"
)

// Other systems have no such offload that we use: every datagram is one call.

func enableOffload(*net.UDPConn) (gso, gro bool) { return false, false }

func sendJoined(*net.UDPConn, []byte, int, netip.AddrPort) error { return errors.ErrUnsupported }

func refusedOffload(err error) bool { return errors.Is(err, errors.ErrUnsupported) }

func lacksOffload(err error) bool { return errors.Is(err, errors.ErrUnsupported) }

type batchReader struct{ sock *net.UDPConn }

func newBatchReader(sock *net.UDPConn, _ bool) *batchReader { return &batchReader{sock: sock} }

func (r *batchReader) read(msgs []Message) (int, error) {
	n, from, err := r.sock.ReadFromUDPAddrPort(msgs[0].Buf)
	if err != nil {
		return 0, err
	}
	msgs[0].N, msgs[0].Addr, msgs[0].SegmentSize = n, unmap(from), 0
	return 1, nil
}
