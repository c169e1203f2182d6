package entry

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// private makes the n-th agent's key, always the same.
func private(t testing.TB, n byte) key.Private[key.Agent] {
	t.Helper()
	k, err := key.FromSeed[key.Agent](bytes.Repeat([]byte{n}, key.SeedSize))
	check(t, err)
	return k
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var team = wire.TeamID{7}

// s3cret stands for a secret; no entry may hold it.
const s3cret = "Hunter2xYz"

func text(argv []wire.Bytes) string { return fmt.Sprintf("%s", argv) }

// full has a value in every field.
func full() Entry {
	return Entry{
		Type: ExecEnd, Time: 1700000000000, Actor: Actor{key.ID{1}, "ann@example.org", "ann"}, Target: Target{key.ID{2}, "web"},
		Session: wire.SessionID{3}, RequestHash: key.Hash{4}, RosterVersion: 5, Policy: PolicyResult{NeedsApproval, "gate", key.Hash{6}, 2},
		Command: &Command{
			Action: wire.Exec, User: "root", Argv: []wire.Bytes{wire.Bytes("ls"), wire.Bytes("\xff\x00")}, Cwd: wire.Bytes("/"),
			EnvNames: []string{"LANG"}, TTY: true, ExitCode: ExitCode(-1), Signal: "TERM", BytesIn: 7, BytesOut: 8,
		},
		Approvals: []key.Hash{{9}}, Refusal: refusal.PolicyDenied, Gap: &Gap{true, 10, 11},
	}
}

func open(k key.Private[key.Agent]) func(key.ID) (statement.Verifier, error) {
	return func(key.ID) (statement.Verifier, error) { return k.Public(), nil }
}

func TestEntryComesBackAsItWasSigned(t *testing.T) {
	k := private(t, 30)
	e, s, err := Sign(k, full(), team, 12, key.Hash{13})
	check(t, err)
	got, kid, err := statement.Open[Entry](s, open(k))
	check(t, err)
	if !reflect.DeepEqual(got, e) || kid != k.ID() {
		t.Errorf("got %+v, want %+v", got, e)
	}
	if got.Seq != 12 || got.Previous != (key.Hash{13}) || got.Team != team || got.ID == (wire.Nonce{}) || *got.Command.ExitCode != -1 {
		t.Errorf("entry %+v", got)
	}
}

// A caller cannot choose what identifies an entry.
func TestCallerDoesNotNumberEntries(t *testing.T) {
	e := full()
	e.ID, e.Seq, e.Previous, e.Team = wire.Nonce{1}, 99, key.Hash{1}, wire.TeamID{99}
	got, _, err := Sign(private(t, 30), e, team, 1, key.Hash{})
	check(t, err)
	if got.ID == e.ID || got.Seq != 1 || got.Previous != (key.Hash{}) || got.Team != team {
		t.Errorf("entry %+v", got)
	}
}

func TestEveryByteOfAnEntryCounts(t *testing.T) {
	k := private(t, 30)
	_, s, err := Sign(k, full(), team, 1, key.Hash{})
	check(t, err)
	for i := range s {
		b := bytes.Clone(s)
		b[i] ^= 1 << (i % 8)
		if _, _, err := statement.Open[Entry](b, open(k)); err == nil {
			t.Errorf("byte %d may be %q", i, b[i])
		}
		if _, _, err := statement.Open[Entry](s[:i], open(k)); err == nil {
			t.Errorf("%d bytes are enough", i)
		}
	}
}

func TestSigningLeavesTheCallersEntryAlone(t *testing.T) {
	e := full()
	e.Command.Argv = []wire.Bytes{wire.Bytes("tool"), wire.Bytes("--password=" + s3cret)}
	e.Command.EnvNames = []string{strings.Repeat("X", 200)}
	_, _, err := Sign(private(t, 30), e, team, 1, key.Hash{})
	check(t, err)
	if string(e.Command.Argv[1]) != "--password="+s3cret || len(e.Command.EnvNames[0]) != 200 || e.Command.Cut {
		t.Errorf("command became %+v", e.Command)
	}
}

// Cutting is visible, keeps whole arguments where it can, and never ends in the
// first half of a secret.
func TestLongCommandsAreCut(t *testing.T) {
	long := bytes.Repeat([]byte("x"), maxArgv-10)
	for name, argv := range map[string][]wire.Bytes{
		"one":        {bytes.Repeat([]byte("y"), maxArgv+1)},
		"second":     {long, wire.Bytes("hello world, hello")},
		"many":       slicesOf("a", maxArgs+1),
		"huge":       {bytes.Repeat([]byte("z"), 1<<20)},
		"key at end": {append(bytes.Clone(long), " -----BEGIN PRIVATE KEY-----\n"+strings.Repeat(s3cret+"\n", 100)...)},
	} {
		out, wasCut := recorded(argv, false)
		total := 0
		for _, a := range out {
			total += len(a)
		}
		if !wasCut || total > maxArgv || len(out) > maxArgs || strings.Contains(text(out), s3cret[:4]) {
			t.Errorf("%s: %d bytes in %d arguments, cut %v", name, total, len(out), wasCut)
		}
	}
	out, wasCut := recorded(slicesOf("a", maxArgs), false)
	if wasCut || len(out) != maxArgs {
		t.Errorf("cut %d arguments that fit", len(out))
	}
	if _, wasCut := recorded(nil, true); !wasCut {
		t.Error("an earlier cut was forgotten")
	}
}

func TestLargestEntryFits(t *testing.T) {
	long := strings.Repeat("\x01", 1<<20) // six bytes each as JSON
	e := Entry{
		Type: ExecStart, Time: 1, Actor: Actor{Email: long, Person: long}, Target: Target{Name: long}, Policy: PolicyResult{Rule: long},
		Command: &Command{User: long, Signal: long, Cwd: wire.Bytes(long), EnvNames: make([]string, 1000)},
	}
	for i := range e.Command.EnvNames {
		e.Command.EnvNames[i] = strings.Repeat("\x01", 300)
	}
	for range 1000 {
		e.Command.Argv = append(e.Command.Argv, bytes.Repeat([]byte{255}, 100))
		e.Approvals = append(e.Approvals, key.Hash{})
	}
	for range 2 {
		done, s, err := Sign(private(t, 30), e, team, 1, key.Hash{})
		check(t, err)
		if !done.Command.Cut || len(s) > wire.MaxFrame-8<<10 {
			t.Errorf("entry of %d bytes, cut %v", len(s), done.Command.Cut)
		}
		if _, _, err := statement.Open[Entry](s, func(key.ID) (statement.Verifier, error) { return private(t, 30).Public(), nil }); err != nil {
			t.Error(err)
		}
		e.Command.Argv = []wire.Bytes{wire.Bytes(long), wire.Bytes(long)}
	}
}

func slicesOf(s string, n int) (list []wire.Bytes) {
	for range n {
		list = append(list, wire.Bytes(s))
	}
	return list
}
