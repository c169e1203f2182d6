package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tucdesk/tucdesk/agent"
	"github.com/tucdesk/tucdesk/relay"
	"github.com/tucdesk/tucdesk/rendezvous"
)

// hostName is what this machine is called in the temporary team.
const hostName = "here"

// agentArg makes this program an agent; see main.
const agentArg = "quickstart-agent"

// serve starts server and relay in this process, on free ports of loopback, and
// returns the setup string for whoever founds the team. The channel tells how
// they ended.
func (s *stage) serve(ctx context.Context) (setup string, ended <-chan error, err error) {
	dir := filepath.Join(s.dir, "server")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	cfg := rendezvous.Config{Name: "quickstart", URL: "https://" + listener.Addr().String(), State: dir, Listener: listener}
	if err := rendezvous.Create(dir, cfg); err != nil {
		return "", nil, errors.Join(err, listener.Close())
	}
	blind, err := s.startRelay(ctx, &cfg)
	if err != nil {
		return "", nil, errors.Join(err, listener.Close())
	}
	server, err := rendezvous.Open(ctx, cfg)
	if err != nil {
		return "", nil, errors.Join(err, blind.Close(), listener.Close())
	}
	if setup, err = server.SetupString(ctx); err != nil {
		return "", nil, errors.Join(err, server.Close(), blind.Close())
	}
	done := make(chan error, 1)
	go func() {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return server.Run(ctx) })
		group.Go(func() error { return blind.Run(ctx) })
		done <- group.Wait()
	}()
	return setup, done, nil
}

func (s *stage) startRelay(ctx context.Context, cfg *rendezvous.Config) (*relay.Server, error) {
	secret, err := cfg.OpenRelaySecret()
	if err != nil {
		return nil, err
	}
	free := netip.MustParseAddrPort("127.0.0.1:0")
	blind, err := relay.Start(ctx, relay.Config{UDP: free, TCP: free, Secret: secret})
	if err != nil {
		return nil, err
	}
	udp, tcp := blind.Addr()
	s.relay = udp.String()
	cfg.Endpoints = []rendezvous.External{{UDP: udp.String(), TCP: tcp.String()}}
	return blind, nil
}

// join makes this machine a member of the team and starts its agent, as a
// process of its own. The returned function stops it.
func (s *stage) join(ctx context.Context) (stop func(), err error) {
	var token bytes.Buffer
	if status, talk := s.operator(ctx, &token, "token", "create", "--quiet"); status != 0 {
		return nil, fmt.Errorf("making a join token: %s", talk)
	}
	dir := filepath.Join(s.dir, "agent")
	if err := agent.Join(ctx, dir, strings.TrimSpace(token.String()), agent.JoinOptions{Name: hostName}); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(s.dir, "agent.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(self, agentArg, dir)
	cmd.Stderr = log
	// The agent leaves when its standard input does, so that nothing stays
	// behind when this process is killed.
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() { _ = in.Close(); _ = cmd.Wait() }
	if err := s.await(ctx); err != nil {
		stop()
		text, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w; the agent said: %s", err, text)
	}
	return stop, nil
}

// await returns when the server says that the agent is online.
func (s *stage) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, online)
	defer cancel()
	for {
		var out bytes.Buffer
		status, talk := s.operator(ctx, &out, "ls", "--json")
		var hosts []struct{ Online bool }
		if status == 0 && json.Unmarshal(out.Bytes(), &hosts) == nil && len(hosts) == 1 && hosts[0].Online {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the agent: %w %s", ctx.Err(), talk)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// agentProcess is the other half of this program: the agent of join, and the
// session processes which that agent starts.
func agentProcess(args []string) int {
	if args[0] == agent.SessionArg {
		return agent.SessionMain()
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1)) // ends when the quickstart does
		cancel()
	}()
	a, err := agent.Open(args[1], agent.Config{})
	if err == nil {
		err = a.Run(ctx)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
