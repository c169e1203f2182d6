// Package files is the verb cp: files between this machine and others, or between
// two others, by the protocol of internal/filecopy.
package files

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/operator/remote"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// copying is one call of cp.
type copying struct {
	verb.Options
	user      string
	reason    string
	recursive bool
	preserve  bool
	special   bool
	quiet     bool
	noWait    bool
	noMap     bool

	io       *cli.IO
	from     place // whose files are sent at present; without a path
	progress filecopy.Progress
	result   result
	problems atomic.Uint64 // of all, also those that are not kept
	show     *bar
}

// result is the answer of cp --json.
type result struct {
	Files    uint64    `json:"files"`
	Folders  uint64    `json:"folders"`
	Bytes    uint64    `json:"bytes"` // of all files
	Kept     uint64    `json:"kept"`  // of them, were there already
	Seconds  float64   `json:"seconds"`
	Problems []problem `json:"problems"` // the first of them
	More     uint64    `json:"moreProblems"`
}

// problem is something that was left out.
type problem struct {
	Name string       `json:"name"`
	Code refusal.Code `json:"code"`
	Text string       `json:"text"`
}

// Command is the verb cp.
func Command() *cli.Command {
	var c copying
	return &cli.Command{
		Use: "cp SOURCE... TARGET", Short: "Copy files to, from and between machines",
		Long: "SOURCE and TARGET are [USER@]HOST:PATH, or files of this machine. A path that is not absolute begins in the\n" +
			"user's home there; the machine itself reads \"*\", \"?\" and \"[...]\" in a source, which match\n" +
			"hidden files only behind a dot. \"-\" is standard input or output.\n" +
			"Between two machines the data passes through this one, sealed on both ways.\n\n" +
			"A file gets its name when it is complete and compared, in one step; until then it is a hidden file beside it that\n" +
			"ends in \".tucdesk-part\". Run the same command again after a break: blocks that are there already are not sent again.\n" +
			"Links are copied as links when they stay inside their folder. Devices, FIFOs and sockets are left out, and named.\n\n" +
			"The policy's actions are copy-read, from a machine, and copy-write, to one.\n\n" +
			"Exit status: 0 when everything was copied, 1 when something was left out; others as for every verb.",
		Example: "tucdesk cp backup.tar web:\ntucdesk cp -rp site deploy@web:/srv/\ntucdesk cp 'web:/var/log/*.log' logs/\n" +
			"tucdesk cp -r db1:dump db2:/var/tmp/\npg_dump app | tucdesk cp - db2:app.sql",
		MinArgs: 2, MaxArgs: filecopy.MaxPaths + 1, Flags: c.flags, Complete: c.complete, Mixed: true,
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			c.io = io
			return c.run(ctx, args)
		},
	}
}

func (c *copying) flags(f *flag.FlagSet) {
	c.JSONFlag(f)
	f.BoolVar(&c.recursive, "recursive", false, "copy folders with all that is in them")
	f.BoolVar(&c.recursive, "r", false, "")
	f.BoolVar(&c.preserve, "preserve", false, "keep times and modes")
	f.BoolVar(&c.preserve, "p", false, "")
	f.BoolVar(&c.special, "special-bits", false, "with -p, also keep setuid, setgid and sticky")
	verb.QuietFlag(f, &c.quiet, "show no progress")
	f.StringVar(&c.user, "user", "", "login `user` at machines that are named without one (default: the agent's own user)")
	f.StringVar(&c.user, "l", "", "")
	f.StringVar(&c.reason, "reason", "", "`text` that an approver sees and the log keeps")
	f.BoolVar(&c.noMap, "no-port-mapping", false, "never ask the router to forward a port to the session")
	f.BoolVar(&c.noWait, "nowait", false, "when an approval is missing, withdraw the request and exit 252 rather than wait")
}

// complete offers machines; the shell offers files.
func (c *copying) complete(ctx context.Context, typed string) []string {
	hosts := c.CompleteHosts(ctx, typed)
	for i := range hosts {
		hosts[i] += ":"
	}
	return hosts
}

func (c *copying) run(ctx context.Context, args []string) error {
	var places []place
	for _, a := range args {
		p, err := parsePlace(a)
		if err != nil {
			return usage(err)
		}
		if p.user == "" {
			p.user = c.user
		}
		places = append(places, p)
	}
	last := len(places) - 1
	sources, target := places[:last], places[last]
	if err := check(sources, target, c.recursive); err != nil {
		return usage(err, withoutColon(places, func(name string) []string { return c.CompleteHosts(ctx, name) })...)
	}
	c.result.Problems = []problem{}
	begun := time.Now()
	c.show = newBar(c.io.Err, &c.progress, !c.quiet && !c.JSON)
	err := c.all(ctx, groups(sources), target, len(sources) > 1)
	c.show.close()
	c.result.Seconds = time.Since(begun).Seconds()
	return c.tell(err)
}

// withoutColon are hints for places that are the name of a machine and no file here;
// known gives the machines whose names begin so.
func withoutColon(places []place, known func(name string) []string) (hints []string) {
	for _, p := range places {
		if _, err := os.Lstat(p.path); err != nil && !p.remote() && slices.Contains(known(p.path), p.path) {
			hints = append(hints, "did you mean: "+p.path+":")
		}
	}
	return hints
}

func usage(err error, more ...string) error {
	return &cli.Error{Err: err, Hints: append(more, "tucdesk cp FILE HOST:PATH", "tucdesk cp HOST:PATH FILE"), Exit: cli.ExitUsage}
}

// all copies one group after the other.
func (c *copying) all(ctx context.Context, from []group, target place, many bool) error {
	for _, g := range from {
		var done filecopy.Finished
		var err error
		c.from = place{host: g.host, user: g.user}
		switch {
		case g.host == "" && target.remote():
			done, err = c.up(ctx, g, target, c.wanted(many))
		case g.host != "" && target.remote():
			done, err = c.across(ctx, g, target, c.wanted(many))
		case g.host != "":
			done, err = c.down(ctx, g, target, c.wanted(many))
		default:
			err = usage(refusal.New(refusal.BadArgument, "some sources are on this machine, and so is the target"))
		}
		c.result.Files, c.result.Folders = c.result.Files+done.Files, c.result.Folders+done.Folders
		c.result.Bytes, c.result.Kept = c.result.Bytes+done.Bytes, c.result.Kept+done.Kept
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *copying) wanted(many bool) (f filecopy.Flags) {
	for _, o := range [...]struct {
		on   bool
		flag filecopy.Flags
	}{{c.recursive, filecopy.Recursive}, {c.preserve, filecopy.Preserve}, {c.special, filecopy.Special}, {many, filecopy.Into}, {c.show.shown(), filecopy.Count}} {
		if o.on {
			f |= o.flag
		}
	}
	return f
}

// maxProblems is how many problems are kept and shown; our choice. The others are
// counted: a machine can think of any number, and fills no memory and no terminal
// (attack H4).
const maxProblems = 1000

// note tells of something that is left out. Names and texts are another machine's.
func (c *copying) note(p filecopy.Problem) {
	if c.problems.Add(1) > maxProblems {
		return
	}
	c.show.say(func() {
		c.result.Problems = append(c.result.Problems, problem(p))
		if !c.JSON {
			c.io.Say("%s: %s: %s", terminal.Escape(c.side(p)), terminal.Escape(string(p.Code)), terminal.Escape(p.Text))
		}
	})
}

// side is the name of an entry. What is not there is not at the source: which machine
// that is says who looks for a slip in the path.
func (c *copying) side(p filecopy.Problem) string {
	switch at := c.from; {
	case p.Code != refusal.NotFound:
		return p.Name
	case at.remote():
		at.path = p.Name
		return at.String()
	}
	return p.Name + " on this machine"
}

// tell ends the command: the answer, and what a person does next.
func (c *copying) tell(err error) error {
	c.result.More = c.problems.Load() - uint64(len(c.result.Problems))
	if c.result.More > 0 && !c.JSON {
		c.io.Say("and %s that are not shown", cli.Count(c.result.More, "more problem"))
	}
	if c.JSON {
		if bad := c.io.PrintJSON(c.result); err == nil {
			err = bad
		}
	}
	switch refusal.Of(err) {
	case "":
	case refusal.Unreachable, refusal.Unavailable, refusal.AgentStopped, refusal.Expired:
		return &cli.Error{Err: err, Hints: []string{"run the same command again: the copy goes on where it stopped"}}
	}
	if errors.Is(err, context.Canceled) {
		return &cli.Error{Err: fmt.Errorf("the copy was stopped: %w", err), Hints: []string{"run the same command again: the copy goes on where it stopped"}}
	}
	if err != nil {
		return err
	}
	if len(c.result.Problems) > 0 {
		return leftOut(c.result.Problems, c.result.More, c.JSON)
	}
	return nil
}

func (c *copying) ask(host, user string) remote.FilesAsk {
	return remote.FilesAsk{Host: host, User: user, Reason: c.reason, NoWait: c.noWait, NoMap: c.noMap}
}
