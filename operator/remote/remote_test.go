package remote

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/teamtest"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// TestAMachineOfAnotherProtocolIsNamed: agents before protocol 2 left the flags zero.
func TestAMachineOfAnotherProtocolIsNamed(t *testing.T) {
	for _, flags := range []uint32{0, 1, uint32(wire.SessionProtocol) + 1} {
		if err := sameProtocol(flags); refusal.Of(err) != refusal.NoCommonSuite || !strings.Contains(err.Error(), "update tucdesk-agent") {
			t.Errorf("flags %x: %v", flags, err)
		}
	}
	if err := sameProtocol(uint32(wire.SessionProtocol) | 1<<31); err != nil { // of bits that mean nothing yet
		t.Error(err)
	}
}

func TestServerThatShowedTwoLogsGetsNoSession(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	if err := a.Trusted(); err != nil {
		t.Fatalf("before anything was seen: %v", err)
	}
	origin := checkpoint.Origin("main", m.Root.Team)
	for _, seen := range []string{
		`{"format":"tucdesk-witness-v1","origin":"` + origin + `","checkpoint":"","evidence":["a note"]}` + "\n",
		"not what a witness writes",
	} {
		if err := os.WriteFile(m.Home.Path(account.AuditSeenFile), []byte(seen), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.Trusted(); refusal.Of(err) != refusal.AuditFork {
			t.Errorf("with %q: %v, want audit_fork", seen, err)
		}
		if _, err := connect(t.Context(), a, nil, want{host: "web"}); refusal.Of(err) != refusal.AuditFork {
			t.Errorf("a session with %q: %v, want audit_fork", seen, err)
		}
	}
}

// The roster may have come with the very answer to a first try.
func TestSessionByAClientThatTheRosterCallsTooOld(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	if err := a.Learn(wire.RosterNews{Updates: []wire.RosterUpdate{m.Next(a, func(r *roster.Roster) { r.MinVersion = "99.0.0" })}}); err != nil {
		t.Fatal(err)
	}
	if _, err := tryConnect(t.Context(), a, nil, want{host: "web"}); refusal.Of(err) != refusal.ProgramTooOld {
		t.Errorf("%v, want program_too_old", err)
	}
}

func TestEndOfTheProgramBecomesOurs(t *testing.T) {
	lost := errors.New("the session is lost")
	for _, c := range []struct {
		exit session.Exit
		err  error
		want int
		says string
	}{
		{session.Exit{}, nil, 0, ""},
		{session.Exit{Status: 7}, nil, 7, ""},
		{session.Exit{Status: 255}, nil, 255, ""},
		{session.Exit{Signal: "TERM"}, nil, 143, ""},
		{session.Exit{Signal: "KILL", CoreDumped: true}, nil, 137, ""},
		{session.Exit{Signal: "RTMIN"}, nil, cli.ExitFailed, `signal "RTMIN"`},
		{session.Exit{Refusal: refusal.New(refusal.PolicyDenied, "no")}, nil, cli.ExitDenied, "policy_denied"},
		{session.Exit{Refusal: refusal.New(refusal.CommandNotFound, "no")}, nil, 127, "command_not_found"},
		{session.Exit{Refusal: refusal.New(refusal.NotExecutable, "no")}, nil, 126, "not_executable"},
		{session.Exit{}, lost, cli.ExitTransport, "lost"},
		{session.Exit{}, refusal.New(refusal.KeyRevoked, "cut"), cli.ExitTransport, "key_revoked"},
	} {
		run := &cli.Command{Use: "x", Run: func(context.Context, *cli.IO, []string) error { return status(c.exit, c.err) }}
		var talk bytes.Buffer
		got := cli.Run(t.Context(), &cli.IO{Out: &talk, Err: &talk}, run, []string{})
		if got != c.want || !strings.Contains(talk.String(), c.says) || c.says == "" && talk.Len() > 0 {
			t.Errorf("%+v, %v: status %d, said %q; want %d, %q", c.exit, c.err, got, talk.String(), c.want, c.says)
		}
	}
}

func TestParametersAreThoseThatWereTyped(t *testing.T) {
	o := sessionOptions{user: "root", cwd: "/srv", env: verb.ListFlag{"A=1", "B=x=y", "C="}}
	p, err := o.params([]string{"a b", "", "c\x00"})
	if err != nil || p.User != "root" || string(p.Cwd) != "/srv" || len(p.Argv) != 3 || string(p.Argv[0]) != "a b" || string(p.Argv[2]) != "c\x00" {
		t.Errorf("%+v, %v", p, err)
	}
	for i, want := range []string{"A 1", "B x=y", "C "} {
		if got := p.Env[i].Name + " " + string(p.Env[i].Value); got != want {
			t.Errorf("variable %d is %q, want %q", i, got, want)
		}
	}
	for _, bad := range []string{"A", "=1", ""} {
		var usage *cli.Error
		if _, err := (&sessionOptions{env: verb.ListFlag{bad}}).params(nil); !errors.As(err, &usage) || usage.Exit != cli.ExitUsage {
			t.Errorf("--env %q: %v", bad, err)
		}
	}
}

// A machine in the place of the program would be a program that runs everywhere.
func TestAWordBeforeTheDashesIsNoProgramOfManyMachines(t *testing.T) {
	for line, want := range map[string]string{
		"--all web -- id": "refused", "env=prod web -- id": "refused", "web,db cat -- id": "refused", "--on db web cat -- id": "refused",
		"--all -- cat -- id": "cat -- id", "env=prod -- cat -- id": "cat -- id", "--all id": "id", "web id": "id", "web cat -- id": "cat -- id",
		"web -- id": "id", "-- web id": "id", "web -- -- id": "-- id", "web": "", "--all": "",
	} {
		var got string
		o := &execOptions{}
		root := &cli.Command{Use: "x", Sub: []*cli.Command{{
			Use: "exec", MaxArgs: -1, Again: func() bool { return !o.all }, Dashes: true,
			Flags: func(f *flag.FlagSet) {
				f.BoolVar(&o.all, "all", false, "a")
				f.Var(&o.on, "on", "b")
			},
			Run: func(_ context.Context, _ *cli.IO, args []string) error {
				_, argv, err := o.split(args)
				got = strings.Join(argv, " ")
				return err
			},
		}}}
		var talk bytes.Buffer
		status := cli.Run(t.Context(), &cli.IO{Out: &talk, Err: &talk}, root, append([]string{"exec"}, strings.Fields(line)...))
		if (status == cli.ExitUsage) != (want == "refused") || status == 0 && got != want {
			t.Errorf("%q: status %d, command %q, said %q", line, status, got, talk.String())
		}
	}
}
