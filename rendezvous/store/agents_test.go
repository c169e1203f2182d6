package store

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

func containsAny(s string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}

func token(t testing.TB, uses int) Token {
	id := wire.NewNonce()
	return Token{ID: id, Statement: signed(t, "token %s", id), MaxUses: uses, ExpiresAt: wire.At(now.Add(time.Hour))}
}

// agent makes an agent with that name and a key of its own.
func agent(t testing.TB, k Token, name string) Agent {
	t.Helper()
	private, err := key.Generate[key.Agent]()
	if err != nil {
		t.Fatal(err)
	}
	return Agent{
		Kid: private.ID(), Name: name, TokenID: k.ID, Token: k.Statement, Certificate: signed(t, "certificate %s", private.ID()),
		Registration: signed(t, "registration"), Platform: "linux/amd64", Hostname: name, Version: "v1",
	}
}

func publish(t testing.TB, s *Store, team principal.TeamID, k Token) {
	t.Helper()
	in(t, s, team, "", func(tx *Tx) error { return tx.PublishToken(k, now) })
}

// join registers and expects code; it returns whether the agent was new.
func join(t testing.TB, s *Store, team principal.TeamID, a Agent, code refusal.Code) (fresh bool) {
	t.Helper()
	in(t, s, team, code, func(tx *Tx) (err error) {
		fresh, err = tx.RegisterAgent(a, now)
		return err
	})
	return fresh
}

func used(t testing.TB, s *Store, team principal.TeamID, k Token) (n int) {
	t.Helper()
	look(t, s, team, func(tx *Tx) error {
		info, err := tx.Token(k.ID)
		n = info.Used
		return err
	})
	return n
}

func TestTokensArePublishedOnce(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		k := token(t, 1)
		publish(t, s, team, k)
		publish(t, s, team, k)
		other := k
		other.Statement = signed(t, "another")
		in(t, s, team, refusal.Replay, func(tx *Tx) error { return tx.PublishToken(other, now) })
		later := token(t, 1)
		in(t, s, team, "", func(tx *Tx) error { return tx.PublishToken(later, now.Add(time.Second)) })
		look(t, s, team, func(tx *Tx) error {
			list := must[[]wire.TokenInfo](t)(tx.Tokens())
			if len(list) != 2 || list[0].Token.Hash() != later.Statement.Hash() {
				t.Errorf("tokens %v", list)
			}
			return nil
		})
	})
}

func TestKnownAgentCostsNoTokenUse(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		k := token(t, 1)
		publish(t, s, team, k)
		a := agent(t, k, "db-1")
		if !join(t, s, team, a, "") {
			t.Error("first registration is not new")
		}
		a.Hostname, a.Registration = "renamed", signed(t, "registration 2")
		if join(t, s, team, a, "") {
			t.Error("second registration is new")
		}
		if n := used(t, s, team, k); n != 1 {
			t.Errorf("token used %d times", n)
		}
		in(t, s, team, "", func(tx *Tx) error { return tx.SawAgent(a.Kid, now.Add(time.Minute)) })
		look(t, s, team, func(tx *Tx) error {
			got := must[Agent](t)(tx.Agent(a.Kid))
			if got.Hostname != "renamed" || got.Registration.Hash() != a.Registration.Hash() || got.LastSeen != wire.At(now.Add(time.Minute)) {
				t.Errorf("agent %+v", got)
			}
			if info := got.Info(true); !info.Online || info.Platform != "linux/amd64" {
				t.Errorf("info %+v", info)
			}
			return nil
		})
	})
}

func TestJoinTokenLimits(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		k, unknown, late := token(t, 2), token(t, 1), token(t, 1)
		late.ExpiresAt = wire.At(now)
		publish(t, s, team, k)
		publish(t, s, team, late)
		join(t, s, team, agent(t, k, "a"), "")
		join(t, s, team, agent(t, k, "b"), "")
		join(t, s, team, agent(t, k, "c"), refusal.TokenUsed)
		join(t, s, team, agent(t, late, "d"), refusal.TokenUsed)
		join(t, s, team, agent(t, unknown, "e"), refusal.NotFound)
		look(t, s, team, func(tx *Tx) error {
			list, _, err := tx.Agents("", 10)
			if len(list) != 2 {
				t.Errorf("agents %v: a refused one was stored", list)
			}
			return err
		})
	})
}

// Twenty agents on two nodes share a token for three.
func TestG8TokenUsedInARace(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		nodes := []*Store{open(t, dsn), open(t, dsn)}
		team := found(t, nodes[0])
		k := token(t, 3)
		publish(t, nodes[0], team, k)
		errs := race(20, func(i int) error {
			a := agent(t, k, fmt.Sprintf("host-%d", i))
			return nodes[i%2].InTx(t.Context(), team, func(tx *Tx) error {
				_, err := tx.RegisterAgent(a, now)
				return err
			})
		})
		if n := count(t, errs, refusal.TokenUsed); n != 3 {
			t.Errorf("%d agents joined", n)
		}
		if n := used(t, nodes[1], team, k); n != 3 {
			t.Errorf("token counted %d uses", n)
		}
	})
}

// One new agent that connects several times at once joins once.
func TestSameAgentInARaceUsesOneToken(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		nodes := []*Store{open(t, dsn), open(t, dsn)}
		team := found(t, nodes[0])
		k := token(t, 5)
		publish(t, nodes[0], team, k)
		a := agent(t, k, "host")
		errs := race(8, func(i int) error {
			return nodes[i%2].InTx(t.Context(), team, func(tx *Tx) error {
				_, err := tx.RegisterAgent(a, now)
				return err
			})
		})
		count(t, errs, "")
		if n := used(t, nodes[0], team, k); n != 1 {
			t.Errorf("token counted %d uses", n)
		}
	})
}

// race runs f n times at once and returns the errors.
func race(n int, f func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// count returns how many succeeded; every other one must carry code.
func count(t testing.TB, errs []error, code refusal.Code) (ok int) {
	t.Helper()
	for _, err := range errs {
		if err == nil {
			ok++
		} else if code == "" || refusal.Of(err) != code {
			t.Errorf("%v, want code %q", err, code)
		}
	}
	return ok
}

func TestB15KeyOfAnotherAgentOrTeam(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team, other := found(t, s), found(t, s)
		k, k2 := token(t, 9), token(t, 9)
		publish(t, s, team, k)
		publish(t, s, other, k2)
		a := agent(t, k, "one")
		join(t, s, team, a, "")
		again := agent(t, k, "two")
		again.Kid = a.Kid
		join(t, s, team, again, refusal.KeyInUse)
		elsewhere := agent(t, k2, "one")
		elsewhere.Kid = a.Kid
		join(t, s, other, elsewhere, refusal.KeyInUse)
		if n := used(t, s, other, k2); n != 0 {
			t.Errorf("a refused agent used the token %d times", n)
		}
	})
}

func TestG11NameTaken(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team, other := found(t, s), found(t, s)
		k, k2 := token(t, 9), token(t, 9)
		publish(t, s, team, k)
		publish(t, s, other, k2)
		first := agent(t, k, "web")
		join(t, s, team, first, "")
		second := agent(t, k, "web")
		join(t, s, team, second, refusal.NameTaken)
		join(t, s, other, agent(t, k2, "web"), "") // another team's names are its own
		join(t, s, team, agent(t, k, ""), refusal.BadName)
		in(t, s, team, "", func(tx *Tx) error { return tx.DeleteAgent(first.Kid, now) })
		join(t, s, team, second, "") // the name is free again
	})
}

func TestDeletedAgentNeverComesBack(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		k := token(t, 9)
		publish(t, s, team, k)
		a := agent(t, k, "gone")
		join(t, s, team, a, "")
		in(t, s, team, "", func(tx *Tx) error { return tx.DeleteAgent(a.Kid, now) })
		in(t, s, team, refusal.NotFound, func(tx *Tx) error { return tx.DeleteAgent(a.Kid, now) })
		join(t, s, team, a, refusal.KeyRevoked)
		look(t, s, team, func(tx *Tx) error {
			got := must[Agent](t)(tx.Agent(a.Kid))
			if got.DeletedAt != wire.At(now) || got.Name != "" || got.Certificate.Hash() != a.Certificate.Hash() {
				t.Errorf("agent %+v", got)
			}
			list, _, err := tx.Agents("", 10)
			if len(list) != 0 {
				t.Errorf("deleted agent is listed: %v", list)
			}
			return err
		})
	})
}

func TestAgentPages(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		k := token(t, 9)
		publish(t, s, team, k)
		for _, name := range []string{"c", "a", "e", "b", "d"} {
			join(t, s, team, agent(t, k, name), "")
		}
		look(t, s, team, func(tx *Tx) error {
			var seen, next string
			for range 3 {
				list, n, err := tx.Agents(next, 2)
				if err != nil {
					return err
				}
				for _, a := range list {
					seen += a.Name
				}
				next = n
			}
			if seen != "abcde" || next != "" {
				t.Errorf("pages gave %q, then %q", seen, next)
			}
			return nil
		})
	})
}

func TestK13BadCursors(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		for _, after := range []string{"A", "a b", "'; DROP TABLE agents; --", "\x00", strings.Repeat("a", 64), "ä", "%"} {
			in(t, s, team, refusal.BadCursor, func(tx *Tx) error { _, _, err := tx.Agents(after, 10); return err })
		}
		for _, limit := range []int{0, -1, MaxPage + 1, 1 << 40} {
			in(t, s, team, refusal.BadCursor, func(tx *Tx) error { _, _, err := tx.Agents("", limit); return err })
			in(t, s, team, refusal.BadCursor, func(tx *Tx) error { _, err := tx.Requests(limit); return err })
		}
	})
}

// Second order included: what was stored is used again and still only data.
func TestK7MetacharactersAreStoredLiterally(t *testing.T) {
	nasty := []string{
		`'; DROP TABLE agents; --`, `" OR ""="`, `\'; --`, `$1`, `$$`, `%_`, "new\nline", "\x1b[31m", "\u202e", `{"a":1}`, `NULL`, `?1`, `:x`,
	}
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		k := token(t, 99)
		publish(t, s, team, k)
		for i, text := range nasty {
			a := agent(t, k, fmt.Sprintf("n%d", i))
			a.Platform, a.Hostname, a.Version = text, text, text
			join(t, s, team, a, "")
			join(t, s, team, a, "")
			in(t, s, team, "", func(tx *Tx) error {
				got := must[Agent](t)(tx.Agent(a.Kid))
				if got.Hostname != text || got.Platform != text || got.Version != text {
					t.Errorf("%q came back as %q", text, got.Hostname)
				}
				r := request(t, team, text)
				if err := tx.PutRequest(r); err != nil {
					return err
				}
				if back := must[Request](t)(tx.Request(r.Hash)); back.Rule != text || back.Roles[0] != text {
					t.Errorf("%q came back as %q, %q", text, back.Rule, back.Roles)
				}
				return nil
			})
			want(t, s.UseOnce(t.Context(), text, wire.NewNonce(), now), "")
		}
		bad := agent(t, k, "bad")
		for _, label := range []string{"a\x00b", "\xff", strings.Repeat("x", 256)} {
			bad.Hostname = label
			join(t, s, team, bad, refusal.BadRequest)
		}
	})
}
