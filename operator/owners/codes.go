package owners

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// ParseKey reads an owner's public key as owner create prints it.
func ParseKey(text string) (key.Public[key.Owner], error) {
	k, err := key.ParsePublic[key.Owner](text)
	if err != nil {
		return k, cli.NotCarried(err, text, "tucdesk-owner-pub:", "printed by tucdesk owner create")
	}
	return k, nil
}

// CheckCode compares the short code that the flag says, "" for none, with id's.
func CheckCode(code string, id key.ID) error {
	want := id.ShortCode()
	if code != "" && !strings.EqualFold(strings.ReplaceAll(code, "-", ""), strings.ReplaceAll(want, "-", "")) {
		return &cli.Error{Err: refusal.New(refusal.BadArgument, "the key's short code is %s, not %s: this is not the key of the person you spoke to", want, code), Exit: cli.ExitFailed, Hints: []string{
			"have the code read to you again; if it stays another one, somebody has changed the key on its way to you"}}
	}
	return nil
}

// CompareCode makes sure that a person has compared the code out of band: an e-mail
// with another key in it is how a stranger becomes a colleague. code is what the
// flag says, "" for none; then who is to be asked. Ctrl-C is the error of ctx.
func CompareCode(ctx context.Context, io *cli.IO, code, who string, id key.ID) error {
	if code != "" {
		return CheckCode(code, id)
	}
	io.Say("short code of this key: %s", id.ShortCode())
	return verb.Confirm(ctx, io, fmt.Sprintf("Does %s see the same code?", who), &cli.Error{
		Err:   errors.New("the short code was not confirmed; nothing was changed"),
		Hints: []string{"without a terminal, give the code that you were told: --code CODE"},
	})
}
