package operator

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/owners"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func tokenCommand() *cli.Command {
	return &cli.Command{Use: "token", Short: "Make and list join tokens", Sub: []*cli.Command{tokenCreateCommand(), tokenListCommand()}}
}

type tokenCreate struct {
	owners.Options
	tags  string // as they were typed
	uses  int
	ttl   time.Duration
	asOwn bool
	quiet bool
}

func tokenCreateCommand() *cli.Command {
	var o tokenCreate
	return &cli.Command{
		Use: "create", Short: "Make a join token for new machines",
		Long: "Prints the string that a new machine joins with. It is signed on this machine by your enroller key, or with\n" +
			"--owner by the owner key, which may give any tag. Whoever has the string can add machines until it is used up\n" +
			"or expires, so hand it over as you would a password. The server counts its uses and never sees the secret in it.",
		Example: "tucdesk token create\ntucdesk token create --tags prod,eu --uses 20 --ttl 24h\ntucdesk token create --quiet | ssh root@web tucdesk-agent join -",
		Flags: func(f *flag.FlagSet) {
			o.OwnerFlags(f)
			f.StringVar(&o.tags, "tags", "", "comma-separated `tags` that machines with this token get")
			f.IntVar(&o.uses, "uses", 1, "how many machines may join with it: a `number` from 1")
			f.DurationVar(&o.ttl, "ttl", time.Hour, "how long it may be used: a `time` such as 30m or 24h")
			f.BoolVar(&o.asOwn, "owner", false, "sign with the owner key")
			verb.QuietFlag(f, &o.quiet, "print the string alone")
		},
		Values: map[string]func(string) []string{"tags": o.CompleteTags},
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			if o.uses < 1 || o.uses > roster.MaxUses || o.ttl <= 0 || o.ttl > roster.MaxTokenLifetime {
				return &cli.Error{Err: fmt.Errorf("a token is good for 1 to %d machines and for up to %s", roster.MaxUses, cli.Count(int(roster.MaxTokenLifetime.Hours()/24), "day")), Hints: []string{"--uses 20 --ttl 24h"}, Exit: cli.ExitUsage}
			}
			tags, err := verb.Tags(o.tags)
			if err != nil {
				return err
			}
			return o.WithAccount(ctx, io, func(a *account.Account) error { return o.run(ctx, io, a, tags) })
		},
	}
}

// tokenView is the answer of token create.
type tokenView struct {
	ID      wire.Nonce `json:"id"`
	Join    string     `json:"join"`
	Tags    []string   `json:"tags"`
	Uses    int        `json:"uses"`
	Expires time.Time  `json:"expires"`
}

func (o *tokenCreate) run(ctx context.Context, io *cli.IO, a *account.Account, tags []string) error {
	k, err := key.Generate[key.Token]()
	if err != nil {
		return err
	}
	now := time.Now()
	token := roster.Token{
		ID: wire.NewNonce(), Team: a.Member.Team, Fingerprint: a.Member.Fingerprint,
		Server: roster.Address{URL: a.Member.URL, Pin: a.Member.Pin, Access: a.Member.Access},
		Tags:   tags, IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(o.ttl)), MaxUses: o.uses, Key: k.Public(),
	}
	signed, err := o.sign(ctx, io, a, token)
	if err != nil {
		return err
	}
	if _, err := a.State.VerifyToken(signed, now); err != nil {
		return &cli.Error{Err: err, Hints: []string{"the owner key may give any tag: tucdesk token create --owner", "an enroller's tags are fixed when it is made: tucdesk team init --tags"}}
	}
	if err := a.Server.PublishToken(ctx, a.Credentials, signed); err != nil {
		return err
	}
	join, err := roster.JoinString(a.Member.Root, signed, k)
	if err != nil {
		return err
	}
	return o.print(io, tokenView{ID: token.ID, Join: join, Tags: token.Tags, Uses: token.MaxUses, Expires: token.ExpiresAt.Time()})
}

func (o *tokenCreate) sign(ctx context.Context, io *cli.IO, a *account.Account, token roster.Token) (statement.Signed, error) {
	if o.asOwn {
		owner, err := o.Owner(ctx, io, a.Home)
		if err != nil {
			return nil, err
		}
		return roster.SignToken(owner, token)
	}
	enroller, err := keyfile.LoadKey[key.Enroller](a.Home.Path(account.EnrollerKeyFile))
	if err != nil {
		return nil, &cli.Error{Err: err, Hints: []string{"join tokens are made where the team was founded, or with --owner"}}
	}
	return roster.SignToken(enroller, token)
}

func (o *tokenCreate) print(io *cli.IO, v tokenView) error {
	switch {
	case o.JSON:
		return io.PrintJSON(v)
	case o.quiet:
		return io.Print("%s", v.Join)
	}
	if err := io.Print("%s", v.Join); err != nil {
		return err
	}
	io.Say("\nGood for %s until %s. On the machine, as root:\n\n  tucdesk-agent join TOKEN\n  tucdesk-agent run", cli.Count(v.Uses, "machine"), cli.When(v.Expires))
	return nil
}

// tokenLine is one line of token ls.
type tokenLine struct {
	ID      wire.Nonce `json:"id"`
	Tags    []string   `json:"tags"`
	Used    int        `json:"used"`
	Uses    int        `json:"uses"`
	Expires time.Time  `json:"expires"`
	Valid   bool       `json:"valid"` // more machines may join with it
}

func tokenListCommand() *cli.Command {
	var o verb.Options
	return &cli.Command{
		Use: "ls", Short: "List join tokens that have not expired, and how often they were used", Example: "tucdesk token ls --json", Flags: o.JSONFlag,
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			return o.WithAccount(ctx, io, func(a *account.Account) error { return listTokens(ctx, a, io, o.JSON) })
		},
	}
}

func listTokens(ctx context.Context, a *account.Account, io *cli.IO, asJSON bool) error {
	infos, err := a.Server.Tokens(ctx, a.Credentials)
	if err != nil {
		return err
	}
	now, lines := time.Now(), []tokenLine{}
	for _, info := range infos {
		// What has expired or what no key of ours signed lets nobody join and is not
		// shown: the server may not fill this list as it likes.
		if t, err := a.State.VerifyToken(info.Token, now); err == nil {
			lines = append(lines, tokenLine{t.ID, verb.List(t.Tags), info.Used, t.MaxUses, t.ExpiresAt.Time(), info.Used < t.MaxUses})
		}
	}
	if asJSON {
		return io.PrintJSON(lines)
	}
	return verb.Table(io, []any{"TOKEN", "USED", "EXPIRES", "TAGS"}, func(row func(...any)) {
		for _, l := range lines {
			row(l.ID.String(), fmt.Sprintf("%d of %d", l.Used, l.Uses), cli.When(l.Expires), strings.Join(l.Tags, ","))
		}
	})
}
