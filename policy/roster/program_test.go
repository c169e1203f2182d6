package roster_test

import (
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func version(t *testing.T, s string) roster.ProgramVersion {
	t.Helper()
	v, err := roster.ParseProgramVersion(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return v
}

// The order is that of Semantic Versioning 2.0.0, section 11, and of Go's
// versions of commits.
func TestProgramVersionsInOrder(t *testing.T) {
	order := []string{
		"v0.0.0-20260801101112-4e1b04222222+dirty", "0.0.0", "0.1.0-dev", "0.1.0", "0.9.9", "0.10.0",
		"1.0.0-0", "1.0.0-9", "1.0.0-10", "1.0.0--1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
		"1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "2.0.0", "4294967295.0.0",
	}
	for i, a := range order {
		for j, b := range order {
			got := version(t, a).Compare(version(t, b))
			if want := i - j; got < 0 != (want < 0) || got > 0 != (want > 0) {
				t.Errorf("%q compared with %q: %d", a, b, got)
			}
		}
	}
	for _, same := range []string{"v1.2.3", "1.2.3+build.007", "v1.2.3+-"} {
		if version(t, same).Compare(version(t, "1.2.3")) != 0 {
			t.Errorf("%q differs from 1.2.3", same)
		}
	}
}

func TestWhatIsNoProgramVersion(t *testing.T) {
	for _, s := range []string{
		"", "v", "1", "1.2", "0.1-dev", "1.2.3.4", "01.2.3", "1.02.3", "1.2.03", "1.2.3-", "1.2.3+", "1.2.3-01", "1.2.3-a..b", "1.2.3-a_b",
		"V1.2.3", "vv1.2.3", " 1.2.3", "1.2.3 ", "1.2.3\n", "1.-2.3", "+1.2.3", "1.2.x", "4294967296.0.0", "99999999999999999999.0.0", "1.2.3-é", "(devel)", "unknown",
		"1.2.3-" + strings.Repeat("a", roster.MaxName),
	} {
		if _, err := roster.ParseProgramVersion(s); refusal.Of(err) != refusal.BadStatement {
			t.Errorf("%q: %v, want bad_statement", s, err)
		}
	}
}

func TestProgramOlderThanTheRosterAsksFor(t *testing.T) {
	m := found(t, 0, 1, 1)
	for _, v := range []string{"0.0.1", "unknown", ""} {
		if err := m.state.CheckProgram(v); err != nil {
			t.Errorf("no minimum, version %q: %v", v, err)
		}
	}
	st := m.grow(func(r *roster.Roster) { renew(r); r.MinVersion = "1.4.0" })
	for v, ok := range map[string]bool{
		"1.4.0": true, "v1.4.0+dirty": true, "1.10.0": true, "2.0.0-rc.1": true,
		"1.4.0-rc.9": false, "1.3.99": false, "0.0.0": false, "unknown": false, "": false, "1.4": false, "(devel)": false,
	} {
		if err := st.CheckProgram(v); (err == nil) != ok || err != nil && refusal.Of(err) != refusal.ProgramTooOld {
			t.Errorf("at least 1.4.0, version %q: %v", v, err)
		}
	}
}

// What one program would read otherwise than another nobody can put into force.
func TestMinimumVersionHasOneSpelling(t *testing.T) {
	m := found(t, 0, 1, 1)
	for _, s := range []string{"v1.2.3", "1.2", "1.2.3+b", "latest", "1.2.3\x1b[2J", " "} {
		r := roster.Next(m.state, func(r *roster.Roster) { renew(r); r.MinVersion = s })
		if _, err := roster.Sign(m.owners[0], r); refusal.Of(err) != refusal.BadStatement {
			t.Errorf("signing %q: %v", s, err)
		}
		m.wantRefused(t, s, forge(t, r, m.owners[0]), refusal.BadStatement)
	}
}
