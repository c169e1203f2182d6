package founding

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/teamtest"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// What was made for a team that never came to be goes; what was there stays.
func TestUndoneFoundingLeavesWhatItFound(t *testing.T) {
	home := account.Home{Dir: t.TempDir()}
	for _, name := range []string{account.OwnerKeyFile, account.OperatorKeyFile, account.EnrollerKeyFile, account.TeamFile, account.FoundingFile, "notes"} {
		if err := os.WriteFile(home.Path(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := &founding{home: home, made: []string{account.OwnerKeyFile, account.EnrollerKeyFile}}
	fresh := account.Home{Dir: filepath.Join(t.TempDir(), "new")}
	if err := os.Mkdir(fresh.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := (&founding{home: fresh, madeDir: true}).undo(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(fresh.Dir); err == nil {
		t.Error("the folder that was made stays")
	}
	for range 2 { // the second time there is nothing left to do
		if err := f.undo(); err != nil {
			t.Fatal(err)
		}
		if got := teamtest.Folder(t, home.Dir); !slices.Equal(got, []string{"notes", account.OperatorKeyFile}) {
			t.Errorf("left %q", got)
		}
	}
}

// Who founds a team has seen no key yet, so the error names what was typed.
func TestMistypedEmailIsNamedAsItWasTyped(t *testing.T) {
	for _, typed := range []string{"you-example", "", "a@b, c@d"} {
		err := (&teamInit{name: "acme", email: typed, threshold: 1}).trial(roster.SetupInfo{}, nil, nil)
		if refusal.Of(err) != refusal.BadName || !strings.Contains(err.Error(), `--email "`+typed+`": want one address, as you@example.com`) {
			t.Errorf("%q: %v", typed, err)
		}
	}
}

func TestTheFirstTokenGivesTheTagsOfTheTeam(t *testing.T) {
	for tags, want := range map[string]string{"": "tucdesk token create", "prod,eu": "tucdesk token create --tags prod,eu"} {
		if got := (&teamInit{tags: verb.SplitList(tags)}).begin(account.Home{}).firstToken(); got != want {
			t.Errorf("%q: %q", tags, got)
		}
	}
}
