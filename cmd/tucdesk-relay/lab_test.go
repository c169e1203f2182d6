package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/relay/credential"
)

// listening is a configuration with other addresses.
func listening(t *testing.T, listen, more string) (path, secret string) {
	t.Helper()
	secret, _ = written(t)
	path = filepath.Join(t.TempDir(), "lab.toml")
	if err := os.WriteFile(path, []byte("listen = \""+listen+"\"\nsecret = '"+secret+"'\n"+more), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, secret
}

// No command line must open a proxy to others by itself.
func TestLabModeOnAPublicAddressWantsTheSecondFlag(t *testing.T) {
	key := filepath.Join(t.TempDir(), "relay.key")
	secure := "secure = \"192.0.2.20:5349\"\nkey = '" + key + "'\n"
	made, _ := listening(t, "127.0.0.1:0", secure)
	if _, talk, exit := command(t, "create-key", "--config", made); exit != 0 {
		t.Fatal(talk)
	}
	for _, tc := range []struct {
		listen, more string
		flags        []string
		exit         int
		want, never  string
	}{
		{"192.0.2.20:3478", "", []string{"--allow-peer", "127.0.0.0/8"}, cli.ExitFailed, "if that is meant: --lab-public", "bind"},
		{"127.0.0.1:0", secure, []string{"--allow-peer", "127.0.0.0/8"}, cli.ExitFailed, "if that is meant: --lab-public", "bind"},
		{"192.0.2.20:3478", "", []string{"--allow-peer", "127.0.0.0/8", "--lab-public"}, cli.ExitFailed, "192.0.2.20:3478: bind", "--lab-public"}, // no address of this machine
		{"0.0.0.0:0", "", []string{"--allow-peer", "127.0.0.0/8", "--lab-public"}, cli.ExitFailed, "hint: as in: listen", "relaying"},
		{"127.0.0.1:0", "", []string{"--lab-public"}, cli.ExitUsage, "begins with --allow-peer", "relaying"},
		{"127.0.0.1:0", "", []string{"--allow-peer", "10.1.2.3/8"}, cli.ExitUsage, "want a network", "relaying"},
		{"127.0.0.1:0", "", []string{"--allow-peer", "everything"}, cli.ExitUsage, "want a network", "relaying"},
		{"127.0.0.1:0", "", []string{"--allow-peer", "::ffff:10.0.0.0/104"}, cli.ExitUsage, "want a network", "relaying"},
	} {
		path, _ := listening(t, tc.listen, tc.more)
		_, talk, exit := command(t, append([]string{"--config", path}, tc.flags...)...)
		if exit != tc.exit || !strings.Contains(talk, tc.want) || strings.Contains(talk, tc.never) {
			t.Errorf("%s %q %q: exit %d, said %q, want %d and %q", tc.listen, tc.more, tc.flags, exit, talk, tc.exit, tc.want)
		}
	}
}

const patience = time.Minute // bounds every wait

// peerOf answers datagrams on an address until the test ends.
func peerOf(t *testing.T, address string) (port int) {
	t.Helper()
	peer, err := net.ListenPacket("udp4", address+":0")
	if err != nil {
		t.Skipf("%s cannot be bound; run on Linux: %v", address, err)
	}
	var answering sync.WaitGroup
	answering.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := peer.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = peer.WriteTo(buf[:n], from)
		}
	})
	t.Cleanup(func() { peer.Close(); answering.Wait() })
	return peer.LocalAddr().(*net.UDPAddr).Port
}

// TestM1LabModeServesForeignProgramsToListedNetworksOnly runs coturn's client
// against the relay as its command line starts it.
func TestM1LabModeServesForeignProgramsToListedNetworksOnly(t *testing.T) {
	client, err := exec.LookPath("turnutils_uclient")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("turnutils_uclient is missing")
		}
		t.Skip("turnutils_uclient is missing; install it with: apt install coturn")
	}
	listed, other := peerOf(t, "127.0.0.1"), peerOf(t, "127.0.0.2")
	path, file := listening(t, "127.0.0.1:0", "")
	secret, err := loadSecret(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var talk lockedBuffer
	exit := make(chan int, 1)
	go func() {
		exit <- cli.Run(ctx, &cli.IO{In: os.Stdin, Out: io.Discard, Err: &talk}, root(), []string{"--config", path, "--allow-peer", "127.0.0.1/32", "--allow-peer", "fd00::/8"})
	}()
	defer func() { cancel(); <-exit }()
	ready := regexp.MustCompile(`relaying on 127\.0\.0\.1:(\d+)\n(?s:.*)sockets of allocations reach 127\.0\.0\.1/32,fd00::/8;`)
	var at []string
	for deadline := time.Now().Add(patience); at == nil; at = ready.FindStringSubmatch(talk.String()) {
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %s", talk.String())
		}
		<-time.After(5 * time.Millisecond)
	}
	asks := func(peer string, port int) (string, error) {
		cred, _ := credential.MintPair(secret, time.Now(), time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience) // it waits for seconds by itself
		defer cancel()
		out, err := exec.CommandContext(ctx, client, "-u", cred.Username, "-w", credential.Text(cred.Password), "-p", at[1], "-c",
			"-e", peer, "-r", fmt.Sprint(port), "-n", "5", "-m", "1", "127.0.0.1").CombinedOutput()
		return string(out), err
	}
	if out, err := asks("127.0.0.1", listed); err != nil || !strings.Contains(out, "tot_send_msgs=5, tot_recv_msgs=5") {
		t.Errorf("the listed peer: %v\n%s", err, out)
	}
	if out, err := asks("127.0.0.2", other); err == nil || strings.Contains(out, "tot_recv_msgs=5") {
		t.Errorf("the other peer: %v\n%s", err, out)
	}
}
