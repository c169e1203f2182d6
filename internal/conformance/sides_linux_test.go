package conformance

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/tucdesk/tucdesk/internal/netlab"
	"github.com/tucdesk/tucdesk/internal/programtest"
)

// serveSides makes two files of five megabytes, and serves one at a port here and the
// other at the same port there: what a forward brings says which end has dialled. A
// socket's name is the same file at both ends, so that its server looks who has dialled.
func (r *rig) serveSides() {
	r.port = programtest.Port(r.t)
	far, near := r.noise("big"), r.noise("near")
	r.env = append(r.env, "PORT="+r.port, "BIG="+r.path("big"), "SOCK="+r.path("sender.sock"),
		fmt.Sprintf("THERE=%x  -", sha256.Sum256(far)), fmt.Sprintf("HERE=%x  -", sha256.Sum256(near)))
	r.serveOn(r.here, "tcp", "127.0.0.1:"+r.port, func(net.Conn) []byte { return near })
	r.serveOn(r.there, "tcp", "127.0.0.1:"+r.port, func(net.Conn) []byte { return far })
	home := space(r.t, r.there)
	r.serveOn(r.there, "unix", r.path("sender.sock"), func(c net.Conn) []byte {
		if of, err := spaceOfPeer(c); err != nil || of != home {
			return near
		}
		return far
	})
}

func (r *rig) noise(name string) []byte {
	data := make([]byte, 5_000_000)
	rand.Read(data)
	r.write(name, string(data))
	return data
}

// serveOn answers whoever connects on that host, until the test's end.
func (r *rig) serveOn(h *netlab.Host, network, addr string, answer func(net.Conn) []byte) {
	r.t.Helper()
	var l net.Listener
	if err := h.Do(func() (err error) { l, err = net.Listen(network, addr); return err }); err != nil {
		r.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_, _ = c.Write(answer(c))
				_ = c.Close()
			})
		}
	})
	r.t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
}

// space names the network namespace of a host.
func space(t netlab.T, h *netlab.Host) (name string) {
	t.Helper()
	if err := h.Do(func() (err error) { name, err = os.Readlink("/proc/thread-self/ns/net"); return err }); err != nil {
		t.Fatalf("asking for a namespace: %v", err)
	}
	return name
}

// spaceOfPeer names that of the process at the other end of a socket.
func spaceOfPeer(c net.Conn) (string, error) {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return "", err
	}
	var peer *syscall.Ucred
	if fail := raw.Control(func(fd uintptr) {
		peer, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); fail != nil {
		return "", fail
	}
	if err != nil {
		return "", err
	}
	return os.Readlink(fmt.Sprintf("/proc/%d/ns/net", peer.Pid))
}
