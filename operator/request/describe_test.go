package request

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/teamtest"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
)

// hostile is a request in which every text field tries to be something else.
func hostile(r *wire.Request) {
	r.Params = wire.Params{
		User: "root\x1b[8m", Cwd: wire.Bytes("/tmp\r/etc"), TTY: true,
		Argv: []wire.Bytes{wire.Bytes("rm\n-rf"), wire.Bytes("/h\u043eme"), wire.Bytes("\u202etxt.exe"), wire.Bytes("plain"), {0xff}},
		Env:  []wire.EnvVar{{Name: "PATH", Value: wire.Bytes("\x1b]52;c;cm0=\a")}},
	}
	r.Reason = "routine\nstate      approved"
}

func TestE9E10ApproverSeesEverythingEscaped(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	info := m.Request(m.Ann, hostile)
	info.Rule, info.Roles = "x\x1b[2J", []string{"appr\nover"} // the server is no better than the requester
	w, err := openRequest(a, info, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w.print(&out)
	text := out.String()
	if strings.ContainsFunc(text, func(r rune) bool {
		return r != '\n' && unicode.IsControl(r) || r == '\u202e' || r == unicode.ReplacementChar
	}) {
		t.Errorf("something reached the terminal:\n%q", text)
	}
	if strings.Count(text, "\nstate ") != 1 {
		t.Errorf("a field began a line of its own:\n%s", text)
	}
	for _, want := range []string{
		`'rm\n-rf'`, `'\u202etxt.exe'`, `'\xff'`, "argv[3]  plain", `root\x1b[8m`, `/tmp\r/etc`, `PATH=\x1b]52;c;cm0=\x07`, `routine\nstate`, "terminal   yes",
		"WARNING    argument 0 contains control", `WARNING    argument 1 contains characters that can pass for others; it reads: /hоme`, `argv[1]  '/h\u043eme'`, "WARNING    argument 2 contains", "WARNING    argument 4 contains bytes",
		"WARNING    the directory", "WARNING    the user name", "WARNING    the reason", "WARNING    the variable PATH",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not shown:\n%s", want, text)
		}
	}
	if strings.Contains(text, "argument 3") {
		t.Error("a plain argument is doubted")
	}
}

// What runs is shown in ASCII alone wherever an approver looks; in the line that warns, and
// there only, stands what it reads as. A reason is no such word.
func TestE9J5NoLookAlikeStandsWhereAnApproverReadsTheCommand(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	w := teamtest.Must(openRequest(a, m.Request(m.Ann, func(r *wire.Request) {
		r.Params = wire.Params{
			User: "r\u043e\u043et", Cwd: wire.Bytes("/srv\u2215tmp"), Argv: []wire.Bytes{wire.Bytes("--dry\u2010run"), wire.Bytes("/1/\u05d0/2")},
			Env: []wire.EnvVar{{Name: "LANG", Value: wire.Bytes("\u0441")}},
		}
		r.Reason = "f\u00fcr \u0411\u043e\u0431"
	}), nil, time.Now()))
	var out bytes.Buffer
	w.print(&out)
	view := viewRequest(a, w)
	foreign := func(s string) bool { return strings.ContainsFunc(s, func(r rune) bool { return r > '~' }) }
	if said := w.Command() + strings.Join(view.Argv, "") + view.Cwd + strings.Join(view.Env, ""); foreign(said) {
		t.Errorf("shown as %s", said)
	}
	warned := 0
	for line := range strings.Lines(out.String()) {
		switch warning := strings.HasPrefix(line, "WARNING "); {
		case warning && strings.Contains(line, " can pass for others; it reads: ") && foreign(line):
			warned++
		case foreign(line) && !strings.HasPrefix(line, "reason "), warning:
			t.Errorf("a line that is not right: %s", line)
		}
	}
	if warned != 5 || len(view.Warnings) != 5 {
		t.Errorf("%d warnings, %q as JSON, want 5:\n%s", warned, view.Warnings, out.String())
	}
}

func TestWhoWaitsReadsWhatAsks(t *testing.T) {
	for rule, want := range map[string]string{"team": "2 of: approver, admin (rule team)", policy.Gate: "2 of: approver, admin (gate)", "gate": "2 of: approver, admin (rule gate)"} {
		if got := Needs(wire.RequestInfo{Rule: rule, Need: 2, Roles: []string{"approver", "admin"}}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestJSONShowsAllThatAnApproverNeeds(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	raw := teamtest.Must(json.Marshal(viewRequest(a, teamtest.Must(openRequest(a, m.Request(m.Ann, hostile), nil, time.Now())))))
	for _, want := range []string{`"argv":["rm\\n-rf"`, `"directory":"/tmp\\r/etc"`, `"env":["PATH=\\x1b]52`, `"tty":true`, `"email":"ann@example.org"`, `"warnings":["`} {
		if !bytes.Contains(raw, []byte(want)) {
			t.Errorf("%s is not in %s", want, raw)
		}
	}
	plain := m.Request(m.Ann, nil)
	plain.Roles = nil
	raw = teamtest.Must(json.Marshal(viewRequest(a, teamtest.Must(openRequest(a, plain, nil, time.Now())))))
	if bytes.Contains(raw, []byte("null")) {
		t.Errorf("an empty list is null in %s", raw)
	}
}

func TestRequestsAreTheirSigners(t *testing.T) {
	m, other := teamtest.NewTeam(t), teamtest.NewTeam(t)
	a := m.Account(t)
	good := m.Request(m.Bob, nil)
	if w, err := openRequest(a, good, map[key.ID]string{{}: "web"}, time.Now()); err != nil || w.email != "bob@example.org" || w.Host != "web" {
		t.Fatalf("an honest request: %v, %+v", err, w)
	}
	renamed, flipped, foreign := good, good, other.Request(m.Bob, nil)
	renamed.Hash = key.Hash{1}
	flipped.Request = bytes.Replace(good.Request, []byte(`"payload":"e`), []byte(`"payload":"f`), 1)
	onBehalf := m.Request(m.Bob, func(r *wire.Request) { r.Operator = m.Ann.ID() })
	for name, c := range map[string]struct {
		info wire.RequestInfo
		want refusal.Code
	}{
		"another hash":       {renamed, refusal.BadStatement},
		"another content":    {flipped, refusal.BadSignature},
		"another team":       {foreign, refusal.WrongTeam},
		"a stranger":         {m.Request(teamtest.Generate[key.Operator](), nil), refusal.UnknownKey},
		"in another's name":  {onBehalf, refusal.BadStatement},
		"nothing":            {wire.RequestInfo{}, refusal.BadStatement},
		"another's approval": {wire.RequestInfo{Request: teamtest.Must(approval.Make(m.Bob, teamtest.Must(openRequest(a, m.Request(m.Ann, nil), nil, time.Now())).Request, key.Hash{1}, approval.Deny, time.Now()))}, refusal.WrongType},
	} {
		if _, err := openRequest(a, c.info, nil, time.Now()); refusal.Of(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestOnlyVerifiedDecisionsAreCounted(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	w := teamtest.Must(openRequest(a, m.Request(m.Ann, nil), nil, time.Now()))
	another := teamtest.Must(openRequest(a, m.Request(m.Ann, nil), nil, time.Now()))
	yes := teamtest.Must(approval.Make(m.Bob, w.Request, w.Hash, approval.Approve, time.Now()))
	no := teamtest.Must(approval.Make(m.Ann, w.Request, w.Hash, approval.Deny, time.Now()))
	w.Info.Approvals = []statement.Signed{
		yes, no,
		teamtest.Must(approval.Make(m.Bob, another.Request, another.Hash, approval.Approve, time.Now())),
		teamtest.Must(approval.Make(teamtest.Generate[key.Operator](), w.Request, w.Hash, approval.Approve, time.Now())),
		bytes.Replace(yes, []byte(`"sig":"`), []byte(`"sig":"A`), 1), nil,
	}
	approved, denied := decisions(a, w, time.Now())
	if strings.Join(approved, " ") != "bob@example.org" || strings.Join(denied, " ") != "ann@example.org" {
		t.Errorf("approved by %q, denied by %q", approved, denied)
	}
}

func TestRequestIsChosenByAUniqueBeginning(t *testing.T) {
	all := []Waiting{{Hash: key.Hash{0xab, 0xcd}}, {Hash: key.Hash{0xab, 0xce}}}
	for prefix, want := range map[string]refusal.Code{"abcd": "", "abce00": "", "ab": refusal.BadRequest, "": refusal.BadRequest, "ff": refusal.NotFound, "ABCD": refusal.NotFound} {
		w, err := choose(all, prefix)
		if refusal.Of(err) != want || err == nil && !strings.HasPrefix(w.Hash.String(), prefix) {
			t.Errorf("%q: %v, %v; want %q", prefix, w.Hash, err, want)
		}
	}
}

// Whoever asks can have two requests of one beginning within a minute. By it one is found, to
// be looked at; what is signed unseen is named in full, before anything else is tried.
func TestE4NothingIsSignedUnseenByTheBeginningOfAHash(t *testing.T) {
	mild, wild := key.Hash{0xab, 0xcd, 0xef, 1, 2, 3}, key.Hash{0xab, 0xcd, 0xef, 1, 2, 3, 4}
	if mild.String()[:ShortHash] != wild.String()[:ShortHash] {
		t.Fatal("the two do not begin alike")
	}
	for typed, want := range map[string]int{
		mild.String()[:ShortHash]: cli.ExitUsage, mild.String()[:63]: cli.ExitUsage, strings.ToUpper(mild.String()): cli.ExitUsage, "": cli.ExitUsage,
		mild.String(): cli.ExitNotLoggedIn, // there is no account, which is asked for next
	} {
		for _, verb := range []string{"approve", "deny"} {
			var talk bytes.Buffer
			tio := &cli.IO{Out: &talk, Err: &talk}
			if status := cli.Run(t.Context(), tio, RequestsCommand(), []string{verb, "--state", filepath.Join(t.TempDir(), "none"), "--yes", typed}); status != want {
				t.Errorf("%s --yes %q exits %d, want %d: %s", verb, typed, status, want, talk.String())
			}
		}
	}
	if w, err := choose([]Waiting{{Hash: mild}, {Hash: wild}}, wild.String()); err != nil || w.Hash != wild {
		t.Errorf("the whole name chooses %v, %v", w.Hash, err)
	}
}

// What a person types after reading is for that request alone.
func TestE4ShowEndsWithTheWholeNameToSignBy(t *testing.T) {
	m := teamtest.NewTeam(t)
	w := teamtest.Must(openRequest(m.Account(t), m.Request(m.Ann, nil), nil, time.Now()))
	for _, c := range []struct {
		state wire.RequestState
		me    key.ID
		want  string
	}{
		{wire.RequestPending, m.Bob.ID(), "to approve tucdesk requests approve --yes HASH\nto deny    tucdesk requests deny --yes HASH\n"},
		{wire.RequestPending, m.Ann.ID(), "withdraw   tucdesk requests deny --yes HASH\n"},
		{wire.RequestApproved, m.Bob.ID(), "to deny    tucdesk requests deny --yes HASH\n"},
		{wire.RequestUsed, m.Bob.ID(), ""},
	} {
		var out bytes.Buffer
		w.Info.State = c.state
		w.printNext(&out, c.me)
		if want := strings.ReplaceAll(c.want, "HASH", w.Hash.String()); out.String() != want {
			t.Errorf("%s: %q, want %q", c.state, out.String(), want)
		}
	}
}

func TestSettledNamesEveryEnd(t *testing.T) {
	for state, want := range map[wire.RequestState]refusal.Code{
		wire.RequestPending: "", wire.RequestApproved: "", wire.RequestDenied: refusal.ApprovalDenied, wire.RequestExpired: refusal.ApprovalExpired,
		wire.RequestCancelled: refusal.ApprovalCancelled, wire.RequestUsed: refusal.ApprovalUsed, "": refusal.ProtocolError, "approved!": refusal.ProtocolError,
	} {
		if err := Settled(state, "abc"); refusal.Of(err) != want {
			t.Errorf("%q: %v, want %q", state, err, want)
		}
	}
}

// What runs nothing says so: an empty line beside "command" would be read as an
// oversight.
func TestRequestWithoutAProgramSaysWhatItIs(t *testing.T) {
	for action, want := range map[wire.Action]string{wire.Shell: "an interactive shell", wire.Copy: "no program, but copies of files", wire.Forward: "no program, but forwarded connections"} {
		w := Waiting{Request: wire.Request{Action: action}}
		if got := w.Command(); got != want {
			t.Errorf("%s: %q, want %q", action, got, want)
		}
	}
	for want, keep := range map[string]wire.Keep{
		"no program: to list the shells that were left running":          {Do: wire.KeepList},
		"no program: to end the shell build that was left running":       {Do: wire.KeepKill, Name: "build"},
		"no new program: back to the shell build that was left running":  {Do: wire.KeepAttach, Name: "build"},
		"an interactive shell (runs on as build when the client leaves)": {Do: wire.KeepOpen, Name: "build"},
		`something about shells that this client does not know: 'eat\n'`: {Do: "eat\n"},
		`no program: to end the shell 'x\x1b[2J' that was left running`:  {Do: wire.KeepKill, Name: "x\x1b[2J"},
	} {
		w := Waiting{Request: wire.Request{Action: wire.Shell, Params: wire.Params{Keep: &keep}}}
		if got := w.Command(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Whoever approves a shell that is kept reads that it outlives its client; a name that
// is none is doubted.
func TestKeptShellIsShownAsOne(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	for name, want := range map[string]string{"build": "\nkept       yes: when the client leaves", "x\n": "\nWARNING    what is wanted of kept shells"} {
		info := m.Request(m.Ann, func(r *wire.Request) {
			r.Action, r.Params.Argv, r.Params.TTY, r.Params.Keep = wire.Shell, []wire.Bytes{}, true, &wire.Keep{Do: wire.KeepOpen, Name: name}
		})
		w := teamtest.Must(openRequest(a, info, nil, time.Now()))
		var out bytes.Buffer
		if w.print(&out); !strings.Contains(out.String(), want) {
			t.Errorf("%q: %q is not in\n%s", name, want, out.String())
		}
	}
}

// show tells who has decided, and each decision is asked about by its own name.
func TestDecisionsAreShownAndAskedForByName(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	w := teamtest.Must(openRequest(a, m.Request(m.Ann, nil), nil, time.Now()))
	w.Info.Approvals = []statement.Signed{teamtest.Must(approval.Make(m.Bob, w.Request, w.Hash, approval.Deny, time.Now()))}
	var out bytes.Buffer
	if w.printDecisions(&out, a); out.String() != "denied     by bob@example.org\n" {
		t.Errorf("%q", out.String())
	}
	for _, c := range []struct {
		me   key.ID
		d    approval.Decision
		want string
	}{
		{m.Bob.ID(), approval.Approve, "Approve this, once? not approved"}, {m.Bob.ID(), approval.Deny, "Deny this, for good? not denied"},
		{m.Ann.ID(), approval.Deny, "Withdraw this request of yours? not withdrawn"},
	} {
		if text, left := w.question(c.me, c.d); text+" "+left != c.want {
			t.Errorf("%q %q, want %q", text, left, c.want)
		}
	}
	var talk bytes.Buffer
	if status := cli.Report(&talk, Settled(wire.RequestDenied, "3f6c0a91b2d4")); status != cli.ExitDenied || !strings.Contains(talk.String(), "hint: who denied it: tucdesk requests show 3f6c0a91b2d4\n") {
		t.Errorf("status %d, said %q", status, talk.String())
	}
}
