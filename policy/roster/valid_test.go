package roster_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// badNames holds what a name must not be: markup, controls, look-alikes, other
// spellings of one name.
var badNames = []string{
	"", "-a", ".a", "A", "aB", "a b", " a", "a ", "a\n", "a\x00", "a\x1b[31m", "<b>", "a<script>", "a&b", "a/b", `a\b`, "..", "a,b", "a*", "ä", "а", // the last is Cyrillic
	"a\u202eb", "a\u200bb", strings.Repeat("a", 64), "a\xff",
}

func TestG11NameRules(t *testing.T) {
	m := found(t, 0, 1, 1)
	for _, bad := range badNames {
		root := m.root
		root.Name = bad
		wantCode(t, fmt.Sprintf("team %q", bad), root.Validate(), refusal.BadName)
		c := cert(t, 1)
		c.Name = bad
		wantCode(t, fmt.Sprintf("host %q", bad), c.Validate(), refusal.BadName)
		r := m.state.Roster()
		r.Servers[0].Name = bad
		wantCode(t, fmt.Sprintf("server %q", bad), r.Validate(), refusal.BadName)
		c = cert(t, 1)
		c.Tags = []string{bad}
		wantCode(t, fmt.Sprintf("tag %q", bad), c.Validate(), refusal.BadName)
	}
	for _, good := range []string{"a", "0", "db-1.example.org", strings.Repeat("a", 63)} {
		c := cert(t, 1)
		c.Name, c.Tags = good, []string{good, good + "x"}[:1]
		if err := c.Validate(); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func TestContentRules(t *testing.T) {
	m := found(t, 0, 2, 1)
	for _, c := range []struct {
		what string
		edit func(*roster.Roster)
		want refusal.Code
	}{
		{"no owner", func(r *roster.Roster) { r.Owners = nil }, refusal.BadStatement},
		{"threshold 0", func(r *roster.Roster) { r.Threshold = 0 }, refusal.BadStatement},
		{"threshold above the owners", func(r *roster.Roster) { r.Threshold = 3 }, refusal.BadStatement},
		{"an owner twice", func(r *roster.Roster) { r.Owners[1] = r.Owners[0] }, refusal.WrongRole},
		{"a revoked owner", func(r *roster.Roster) { r.Revoked = []key.ID{r.Owners[0].ID()} }, refusal.KeyRevoked},
		{"a key revoked twice", func(r *roster.Roster) { r.Revoked = []key.ID{{1}, {1}} }, refusal.WrongRole},
		{"lives too long", func(r *roster.Roster) { r.ExpiresAt = r.IssuedAt + wire.Millis(roster.MaxLifetime.Milliseconds()) + 1 }, refusal.BadTime},
		{"ends at once", func(r *roster.Roster) { r.ExpiresAt = r.IssuedAt }, refusal.BadTime},
		{"times that overflow", func(r *roster.Roster) { r.IssuedAt, r.ExpiresAt = 1<<63-1, -1<<63 }, refusal.BadTime},
		{"issued before 1970", func(r *roster.Roster) { r.IssuedAt = -1 }, refusal.BadTime},
		{"version text with an escape", func(r *roster.Roster) { r.MinVersion = "1\x1b" }, refusal.BadStatement},
		{"version text too long", func(r *roster.Roster) { r.MinVersion = strings.Repeat("1", 64) }, refusal.BadStatement},
		{"two servers of one name", func(r *roster.Roster) {
			s := server(t, 2)
			s.Name = r.Servers[0].Name
			r.Servers = append(r.Servers, s)
		}, refusal.BadName},
		{"two servers of one key", func(r *roster.Roster) { s := r.Servers[0]; s.Name = "two"; r.Servers = append(r.Servers, s) }, refusal.WrongRole},
		{"server without pin", func(r *roster.Roster) { r.Servers[0].Keys.TLS = key.Hash{} }, refusal.BadStatement},
		{"plain HTTP", func(r *roster.Roster) { r.Servers[0].URL = "http://a.example.org" }, refusal.BadName},
		{"address with a path", func(r *roster.Roster) { r.Servers[0].URL = "https://a.example.org/x" }, refusal.BadName},
		{"address with a user", func(r *roster.Roster) { r.Servers[0].URL = "https://a@b" }, refusal.BadName},
		{"address without host", func(r *roster.Roster) { r.Servers[0].URL = "https://" }, refusal.BadName},
		{"operator twice", func(r *roster.Roster) { r.Operators[1] = r.Operators[0] }, refusal.WrongRole},
		{"operator ends before 1970", func(r *roster.Roster) { r.Operators[0].NotAfter = -1 }, refusal.BadStatement},
		{"no e-mail", func(r *roster.Roster) { r.Operators[0].Email = "" }, refusal.BadName},
		{"e-mail domain", func(r *roster.Roster) { r.Operators[0].Email = "@example.org" }, refusal.BadName},
		{"two addresses", func(r *roster.Roster) { r.Operators[0].Email = "a@b,c@d" }, refusal.BadName},
		{"e-mail with an escape", func(r *roster.Roster) { r.Operators[0].Email = "a\x1b@b" }, refusal.BadName},
		{"no person", func(r *roster.Roster) { r.Operators[0].Person = "" }, refusal.BadName},
		{"person in capitals", func(r *roster.Roster) { r.Operators[0].Person = "Alice" }, refusal.BadName},
		{"person with a space", func(r *roster.Roster) { r.Operators[0].Person = "alice " }, refusal.BadName},
		{"person too long", func(r *roster.Roster) { r.Operators[0].Person = strings.Repeat("a", 255) }, refusal.BadName},
		{"enroller without lifetime", func(r *roster.Roster) { r.Enrollers[0].MaxLifetime = 0 }, refusal.BadTime},
		{"enroller for ever", func(r *roster.Roster) { r.Enrollers[0].MaxLifetime = 1 << 62 }, refusal.BadTime},
		{"enroller with a tag twice", func(r *roster.Roster) { r.Enrollers[0].Tags = []string{"a", "a"} }, refusal.BadName},
		{"enroller twice", func(r *roster.Roster) { r.Enrollers = append(r.Enrollers, r.Enrollers[0]) }, refusal.WrongRole},
	} {
		r := roster.Next(m.state, renew)
		c.edit(&r)
		wantCode(t, c.what, r.Validate(), c.want)
		if _, err := roster.Sign(m.owners[0], r); err == nil {
			t.Errorf("%s: was signed", c.what)
		}
		// An owner with a client of their own gets no further.
		u := forge(t, r, m.owners[0])
		if next, err := m.state.Apply(u, farAhead); err == nil || next != nil {
			t.Errorf("%s: was applied", c.what)
		}
	}
}

func TestOperatorWithoutRoleIsRefused(t *testing.T) {
	r := found(t, 0, 1, 1).state.Roster()
	r.Operators[0].Role = 0
	wantCode(t, "role 0", r.Validate(), refusal.BadStatement)
}

func TestG13OneKeyHasOneRole(t *testing.T) {
	m := found(t, 0, 1, 1)
	owner := m.owners[0].Public().Bytes()
	asOperator, err1 := key.PublicFromBytes[key.Operator](owner)
	asEnroller, err2 := key.PublicFromBytes[key.Enroller](owner)
	asGrant, err3 := key.PublicFromBytes[key.Grant](owner)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	for what, edit := range map[string]func(*roster.Roster){
		"operator": func(r *roster.Roster) { r.Operators[0].Key = asOperator },
		"enroller": func(r *roster.Roster) { r.Enrollers[0].Key = asEnroller },
		"server":   func(r *roster.Roster) { r.Servers[0].Keys.Grant = asGrant },
	} {
		r := roster.Next(m.state, renew)
		edit(&r)
		m.wantRefused(t, "owner's key as "+what, forge(t, r, m.owners[0]), refusal.WrongRole)
	}
	_, err := m.state.Operator(m.owners[0].ID(), now)
	wantCode(t, "an owner acts as operator", err, refusal.WrongRole)
	_, err = m.state.Operator(public[key.Enroller](t, 1).ID(), now)
	wantCode(t, "an enroller acts as operator", err, refusal.WrongRole)
	_, err = m.state.FindGrant(public[key.Audit](t, 1).ID())
	wantCode(t, "the audit key signs a grant", err, refusal.WrongRole)
	_, err = m.state.FindOwner(public[key.Operator](t, alice).ID())
	wantCode(t, "an operator signs a setup", err, refusal.WrongRole)
}

func TestSizeLimits(t *testing.T) {
	m := found(t, 0, 1, 1)
	for what, edit := range map[string]func(*roster.Roster){
		"owners":    func(r *roster.Roster) { r.Owners = make([]key.Public[key.Owner], roster.MaxOwners+1) },
		"servers":   func(r *roster.Roster) { r.Servers = make([]roster.Server, roster.MaxServers+1) },
		"operators": func(r *roster.Roster) { r.Operators = make([]roster.Operator, roster.MaxOperators+1) },
		"enrollers": func(r *roster.Roster) { r.Enrollers = make([]roster.Enroller, roster.MaxEnrollers+1) },
		"revoked":   func(r *roster.Roster) { r.Revoked = make([]key.ID, roster.MaxRevoked+1) },
		"tags":      func(r *roster.Roster) { r.Enrollers[0].Tags = make([]string, roster.MaxTags+1) },
	} {
		r := roster.Next(m.state, renew)
		edit(&r)
		wantCode(t, what, r.Validate(), refusal.TooMany)
	}
}

// anyKeys returns n keys whose private halves nobody knows, which is quicker than
// making them: about every second number is a point of the curve.
func anyKeys(n int) (list []key.Public[key.Operator]) {
	const prefix = "tucdesk-operator-pub:"
	for i := 0; len(list) < n; i++ {
		sum := sha256.Sum256(fmt.Append(nil, i))
		sum[31] &= 0x7f
		if k, err := key.ParsePublic[key.Operator](prefix + base64.RawURLEncoding.EncodeToString(sum[:])); err == nil {
			list = append(list, k)
		}
	}
	return list
}

func TestLargestRosterFitsItsSize(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("makes 10,000 keys")
	}
	m, members := found(t, 0, 1, 1), anyKeys(roster.MaxOperators)
	start := time.Now()
	u := m.next(m.state, func(r *roster.Roster) {
		renew(r)
		r.Operators = nil
		for i, k := range members {
			person := fmt.Sprintf("somebody.with.a.name.%d", i)
			r.Operators = append(r.Operators, roster.Operator{Key: k, Email: person + "@example.org", Person: person, Role: policy.Approver})
		}
		for i := range roster.MaxRevoked {
			r.Revoked = append(r.Revoked, key.ID{1, byte(i >> 8), byte(i)})
		}
	})
	st := mustApply(t, m.state, u)
	t.Logf("%d bytes, made and applied in %v", len(u.Statement), time.Since(start))
	if o, err := st.Operator(members[roster.MaxOperators-1].ID(), now); err != nil || o.Role != policy.Approver {
		t.Errorf("last operator: %v, %v", o.Role, err)
	}
}

func BenchmarkOperator(b *testing.B) {
	m := found(b, 0, 1, 1)
	id := public[key.Operator](b, alice).ID()
	for b.Loop() {
		if _, err := m.state.Operator(id, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	m := found(b, 0, 3, 2)
	u := m.next(m.state, renew)
	for b.Loop() {
		if _, err := m.state.Apply(u, farAhead); err != nil {
			b.Fatal(err)
		}
	}
}
