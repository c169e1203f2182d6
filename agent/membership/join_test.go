//go:build unix

package membership

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/spool"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the test's own set-up
	}
	return v
}

// world is a team on a real server.
type world struct {
	t     *testing.T
	owner key.Private[key.Owner]
	state *roster.State
	api   *client.Client
	cred  client.Credentials
	stop  func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "server")
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	cfg := rendezvous.Config{Name: "main", URL: "https://" + l.Addr().String(), State: dir, Listener: l}
	if err := rendezvous.Create(dir, cfg); err != nil {
		t.Fatal(err)
	}
	server := must(rendezvous.Open(t.Context(), cfg))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	w := &world{t: t, owner: must(key.Generate[key.Owner]())}
	ended := false
	w.stop = func() {
		if cancel(); !ended {
			ended = true
			if err := <-done; err != nil {
				t.Errorf("server: %v", err)
			}
		}
	}
	t.Cleanup(w.stop)
	info := must(roster.ParseSetup(must(server.SetupString(t.Context()))))
	w.api = must(client.New(client.Config{URL: cfg.URL, Pin: info.Keys.TLS, Access: info.Keys.Access.ID()}))
	t.Cleanup(w.api.Close)
	w.found(info)
	return w
}

func (w *world) found(info roster.SetupInfo) {
	text := []byte("version = 1\nmode = \"enforce\"\n")
	admin := must(key.Generate[key.Operator]())
	root := roster.Root{Team: wire.NewTeamID(), Name: "team", Owners: []key.Public[key.Owner]{w.owner.Public()}, Threshold: 1}
	signed := must(roster.SignRoot(w.owner, root))
	v1 := must(roster.Sign(w.owner, roster.First(root, signed.Hash(), func(r *roster.Roster) {
		r.Renew(time.Now(), 24*time.Hour)
		r.PolicyHash = must(policy.Parse(text)).Hash()
		r.Servers = []roster.Server{info.Server()}
		r.Operators = []roster.Operator{{Key: admin.Public(), Email: "adm@example.com", Person: "adm", Role: policy.Admin}}
	})))
	w.state = must(roster.Found(signed, signed.Hash(), v1))
	if err := w.api.Setup(w.t.Context(), wire.SetupRequest{
		Code: info.Code, Setup: must(roster.SignSetup(w.owner, w.state, info, time.Now())), Root: w.state.Root(),
		Roster: []wire.RosterUpdate{v1}, Policy: text,
	}); err != nil {
		w.t.Fatal(err)
	}
	w.cred, _ = w.login(admin)
}

func (w *world) login(k key.Private[key.Operator]) (client.Credentials, wire.LoginReply) {
	cred, reply, err := w.api.Login(w.t.Context(), k, w.state.Team())
	if err != nil {
		w.t.Fatal(err)
	}
	return cred, reply
}

// token makes a join string that is good for one machine.
func (w *world) token(life time.Duration) string {
	w.t.Helper()
	k := must(key.Generate[key.Token]())
	now := time.Now()
	signed := must(roster.SignToken(w.owner, roster.Token{
		ID: wire.NewNonce(), Team: w.state.Team(), Fingerprint: w.state.Fingerprint(), Server: w.state.Roster().Servers[0].Address(),
		Tags: []string{}, IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(life)), MaxUses: 1, Key: k.Public(),
	}))
	if err := w.api.PublishToken(w.t.Context(), w.cred, signed); err != nil {
		w.t.Fatal(err)
	}
	return must(roster.JoinString(w.state.Root(), signed, k))
}

// used returns how often the server counted the token.
func (w *world) used(text string) int {
	w.t.Helper()
	want := must(roster.ParseJoin(text)).TokenSigned
	for _, info := range must(w.api.Tokens(w.t.Context(), w.cred)) {
		if bytes.Equal(info.Token, want) {
			return info.Used
		}
	}
	w.t.Fatal("the server does not know the token")
	return 0
}

// whole opens everything that an agent needs.
func (w *world) whole(dir, name string) key.ID {
	w.t.Helper()
	m, identity, err := Load(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	keeper := must(trust.Open(dir, m.Fingerprint))
	st, _ := keeper.Get()
	cert, err := m.Verify(st.Roster, identity.ID(), time.Now())
	if err != nil || cert.Name != name || st.Rules == nil {
		w.t.Errorf("certificate of %q: %v", cert.Name, err)
	}
	if err := must(approval.OpenLedger(filepath.Join(dir, LedgerFile))).Close(); err != nil {
		w.t.Error(err)
	}
	if err := must(spool.Open(dir, identity, w.state.Team())).Close(); err != nil {
		w.t.Error(err)
	}
	return identity.ID()
}

// errDisk is what a test makes of a step.
var errDisk = errors.New("no space left on device")

// breakOff runs an attempt up to step, which fails before or after it has become
// durable, or after which the program is killed.
func (w *world) breakOff(dir, text, name, how string, step int) (steps int) {
	w.t.Helper()
	steps, err := w.tryBreakOff(dir, text, name, how, step)
	if err != nil {
		w.t.Fatal(err)
	}
	return steps
}

// tryBreakOff is breakOff for a token that may be refused.
func (w *world) tryBreakOff(dir, text, name, how string, step int) (steps int, err error) {
	w.t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	unlock := must(Lock(dir))
	defer unlock()
	n := &newcomer{dir: dir, opts: Options{Name: name}}
	list := append(n.preparation(must(roster.ParseJoin(text)), time.Now()), n.registration(w.t.Context())...)
	for i, do := range list {
		if i == step && how == "fails before" {
			_ = n.failed(errDisk)
			break
		}
		if err := do(); err != nil {
			return 0, err
		}
		if i == step {
			if how == "fails after" {
				_ = n.failed(errDisk)
			}
			break
		}
	}
	return len(list), nil
}

// Whatever breaks an attempt off, the token is used once, the name is kept, and
// the same command or the agent itself finishes the work.
func TestJoinGoesOnWhereItBrokeOff(t *testing.T) {
	w := newWorld(t)
	steps := 1
	for step := 0; step < steps; step++ {
		for i, how := range []string{"fails before", "fails after", "is killed"} {
			name := "web-" + strconv.Itoa(10*step+i)
			dir, text := filepath.Join(t.TempDir(), "state"), w.token(time.Hour)
			steps = w.breakOff(dir, text, name, how, step)
			before, _ := os.ReadFile(filepath.Join(dir, identityFile))
			used := w.used(text)
			_, st, err := look(dir)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case st == joined && how != "fails before" && step == steps-1:
			case (step+i)%2 == 0 && st == begun:
				if settled, err := Finish(t.Context(), dir, Options{}); !settled || err != nil {
					t.Errorf("step %d %s: finishing: %v, %v", step, how, settled, err)
					continue
				}
			default:
				if err := Join(t.Context(), dir, text, Options{Name: name}); err != nil {
					t.Errorf("step %d %s: joining again: %v", step, how, err)
					continue
				}
			}
			w.whole(dir, name)
			if n := w.used(text); n != 1 {
				t.Errorf("step %d %s: the token was used %d times", step, how, n)
			}
			if after := must(os.ReadFile(filepath.Join(dir, identityFile))); used == 1 && !bytes.Equal(before, after) {
				t.Errorf("step %d %s: the registered key is lost", step, how)
			}
		}
	}
	if steps != 8 {
		t.Errorf("%d steps were tried", steps)
	}
}

// The answer can be lost after the server has stored everything; a token that has
// expired meanwhile does not count again.
func TestLostAnswerCostsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir, text := w.registeredInTime()
	if w.used(text) != 1 {
		t.Fatal("the server did not register")
	}
	late := time.NewTimer(time.Until(must(roster.ParseJoin(text)).Token.ExpiresAt.Time()))
	<-late.C
	if err := Join(t.Context(), dir, text, Options{}); err != nil {
		t.Fatal(err)
	}
	w.whole(dir, "web")
}

// registeredInTime is killed behind the registration. The token lives no longer
// than that needs, which on a busy machine is longer.
func (w *world) registeredInTime() (dir, text string) {
	w.t.Helper()
	for life := time.Second; life < time.Minute; life *= 2 {
		dir, text = filepath.Join(w.t.TempDir(), "state"), w.token(life)
		_, err := w.tryBreakOff(dir, text, "web", "is killed", 2)
		if err == nil {
			return dir, text
		}
		if time.Now().Before(must(roster.ParseJoin(text)).Token.ExpiresAt.Time()) {
			w.t.Fatal(err)
		}
	}
	w.t.Fatal("every token expired first")
	return "", ""
}

func TestTwoAttemptsAreNotMixed(t *testing.T) {
	w := newWorld(t)
	dir, first, second := filepath.Join(t.TempDir(), "state"), w.token(time.Hour), w.token(time.Hour)
	w.breakOff(dir, first, "web", "is killed", 2)
	if err := Join(t.Context(), dir, second, Options{Name: "web"}); refusal.Of(err) != refusal.AlreadyJoined {
		t.Errorf("another token: %v", err)
	}
	if err := Join(t.Context(), dir, first, Options{Name: "other"}); refusal.Of(err) != refusal.AlreadyJoined {
		t.Errorf("another name: %v", err)
	}
	if _, _, err := Load(dir); err == nil {
		t.Error("an agent starts that has not joined")
	}
	if err := Join(t.Context(), dir, first, Options{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	w.whole(dir, "web")
	if settled, err := Finish(t.Context(), dir, Options{}); !settled || err != nil {
		t.Errorf("finishing what is finished: %v, %v", settled, err)
	}
	if w.used(second) != 0 {
		t.Error("the other token was used")
	}
}

func TestSilentServerKeepsTheAttempt(t *testing.T) {
	w := newWorld(t)
	dir, text := filepath.Join(t.TempDir(), "state"), w.token(time.Hour)
	w.breakOff(dir, text, "web", "is killed", 1)
	w.stop()
	if settled, err := Finish(t.Context(), dir, Options{}); settled || refusal.Of(err) != refusal.Unreachable {
		t.Errorf("without a server: %v, %v", settled, err)
	}
	if _, st, err := look(dir); st != begun || err != nil {
		t.Errorf("state %d, %v", st, err)
	}
}

func TestRefusedAttemptLeavesNothing(t *testing.T) {
	w := newWorld(t)
	text := w.token(time.Hour)
	if err := Join(t.Context(), filepath.Join(t.TempDir(), "state"), text, Options{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "state")
	w.breakOff(dir, text, "other", "is killed", 1)
	if settled, err := Finish(t.Context(), dir, Options{}); !settled || refusal.Of(err) != refusal.TokenUsed {
		t.Errorf("a used token: %v, %v", settled, err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("something was left")
	}
}

// A crash can leave half a key; nobody has seen it, so it is replaced.
func TestHalfAKeyIsReplaced(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "state")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, identityFile), []byte("tucdesk-se"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := Join(t.Context(), dir, w.token(time.Hour), Options{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	w.whole(dir, "web")
}
