package cli_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// tree is a program with one verb of each kind; the verbs report what they got.
func tree(got *[]string, fail error) *cli.Command {
	var loud bool
	run := func(_ context.Context, io *cli.IO, args []string) error {
		*got = args
		if loud {
			*got = append(*got, "loud")
		}
		return fail
	}
	return &cli.Command{Use: "prog", Short: "a program", Sub: []*cli.Command{
		{Use: "exec HOST -- ARGV...", Short: "run", MinArgs: 2, MaxArgs: -1, Run: run, Example: "prog exec web -- id",
			Complete: func(_ context.Context, typed string) []string { return []string{typed + "-host"} },
			Flags: func(f *flag.FlagSet) {
				f.BoolVar(&loud, "loud", false, "say more")
				f.BoolVar(&loud, "l", false, "say more")
			}},
		{Use: "ls", Short: "list", Run: run},
		{Use: "noun", Short: "a noun", Sub: []*cli.Command{{Use: "verb", Short: "a verb", Run: run}}},
	}}
}

func call(t *testing.T, fail error, args ...string) (status int, got []string, out, talk string) {
	t.Helper()
	var o, e bytes.Buffer
	status = cli.Run(context.Background(), &cli.IO{In: os.Stdin, Out: &o, Err: &e}, tree(&got, fail), args)
	return status, got, o.String(), e.String()
}

func TestRemoteArgumentsAreNotOurs(t *testing.T) {
	status, got, _, talk := call(t, nil, "exec", "--loud", "web", "ls", "-l", "--all")
	if want := []string{"web", "ls", "-l", "--all", "loud"}; status != 0 || !slices.Equal(got, want) {
		t.Errorf("status %d, got %q (%s), want %q", status, got, talk, want)
	}
}

func TestExitCodes(t *testing.T) {
	cases := []struct {
		err  error
		exit int
		want string
	}{
		{nil, 0, ""},
		{cli.Status(7), 7, ""},
		{errors.New("disk is full"), cli.ExitFailed, "error: disk is full\n"},
		{refusal.New(refusal.PolicyDenied, "rule %q", "night"), cli.ExitDenied, "error: policy_denied: rule \"night\"\nhint: which rule decided: tucdesk policy explain HOST shell"},
		{refusal.New(refusal.Offline, ""), cli.ExitOffline, "error: offline\nhint: tucdesk ls\n"},
		{refusal.New(refusal.NotLoggedIn, ""), cli.ExitNotLoggedIn, "hint: tucdesk login\n"},
		{refusal.New(refusal.ApprovalExpired, ""), cli.ExitPending, "hint: "},
		{refusal.New(refusal.Unreachable, ""), cli.ExitTransport, "hint: "},
		{&cli.Error{Err: errors.New("x"), Hints: []string{"do y"}, Exit: 9}, 9, "error: x\nhint: do y\n"},
		{errors.New("peer says \x1b[2J\nerror: all is well"), 1, `error: peer says \x1b[2J\nerror: all is well`},
	}
	for _, c := range cases {
		status, _, out, talk := call(t, c.err, "ls")
		if status != c.exit || !strings.Contains(talk, c.want) || out != "" || c.want == "" && talk != "" {
			t.Errorf("%v: status %d, stderr %q, stdout %q; want %d, %q", c.err, status, talk, out, c.exit, c.want)
		}
	}
}

func TestWrongCommandLinesNameTheWayOut(t *testing.T) {
	for _, args := range [][]string{{"exec", "web"}, {"ls", "surplus"}, {"ls", "--unknown"}, {"noun", "nonsense"}, {"nonsense"}} {
		status, got, _, talk := call(t, nil, args...)
		if status == 0 || len(got) > 0 || !strings.HasPrefix(talk, "error: ") || strings.Count(talk, "error: ") != 1 {
			t.Errorf("%q: status %d, ran with %q, said %q", args, status, got, talk)
		}
	}
}

// What is wrong about a command line leads to the help, unless the verb knows better.
func TestWrongWordsOfAVerbLeadToItsHelp(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&cli.Error{Err: refusal.New(refusal.BadArgument, "x"), Exit: cli.ExitUsage}, "error: bad_argument: x\nhint: prog ls --help\n"},
		{&cli.Error{Err: errors.New("y"), Hints: []string{"do z"}, Exit: cli.ExitUsage}, "error: y\nhint: do z\n"},
		{&cli.Error{Err: errors.New("y"), Exit: 3}, "error: y\n"},
	} {
		if _, _, _, talk := call(t, c.err, "ls"); talk != c.want {
			t.Errorf("%v: said %q, want %q", c.err, talk, c.want)
		}
	}
}

func TestFlagsSayWhatTheyTake(t *testing.T) {
	tree := &cli.Command{Use: "prog", Run: func(context.Context, *cli.IO, []string) error { return nil }, Flags: func(f *flag.FlagSet) {
		f.Duration("every", 0, "`time` between two")
		n := f.Int("count", 0, "`number` of them")
		f.IntVar(n, "c", 0, "")
	}}
	for arg, want := range map[string]string{"--every=1": "want a time such as 30s, 5m or 24h\nhint: prog --help\n", "-cx": "want a number\n", "--count=1.5": "want a number\n"} {
		var talk bytes.Buffer
		if status := cli.Run(t.Context(), &cli.IO{In: os.Stdin, Out: &talk, Err: &talk}, tree, []string{arg}); status != cli.ExitUsage || !strings.Contains(talk.String(), want) || strings.Contains(talk.String(), "parse error") {
			t.Errorf("%s: status %d, said %q, want %q", arg, status, talk.String(), want)
		}
	}
}

func TestMistypedCommandsNameTheRightOne(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"lss"}, "did you mean: prog ls\n"},
		{[]string{"exce", "web"}, "did you mean: prog exec\n"},
		{[]string{"noun", "verv"}, "did you mean: prog noun verb\n"},
		{[]string{"exec", "web"}, "wants at least 2 arguments\n"},
		{[]string{"ls", "surplus"}, "takes no arguments\n"},
		{[]string{"ls", "--hlep"}, "hint: did you mean: --help\nhint: prog ls --help\n"},
	} {
		if status, _, _, talk := call(t, nil, c.args...); status != cli.ExitUsage || !strings.Contains(talk, c.want) {
			t.Errorf("%q: status %d, said %q, want %q", c.args, status, talk, c.want)
		}
	}
	if _, _, _, talk := call(t, nil, "entirely-different"); strings.Contains(talk, "did you mean") {
		t.Errorf("guessed from nothing: %q", talk)
	}
}

// One argument is neither "at least" nor "at most" one.
func TestExactNumberOfArgumentsIsNamed(t *testing.T) {
	tree := &cli.Command{Use: "prog", MinArgs: 1, MaxArgs: 1, Run: func(context.Context, *cli.IO, []string) error { return nil }, Flags: func(f *flag.FlagSet) { f.Bool("json", false, "as JSON") }}
	for line, want := range map[string]string{"": "error: \"prog\" wants 1 argument\n", "a b": "error: \"prog\" wants 1 argument\n", "--jsn a": "hint: did you mean: --json\n"} {
		var talk bytes.Buffer
		if status := cli.Run(t.Context(), &cli.IO{In: os.Stdin, Out: &talk, Err: &talk}, tree, strings.Fields(line)); status != cli.ExitUsage || !strings.Contains(talk.String(), want) {
			t.Errorf("%q: status %d, said %q, want %q", line, status, talk.String(), want)
		}
	}
}

// A string of another kind is named by what it is for, and never shown: it may be a
// secret.
func TestStringsOfAnotherKindAreNamedAndNotShown(t *testing.T) {
	const secret = "c2VjcmV0LXN0dWZm"
	for prefix, want := range map[string]string{
		"tucdesk-setup:": "founds a team", "tucdesk-join:": "new machine", "tucdesk-recovery:": "a secret", "tucdesk-operator-pub:": "tucdesk operator add", "tucdesk-team:": "",
	} {
		err := cli.NotCarried(errors.New("not complete"), prefix+secret, "tucdesk-team:", "shown by somebody")
		_, _, _, talk := call(t, err, "ls")
		if strings.Contains(talk, secret) || !strings.Contains(talk, "begins with tucdesk-team:") || want != "" && !strings.Contains(talk, want) || want == "" && strings.Contains(talk, "what was given") {
			t.Errorf("%s: said %q", prefix, talk)
		}
	}
}

func TestCarriedStringsComeFromAnArgumentAFileOrInput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "string")
	if err := os.WriteFile(file, []byte(" tucdesk-team:abc \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, 128<<10+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for arg, ok := range map[string]bool{"tucdesk-team:abc": true, file: true, "-": true, large: false, file + "-none": false, "": false, filepath.Dir(file): false} {
		got, err := (&cli.IO{In: in}).Carried(arg)
		if (err == nil) != ok || ok && got != "tucdesk-team:abc" {
			t.Errorf("%q: %q, %v", arg, got, err)
		}
	}
}

// What was meant to be a string and is none is taken for the name of a file. The
// system's own error would show all of it.
func TestDamagedStringIsNotShown(t *testing.T) {
	const word = "c2VjcmV0LXN0dWZm"
	long := "ucdesk-join:" + strings.Repeat(word, 18) // as pasted without its first letter: 300 bytes
	for _, arg := range []string{long, long[:200], "ucdesk-join:" + word, word + word[:8], "\x00" + word, "x/" + long} {
		_, err := (&cli.IO{}).Carried(arg)
		if err == nil || strings.Contains(err.Error(), word[:12]) || len(err.Error()) > 80 {
			t.Errorf("%d bytes: %v", len(arg), err)
		}
	}
	if _, err := (&cli.IO{}).Carried(long); err == nil || !strings.Contains(err.Error(), "no string of ours") {
		t.Errorf("%v", err)
	}
}

// A name that was mistyped is shown in full: nobody finds the error in "se...".
func TestMissingFileIsNamed(t *testing.T) {
	t.Chdir(t.TempDir())
	for arg, named := range map[string]bool{
		"setup.txt": true, "../keys/token.txt": true, "setup": false,
		"c2VjcmV0LXN0dWZmLCBsb25n.txt": false, "ucdesk-join:c2VjcmV0.txt": false, strings.Repeat("a.", 40): false,
	} {
		if _, err := (&cli.IO{}).Carried(arg); err == nil || strings.Contains(err.Error(), arg) != named || !strings.Contains(err.Error(), "there is no file") {
			t.Errorf("%q: %v", arg, err)
		}
	}
}

func TestFileWhoseNameBeginsLikeAStringIsAFile(t *testing.T) {
	t.Chdir(t.TempDir())
	const file = "tucdesk-token.txt"
	if err := os.WriteFile(file, []byte("tucdesk-join:abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := (&cli.IO{}).Carried(file); got != "tucdesk-join:abc" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTakenPortSaysSo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = net.Listen("tcp", l.Addr().String())
	if _, _, _, talk := call(t, cli.Listening(err), "ls"); !strings.Contains(talk, "hint: another program") && runtime.GOOS != "windows" {
		t.Errorf("said %q", talk)
	}
	if err := errors.New("x"); cli.Listening(err) != err {
		t.Error("another error was changed")
	}
}

// What stays behind is told also when Ctrl-C ends the command.
func TestInterruptedWorkTellsWhatStays(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var got []string
	var e bytes.Buffer
	err := &cli.Error{Err: fmt.Errorf("may be founded: %w", context.Canceled), Hints: []string{"look"}}
	if status := cli.Run(ctx, &cli.IO{In: os.Stdin, Out: &e, Err: &e}, tree(&got, err), []string{"ls"}); status != cli.ExitInterrupted || !strings.Contains(e.String(), "hint: look") {
		t.Errorf("status %d, said %q", status, e.String())
	}
}

func TestHelpHasExamplesAndCompletionsExist(t *testing.T) {
	if status, _, out, _ := call(t, nil, "exec", "--help"); status != 0 || !strings.Contains(out, "  prog exec web -- id") {
		t.Errorf("help says %q", out)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if status, _, out, _ := call(t, nil, "completion", shell); status != 0 || len(out) < 500 {
			t.Errorf("completion for %s: status %d, %d bytes", shell, status, len(out))
		}
	}
	if _, _, out, _ := call(t, nil, "__complete", "exec", "web"); !strings.HasPrefix(out, "web-host\n") {
		t.Errorf("completion of a host gave %q", out)
	}
}

func TestInterruptedWorkExits130(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var got []string
	var e bytes.Buffer
	if status := cli.Run(ctx, &cli.IO{In: os.Stdin, Out: &e, Err: &e}, tree(&got, context.Canceled), []string{"ls"}); status != cli.ExitInterrupted {
		t.Errorf("status %d, want %d", status, cli.ExitInterrupted)
	}
}

func TestShortFlagIsShownBesideItsLongForm(t *testing.T) {
	for _, loud := range []string{"-l", "--loud"} {
		if _, got, _, talk := call(t, nil, "exec", loud, "web", "true"); !slices.Contains(got, "loud") {
			t.Errorf("%s: got %q, said %q", loud, got, talk)
		}
	}
	if _, _, out, _ := call(t, nil, "exec", "--help"); !strings.Contains(out, "-l, --loud ") || strings.Contains(out, "--l ") {
		t.Errorf("help says %q", out)
	}
	if status, _, _, talk := call(t, nil, "exec", "--l", "web", "true"); status != cli.ExitUsage {
		t.Errorf("--l: status %d, said %q", status, talk)
	}
}

func TestEveryProgramSaysItsVersion(t *testing.T) {
	if status, _, out, _ := call(t, nil, "version"); status != 0 || out != "prog "+cli.Version()+"\n" {
		t.Errorf("status %d, printed %q", status, out)
	}
	if status, _, out, _ := call(t, nil, "version", "--json"); status != 0 || !strings.Contains(out, `"version": "`+cli.Version()+`"`) {
		t.Errorf("status %d, printed %q", status, out)
	}
	if status, _, out, _ := call(t, nil, "--version"); status != 0 || out != "prog "+cli.Version()+"\n" {
		t.Errorf("--version: status %d, printed %q", status, out)
	}
	// A program without verbs, such as a relay, has it too.
	var out bytes.Buffer
	alone := &cli.Command{Use: "alone", Run: func(context.Context, *cli.IO, []string) error { return errors.New("ran") }}
	if status := cli.Run(context.Background(), &cli.IO{Out: &out, Err: &out}, alone, []string{"version"}); status != 0 || !strings.HasPrefix(out.String(), "alone ") {
		t.Errorf("status %d, printed %q", status, out.String())
	}
}

func TestTimesHaveOneForm(t *testing.T) {
	for want, at := range map[string]time.Time{
		"never": {}, "2001-09-09T01:46:40Z": time.Unix(1e9, 999).In(time.FixedZone("far", 9*3600)),
	} {
		if got := cli.When(at); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := cli.When(time.UnixMilli(0)); got != "never" {
		t.Errorf("a message's zero is %q", got)
	}
}

func TestCountHasTheRightPlural(t *testing.T) {
	for want, got := range map[string]string{
		"1 machine": cli.Count(1, "machine"), "0 machines": cli.Count(0, "machine"), "2 entries": cli.Count(int64(2), "entry"), "1 entry": cli.Count(int64(1), "entry"),
		"3 keys": cli.Count(uint64(3), "key"), "0 days": cli.Count(0, "day"), "2 ways": cli.Count(2, "way"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A command that did nothing of what was asked must not succeed.
func TestHelpAndCompletionRefuseWrongWords(t *testing.T) {
	for line, hint := range map[string]string{
		"help foo": "prog --help", "help ecec": "did you mean: prog exec", "help exec foo": "prog exec --help",
		"completion basj": "did you mean: prog completion bash", "completion bash extra": "prog completion bash --help",
	} {
		if status, _, out, talk := call(t, nil, strings.Fields(line)...); status != cli.ExitUsage || out != "" || !strings.Contains(talk, "hint: "+hint) {
			t.Errorf("%q: status %d, printed %q, said %q", line, status, out, talk)
		}
	}
	for line, want := range map[string]string{"help": "Available Commands", "help exec": "prog exec HOST", "completion": "bash", "help completion": "bash", "completion fish": "complete"} {
		if status, _, out, talk := call(t, nil, strings.Fields(line)...); status != 0 || !strings.Contains(out, want) || talk != "" {
			t.Errorf("%q: status %d, printed %q, said %q", line, status, out, talk)
		}
	}
}
