package endtoend

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// TestC12CopiedLoginDiesWithTheLogout: what somebody copied of login.json reads nothing
// after tucdesk logout. Without the server the login is forgotten all the same, and it
// is said how long a copy lives; the next logout that reaches it ends that one too.
func TestC12CopiedLoginDiesWithTheLogout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	member := w.ann.member()
	api := must(client.New(member.config()))
	defer api.Close()
	reads := func(token string) error {
		_, err := api.Agents(t.Context(), client.Credentials{Team: member.Team, Token: token}, "")
		return err
	}
	copied := w.ann.token()
	if err := reads(copied); err != nil {
		t.Fatal(err)
	}
	w.ann.run("logout").is(t, 0)
	if err := reads(copied); refusal.Of(err) != refusal.NotLoggedIn {
		t.Errorf("a copied login answers %v", err)
	}
	w.ann.run("ls").refused(t, 250, "not_logged_in")

	w.ann.run("login").is(t, 0)
	copied = w.ann.token()
	w.server.stop()
	if a := w.ann.run("logout").is(t, 0); !strings.Contains(a.err, "the server could not be told: unreachable") || !strings.Contains(a.err, "with it until "+time.Now().Format("2006-")) {
		t.Errorf("offline it says %q", a.err)
	}
	if _, err := os.Stat(w.ann.state("login.json")); !os.IsNotExist(err) {
		t.Errorf("login.json: %v", err)
	}
	w.startServer()
	if err := reads(copied); err != nil {
		t.Fatalf("nobody has told the server, and yet %v", err)
	}
	eventually(t, "a later login", func() bool { // in whole seconds
		w.ann.run("login").is(t, 0)
		w.ann.run("logout").is(t, 0)
		return refusal.Of(reads(copied)) == refusal.NotLoggedIn
	})
}

// token is the JWT in this person's login.json.
func (p *person) token() string {
	p.w.t.Helper()
	var login struct{ Token string }
	decode(p.w.t, string(must(os.ReadFile(p.state("login.json")))), &login)
	return login.Token
}
