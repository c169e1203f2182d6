package owners

import (
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/operator/account"
)

// Notes are what this machine remembers of owner keys that it has made or opened, so
// that a list can tell them apart: the roster does not say whose a key is. They are
// no secret and for people only; nothing is decided by them.
type Notes struct {
	Own      key.ID `json:"own,omitzero"`      // of the key behind the passphrase here
	Recovery key.ID `json:"recovery,omitzero"` // of the recovery key that was shown here
}

// maxNotes bounds the file, in bytes; our choice.
const maxNotes = 1 << 10

// ReadNotes returns what is remembered; a missing or damaged file is nothing.
func ReadNotes(home account.Home) Notes {
	var n Notes
	if home.ReadJSON(account.OwnerNotesFile, maxNotes, &n) != nil {
		return Notes{}
	}
	return n
}

// NoteRecovery remembers which key is the recovery key.
func NoteRecovery(home account.Home, id key.ID) { note(home, func(n *Notes) { n.Recovery = id }) }

func noteOwn(home account.Home, id key.ID) { note(home, func(n *Notes) { n.Own = id }) }

// note changes the notes. Without them a list says less; that is no reason for a
// command to fail.
func note(home account.Home, edit func(*Notes)) {
	was := ReadNotes(home)
	is := was
	if edit(&is); is != was {
		_ = home.WriteJSON(account.OwnerNotesFile, is)
	}
}
