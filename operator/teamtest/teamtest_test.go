package teamtest_test

import (
	"testing"

	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/teamtest"
	"github.com/tucdesk/tucdesk/operator/vault"
)

func TestLockedOwnerIsWhatItSays(t *testing.T) {
	home := account.Home{Dir: t.TempDir()}
	owner := teamtest.LockedOwner(t, home)
	got, err := vault.Open(home.Path(account.OwnerKeyFile), []byte("correct horse"))
	if err != nil || got.ID() != owner.ID() {
		t.Errorf("the file holds %v, %v", got.ID(), err)
	}
}
