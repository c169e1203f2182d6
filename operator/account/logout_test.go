package account_test

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/teamtest"
)

// expiring is an account whose login has to be renewed, at a server that does what during
// says before it answers with a fresh one.
func expiring(t *testing.T, during func(account.Home)) *account.Account {
	t.Helper()
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	version, hash := a.State.Version(), a.State.Hash()
	mux := http.NewServeMux()
	mux.HandleFunc(wire.PathLogin, func(w http.ResponseWriter, _ *http.Request) {
		during(m.Home)
		_ = json.NewEncoder(w).Encode(wire.LoginReply{Token: "fresh", ExpiresAt: wire.At(time.Now().Add(time.Hour)), RosterVersion: version, RosterHash: hash})
	})
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	member := teamtest.Must(m.Home.Membership())
	member.URL, member.Pin = s.URL, sha256.Sum256(s.Certificate().RawSubjectPublicKeyInfo)
	if err := m.Home.WriteJSON(account.TeamFile, member); err != nil {
		t.Fatal(err)
	}
	loginEnds(t, m.Home)
	a = teamtest.Must(account.Open(m.Home))
	t.Cleanup(a.Close)
	return a
}

// loginEnds saves a login that any command renews.
func loginEnds(t *testing.T, home account.Home) {
	t.Helper()
	if err := home.WriteJSON(account.LoginFile, account.SavedLogin{Token: "old", Expires: time.Now().Add(30 * time.Second)}); err != nil {
		t.Fatal(err)
	}
}

func TestLoginThatEndsIsRenewed(t *testing.T) {
	a := expiring(t, func(account.Home) {})
	if err := a.SignIn(t.Context()); err != nil || a.Credentials.Token != "fresh" || !a.Home.Has(account.LoginFile) {
		t.Errorf("%v, with %q", err, a.Credentials.Token)
	}
}

// A command waits for a slow server while its user logs out: what the server answers is
// worth nothing any more, and nothing of it is written or used.
func TestC12ACommandUnderWayDoesNotUndoALogout(t *testing.T) {
	a := expiring(t, func(home account.Home) {
		if found, err := home.Forget(); !found || err != nil {
			t.Errorf("logging out: %v, %v", found, err)
		}
	})
	for name, call := range map[string]func() error{
		"a renewal": func() error { return a.SignIn(t.Context()) },
		"a login":   func() error { return a.Login(t.Context()) },
	} {
		loginEnds(t, a.Home)
		if err := call(); refusal.Of(err) != refusal.NotLoggedIn {
			t.Errorf("%s: %v, want not_logged_in", name, err)
		}
		if a.Credentials.Token == "fresh" || a.Home.Has(account.LoginFile) {
			t.Errorf("after %s the login is back", name)
		}
	}
	if err := a.SignIn(t.Context()); refusal.Of(err) != refusal.NotLoggedIn {
		t.Errorf("the next command: %v", err)
	}
}

// Whichever of the two comes first to the disk, and where a login is written just then.
func TestC12ALogoutBesideARenewalIsALogout(t *testing.T) {
	gate := make(chan struct{})
	a := expiring(t, func(account.Home) { <-gate })
	for range 40 {
		loginEnds(t, a.Home)
		var both sync.WaitGroup
		both.Go(func() { _ = a.SignIn(t.Context()) })
		gate <- struct{}{} // the server has been asked
		both.Go(func() {
			if _, err := a.Home.Forget(); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		if raw, err := os.ReadFile(a.Home.Path(account.LoginFile)); err == nil {
			t.Fatalf("after a logout there is the login %s", raw)
		}
	}
}

// Who was never in, or is out already, has nothing to forget.
func TestForgettingNothing(t *testing.T) {
	for _, home := range []account.Home{{Dir: t.TempDir() + "/none"}, teamtest.NewTeam(t).Home} {
		if found, err := home.Forget(); found || err != nil {
			t.Errorf("%v, %v", found, err)
		}
	}
}
