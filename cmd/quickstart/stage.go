package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/operator"
)

// online is how long the agent may take to appear.
const online = 15 * time.Second

// stage is everything that runs during one quickstart.
type stage struct {
	dir   string // temporary; holds all state of all parts
	relay string // address
}

func run(ctx context.Context, command []string) (status int, err error) {
	dir, err := os.MkdirTemp("", "tucdesk-quickstart-")
	if err != nil {
		return cli.ExitFailed, err
	}
	defer os.RemoveAll(dir)
	s := &stage{dir: dir}
	ctx, cancel := context.WithCancel(ctx)
	setup, served, err := s.serve(ctx)
	if err != nil {
		cancel()
		return cli.ExitFailed, err
	}
	defer func() { cancel(); err = errors.Join(err, <-served) }()
	fingerprint, err := s.found(ctx, setup)
	if err != nil {
		return cli.ExitFailed, err
	}
	stopAgent, err := s.join(ctx)
	if err != nil {
		return cli.ExitFailed, err
	}
	defer stopAgent()
	say("team    %s, an owner key and a recovery key made for it", fingerprint[:16])
	say("relay   %s, blind; agent in a process of its own", s.relay)
	return s.session(ctx, command), nil
}

// operator types one command of the operator's client and returns what it
// printed.
func (s *stage) operator(ctx context.Context, out io.Writer, args ...string) (int, string) {
	var talk bytes.Buffer
	args = append(args[:len(args):len(args)], "--state", filepath.Join(s.dir, "operator"))
	status := cli.Run(ctx, &cli.IO{In: os.Stdin, Out: out, Err: &talk}, operator.Command(), args)
	return status, talk.String()
}

// found makes the team. The owner key's passphrase is random and goes with the
// folder.
func (s *stage) found(ctx context.Context, setup string) (fingerprint string, err error) {
	pass := filepath.Join(s.dir, "passphrase")
	if err := os.WriteFile(pass, []byte(rand.Text()+"\n"), 0o600); err != nil {
		return "", err
	}
	var out bytes.Buffer
	status, talk := s.operator(ctx, &out, "team", "init", setup, "--name", "quickstart", "--email", "you@localhost", "--passphrase-file", pass, "--json")
	if status != 0 {
		return "", fmt.Errorf("founding the team: %s", talk)
	}
	var team struct{ Fingerprint string }
	if err := json.Unmarshal(out.Bytes(), &team); err != nil || len(team.Fingerprint) < 16 {
		return "", fmt.Errorf("founding the team: no fingerprint in the answer")
	}
	return team.Fingerprint, nil
}

// session opens the shell, or runs the command.
func (s *stage) session(ctx context.Context, command []string) int {
	args := []string{"ssh", "-v", "--state", filepath.Join(s.dir, "operator"), hostName}
	if len(command) > 0 {
		args = append([]string{"exec", "-v", "--state", filepath.Join(s.dir, "operator"), hostName, "--"}, command...)
	}
	return cli.Run(ctx, &cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, operator.Command(), args)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
