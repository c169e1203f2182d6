package operator

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy/roster"
)

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
