package policy

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"
)

// samples are whole policies with their expectations, as teams would write them.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(names) < 2 {
		t.Fatalf("found %d policies: the glob no longer matches", len(names))
	}
	out := map[string][]byte{"default": Default()}
	for _, name := range names {
		if out[name], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestSamplesHoldTheirExpectations(t *testing.T) {
	for name, data := range samples(t) {
		r, err := Parse(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		results := r.RunExpectations()
		if want := bytes.Count(data, []byte("\n[[expect]]\n")); len(results) != want {
			t.Errorf("%s: ran %d of %d expectations", name, len(results), want)
		}
		for _, res := range results {
			if !res.OK {
				t.Errorf("%s line %d, %s: want %s %s, got %+v", name, res.Line, res.Name, res.Want, res.Rule, res.Got)
			}
		}
		for _, f := range r.Check() {
			t.Errorf("%s: %s", name, f)
		}
	}
}

func TestRegulatedDemands(t *testing.T) {
	r, err := Parse(samples(t)["testdata/regulated.toml"])
	if err != nil {
		t.Fatal(err)
	}
	d := expectEffect(t, r, ask(func(q *Request) { q.Tags = []string{"prod", "ledger"} }), noon, NeedApproval)
	if want := (Approval{2, Roles(Admin, Owner)}); d.Approval != want {
		t.Errorf("%+v", d.Approval)
	}
	if want := (Limits{time.Hour, 15 * time.Minute, 8 * time.Hour}); d.Limits != want {
		t.Errorf("%+v", d.Limits)
	}
	if r.RosterGrace() != 4*time.Hour {
		t.Error(r.RosterGrace())
	}
}

// One changed byte makes a file that does not load or one with another hash,
// which the roster does not name. Neither may panic.
func TestEveryChangedByteChangesTheHash(t *testing.T) {
	data := []byte(head + gated)
	good, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1
		if r, err := Parse(bad); err == nil && r.Hash() == good.Hash() {
			t.Fatalf("byte %d does not count", i)
		}
	}
}

// A policy is shared by every session of an agent and every request of a server.
func TestRulesServeManyGoroutinesAtOnce(t *testing.T) {
	r, err := Parse(samples(t)["testdata/oncall.toml"])
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			at := noon.Add(time.Duration(i) * time.Hour)
			first := r.Decide(ask(), at)
			for range 200 {
				if d := r.Decide(ask(), at); !reflect.DeepEqual(d, first) {
					t.Errorf("%+v, then %+v", first, d)
				}
			}
			r.Explain(ask(), at)
			r.RunExpectations()
		})
	}
	all.Wait()
}
