package operator

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/live"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// A person who is attacked sees it where the sessions are listed.
func TestA14ListOfSessionsTellsOfForgedDatagrams(t *testing.T) {
	now := time.Now()
	for _, alarm := range []bool{false, true} {
		var out, talk bytes.Buffer
		list := []live.Session{{Host: "web\x1b[2J", PID: 4242, Since: now, OpenFailed: 1234567, Alarm: alarm}}
		if err := showSessions(&cli.IO{Out: &out, Err: &talk}, list, now); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "NOT OPENED") || !strings.Contains(out.String(), "1234567") {
			t.Errorf("printed %q", out.String())
		}
		if said := strings.Contains(talk.String(), "forged datagrams to the session with web") && strings.Contains(talk.String(), "4242"); said != alarm || strings.Contains(talk.String(), "\x1b") {
			t.Errorf("alarm %v: said %q", alarm, talk.String())
		}
	}
}

func TestListingShowsNamesStatesAndNothingThatSteersATerminal(t *testing.T) {
	machines := []account.Machine{
		{Cert: roster.AgentCert{Name: "web", Tags: []string{"prod", "eu"}}, Info: wire.AgentInfo{Online: true, LastSeen: wire.At(time.Unix(1e9, 0)), Platform: "linux\x1b[2J\n/x"}},
		{Cert: roster.AgentCert{Name: "db", Tags: []string{"prod"}}, Info: wire.AgentInfo{}},
	}
	for _, c := range []struct {
		o    listing
		tags string
		want string
		talk string
	}{
		{listing{quiet: true}, "", "web\ndb\n", ""},
		{listing{quiet: true}, "eu,prod", "web\n", ""},
		{listing{quiet: true}, "none", "", "no machines that carry none"},
		{listing{Options: verb.Options{JSON: true}}, "none", "[]\n", ""},
		{listing{}, "eu", `linux\x1b[2J\n/x`, ""},
		{listing{}, "", "2001-09-09T01:46:40Z", ""},
	} {
		var out, talk bytes.Buffer
		tags := verb.SplitList(c.tags)
		if err := c.o.print(&cli.IO{Out: &out, Err: &talk}, viewHosts(machines, tags), tags); err != nil {
			t.Fatal(err)
		}
		exact := c.o.quiet || c.o.JSON
		if exact && out.String() != c.want || !strings.Contains(out.String(), c.want) || !strings.Contains(talk.String(), c.talk) || strings.Contains(out.String(), "\x1b") {
			t.Errorf("%+v %q: printed %q, said %q", c.o, c.tags, out.String(), talk.String())
		}
	}
}

// "tucdesk ls web" asks for a tag; who meant the machine is told so.
func TestListingNamesTheMachineThatWasTakenForATag(t *testing.T) {
	machines := []account.Machine{{Cert: roster.AgentCert{Name: "web", Tags: []string{"prod"}}}}
	for typed, want := range map[string]string{"web": "web", "eu,web": "web", "prod": "", "": ""} {
		if got := misread(machines, verb.SplitList(typed)); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}
