package account

import (
	"errors"
	"io/fs"
	"os"

	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// A logout is final for every command that began before it, or one that was waiting for
// the server while its login was taken away would put a fresh one in its place (attack C12).
// Each logout leaves a nonce in the folder before it takes the login away; whoever writes a
// login compares it with the one that stood there when he began, before the write and after
// it. Either the nonce is seen then, or it came later, and so did the logout's removal. That
// needs no lock, which a process that was stopped could keep.

// lastLogout is what the last logout left, zero before the first.
func (h Home) lastLogout() (id wire.Nonce, err error) {
	err = h.ReadJSON(logoutFile, maxLoginFile, &id)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return id, err
}

// Forget logs out for good: no command that runs now brings the login back. found reports
// whether there was one, and with an error whether it is gone all the same.
func (h Home) Forget() (found bool, err error) {
	if err := keyfile.CheckDir(h.Dir); errors.Is(err, fs.ErrNotExist) {
		return false, nil // in no team
	}
	err = h.WriteJSON(logoutFile, wire.NewNonce())
	removed := os.Remove(h.Path(LoginFile))
	if errors.Is(removed, fs.ErrNotExist) {
		return false, err
	}
	return removed == nil, errors.Join(err, removed)
}

// keepLogin makes cred the login from now on, unless somebody has logged out since then.
func (a *Account) keepLogin(cred client.Credentials, since wire.Nonce) error {
	if err := a.Home.unlessForgotten(since); err != nil {
		return err
	}
	if err := a.Home.WriteJSON(LoginFile, SavedLogin{Token: cred.Token, Expires: cred.Expires}); err != nil {
		return err
	}
	if err := a.Home.unlessForgotten(since); err != nil {
		if gone := os.Remove(a.Home.Path(LoginFile)); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return err
	}
	a.Credentials = cred
	return nil
}

func (h Home) unlessForgotten(since wire.Nonce) error {
	now, err := h.lastLogout()
	if err == nil && now != since {
		err = refusal.New(refusal.NotLoggedIn, "you logged out while this was under way")
	}
	return err
}
