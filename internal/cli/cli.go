// Package cli is how our programs speak on a command line: a tree of commands
// with help, examples and completions for four shells, errors as one "error:"
// line with "hint:" lines below, documented exit codes, and Ctrl-C that ends
// the work in hand before the program.
//
// A command is the plain struct Command; that cobra draws the tree is known to
// this package alone.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tucdesk/tucdesk/internal/mistyped"
	"github.com/tucdesk/tucdesk/internal/terminal"
)

// Command is one verb, or a noun with verbs below it.
type Command struct {
	Use      string                                                 // name and arguments, "exec HOST -- ARGV..."
	Short    string                                                 // one line without a full stop
	Long     string                                                 // what it does, when it refuses, what it leaves behind
	Example  string                                                 // lines that work as they stand
	Hidden   bool                                                   // not for people: started by our own programs
	Flags    func(*flag.FlagSet)                                    // defines them, when the tree is built
	MinArgs  int                                                    // fewer are a wrong command line
	MaxArgs  int                                                    // -1: any number
	Run      func(ctx context.Context, io *IO, args []string) error // nil for a noun, which shows its verbs
	Complete func(ctx context.Context, typed string) []string       // candidates for the first argument
	Second   func(typed string) []string                            // candidates for the second
	Values   map[string]func(typed string) []string                 // candidates for what a flag takes, by its name
	Again    func() bool                                            // whether flags may stand right behind the first argument too, as with ssh
	Dashes   bool                                                   // Run is given the "--" too that ends the flags: what is before it is no part of a command
	Files    bool                                                   // the other arguments, or all of them, are files
	Mixed    bool                                                   // every argument is a file, or begins with a candidate
	Sub      []*Command                                             // the verbs below
	Leads    map[string]string                                      // whole commands for words that people try here and that are no verb
}

// IO is where a command reads and writes. Out takes the answer and nothing
// else, Err the talk.
type IO struct {
	In  *os.File  // a file, so that it can be asked whether it is a terminal
	Out io.Writer // the answer and nothing else
	Err io.Writer // the talk
}

// Say writes a line of talk. Whatever among args is no number cannot speak to the
// terminal, whoever it came from and whether or not the caller has escaped it (attack
// J1): only format has line ends.
func (i *IO) Say(format string, args ...any) { _ = printMuted(i.Err, format+"\n", args) }

// Ask is Say without the line end, for what is answered on the same line.
func (i *IO) Ask(format string, args ...any) { _ = printMuted(i.Err, format, args) }

// Print writes a line of the answer, with args as inert as those of Say.
func (i *IO) Print(format string, args ...any) error { return printMuted(i.Out, format+"\n", args) }

// PrintLines is Print for each line of text.
func (i *IO) PrintLines(text string) error {
	for line := range strings.Lines(text) {
		if err := i.Print("%s", strings.TrimRight(line, "\r\n")); err != nil {
			return err
		}
	}
	return nil
}

// PrintText writes a file that somebody else wrote: to a terminal its lines, inert and with
// blanks for tabs, to anything else each byte, for who compares or publishes it.
func (i *IO) PrintText(text []byte) error {
	if f, ok := i.Out.(*os.File); ok && terminal.IsTerminal(f) {
		return i.PrintLines(strings.ReplaceAll(string(text), "\t", "    "))
	}
	_, err := i.Out.Write(text)
	return err
}

func printMuted(w io.Writer, format string, args []any) error {
	inert := make([]any, len(args))
	for n, arg := range args {
		inert[n] = muted(arg)
	}
	_, err := fmt.Fprintf(w, format, inert...)
	return err
}

// muted is a text with terminal.Escape's escapes, and backslashes as they were: what is
// escaped already stays as it is. Whoever shows what a person judges escapes it itself.
func muted(arg any) any {
	text := ""
	switch arg := arg.(type) {
	case []byte:
		text = string(arg)
	case error, fmt.Stringer:
		text = fmt.Sprint(arg)
	default:
		if reflect.ValueOf(arg).Kind() <= reflect.Complex128 { // numbers, truth and nil
			return arg
		}
		text = fmt.Sprint(arg)
	}
	return strings.ReplaceAll(terminal.Escape(text), `\\`, `\`)
}

// JSONUsage is the usage of --json, for an answer that PrintJSON writes.
const JSONUsage = "print the answer as JSON, in a form that stays stable"

// PrintJSON writes v as one indented JSON value, the stable form of an answer, in which
// each object that stands for itself says its schemaVersion. Texts in it are made inert.
func (i *IO) PrintJSON(v any) error {
	raw, err := versioned(v)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(terminal.JSON(i.Out))
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(raw)
}

// Main runs the command that args name and returns the exit status. SIGINT,
// SIGTERM and SIGHUP end its context once; a second one ends the program the hard way.
func Main(ctx context.Context, root *Command, args []string) int {
	end := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // a terminal that closes, unless under nohup
		end = append(end, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(ctx, end...)
	defer stop()
	context.AfterFunc(ctx, stop)
	io := &IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	return fitting(io.Err, runtime.GOOS, Run(ctx, io, root, args))
}

// fitting is what a process can end with in place of status. Programs on Windows end
// with 32 bits; other systems keep 8 of them, and 256 would be success. On a system of
// 32 bits, what crashed there (0xC0000005) is below 0.
func fitting(w io.Writer, system string, status int) int {
	if system == "windows" || status >= 0 && status <= 255 {
		return status
	}
	fmt.Fprintf(w, "error: the program ended with status %d (0x%08X), more than a status of this system holds\n", uint32(status), uint32(status))
	return ExitFailed
}

// Run is Main with streams of the caller's, without touching signals.
func Run(ctx context.Context, io *IO, root *Command, args []string) int {
	tree := build(root, io)
	tree.AddCommand(build(versionCommand(root.Use), io))
	tree.Version = Version() // --version: the first thing that people try
	tree.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	tree.SetArgs(args)
	tree.SetOut(io.Out)
	tree.SetErr(io.Err)
	fixBash(tree)
	fixHelp(tree)
	err := tree.ExecuteContext(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		if more := new(Error); errors.As(err, &more) { // something stays behind that a person has to know of
			Report(io.Err, err)
		}
		return ExitInterrupted
	}
	return Report(io.Err, err)
}

func build(c *Command, io *IO) *cobra.Command {
	cmd := &cobra.Command{
		Use: c.Use, Short: c.Short, Long: c.Long, Example: indent(c.Example), Hidden: c.Hidden,
		SilenceErrors: true, SilenceUsage: true, DisableAutoGenTag: true,
		Args: countArgs(c), SuggestionsMinimumDistance: suggestWithin,
	}
	flags := []string{"help"}
	if c.Flags != nil {
		flags = append(flags, addFlags(cmd, c.Flags)...)
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &Error{Err: wants(cmd, err), Hints: append(meantFlags(flags, err), cmd.CommandPath()+" --help"), Exit: ExitUsage}
	})
	// A noun alone shows its verbs; a wrong verb must not pass as that.
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	if c.Run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			dashed := c.Dashes && cmd.ArgsLenAtDash() == 0
			if c.Again != nil && c.Again() && len(args) > 1 {
				if err := cmd.Flags().Parse(args[1:]); err != nil {
					return cmd.FlagErrorFunc()(cmd, err)
				}
				if help, _ := cmd.Flags().GetBool("help"); help {
					return cmd.Help()
				}
				rest := cmd.Flags().Args()
				if c.Dashes && !dashed && cmd.ArgsLenAtDash() == 0 {
					rest = append([]string{"--"}, rest...)
				}
				args = append(args[:1:1], rest...)
			}
			if dashed {
				args = append([]string{"--"}, args...)
			}
			return toHelp(cmd, c.Run(cmd.Context(), io, args))
		}
		// Everything behind the first argument belongs to the remote command:
		// "exec host ls -l" must not read -l as ours.
		cmd.Flags().SetInterspersed(c.MaxArgs >= 0)
	}
	cmd.ValidArgsFunction = completer(c)
	for name, find := range c.Values {
		if err := cmd.RegisterFlagCompletionFunc(name, func(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return find(typed), cobra.ShellCompDirectiveNoFileComp
		}); err != nil {
			panic("cli: internal error: " + err.Error())
		}
	}
	for _, sub := range c.Sub {
		cmd.AddCommand(build(sub, io))
	}
	return cmd
}

// toHelp adds to an error about the command line, which has nothing better to say,
// where it is written what would be taken.
func toHelp(cmd *cobra.Command, err error) error {
	if e := new(Error); errors.As(err, &e) && e.Exit == ExitUsage && len(e.Hints) == 0 {
		return &Error{Err: err, Hints: []string{cmd.CommandPath() + " --help"}, Exit: ExitUsage}
	}
	return err
}

// wanted is what flags take, by the names that package flag has for their types.
var wanted = map[string]string{"duration": "a time such as 30s, 5m or 24h", "int": "a number", "uint": "a number from 0", "int64": "a number", "uint64": "a number from 0"}

// wants says in place of "parse error" what the flag would take.
func wants(cmd *cobra.Command, err error) error {
	text, ok := strings.CutSuffix(err.Error(), ": parse error")
	if !ok {
		return err
	}
	_, name, _ := strings.Cut(text, "--")
	name, _, _ = strings.Cut(name, "\"")
	flag := cmd.Flags().Lookup(name)
	if flag == nil || wanted[flag.Value.Type()] == "" {
		return err
	}
	return fmt.Errorf("%s: want %s", text, wanted[flag.Value.Type()])
}

// meantFlags are those of known that an unknown flag may have been.
func meantFlags(known []string, err error) (hints []string) {
	typed, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return nil
	}
	for _, name := range mistyped.Meant(typed, known) {
		hints = append(hints, "did you mean: --"+name)
	}
	return hints
}

// addFlags defines the command's flags. A name of one letter is the short form of
// the other flag that sets the same variable, so that help shows them as one. It
// returns the names of those that people see.
func addFlags(cmd *cobra.Command, define func(*flag.FlagSet)) (names []string) {
	var set flag.FlagSet
	define(&set)
	short := map[flag.Value]string{}
	set.VisitAll(func(f *flag.Flag) {
		if len(f.Name) == 1 {
			short[f.Value] = f.Name
		}
	})
	scratch := new(cobra.Command).Flags() // a set keeps the short form a flag has when it is added
	set.VisitAll(func(f *flag.Flag) {
		if len(f.Name) == 1 {
			return
		}
		scratch.AddGoFlag(f)
		long := scratch.Lookup(f.Name)
		long.Shorthand = short[f.Value]
		long.Hidden = f.Usage == ""                                                       // not for people
		if long.DefValue == "0s" || long.DefValue == "0" && long.Value.Type() == "bool" { // its usage says what none means
			long.DefValue = ""
		}
		cmd.Flags().AddFlag(long)
		if !long.Hidden {
			names = append(names, f.Name)
		}
		delete(short, f.Value)
	})
	for _, alone := range short {
		panic("cli: internal error: flag -" + alone + " has no long form")
	}
	return names
}

func completer(c *Command) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		switch {
		case c.Mixed:
			return c.Complete(cmd.Context(), typed), cobra.ShellCompDirectiveNoSpace
		case c.Complete != nil && len(args) == 0:
			return c.Complete(cmd.Context(), typed), cobra.ShellCompDirectiveNoFileComp
		case c.Second != nil && len(args) == 1:
			return c.Second(typed), cobra.ShellCompDirectiveNoFileComp
		case c.Files:
			return nil, cobra.ShellCompDirectiveDefault
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// suggestWithin is how many letters a mistyped command may differ by for the right
// one to be offered; our choice.
const suggestWithin = 2

func countArgs(c *Command) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		usage := func(format string, a ...any) error {
			hints := []string{cmd.UseLine(), cmd.CommandPath() + " --help"}
			if len(c.Sub) > 0 && len(args) > 0 {
				hints = append(meant(cmd, c.Leads[args[0]], args[0]), hints[1])
			}
			return &Error{Err: fmt.Errorf(format, a...), Hints: hints, Exit: ExitUsage}
		}
		atLeast, atMost := "at least ", "at most "
		if c.MinArgs == c.MaxArgs {
			atLeast, atMost = "", ""
		}
		switch {
		case len(args) > 0 && len(c.Sub) > 0 && (c.Run == nil || c.MaxArgs == 0):
			return usage("%q has no command %q", cmd.CommandPath(), args[0])
		case len(args) < c.MinArgs:
			return usage("%q wants %s%s", cmd.CommandPath(), atLeast, Count(c.MinArgs, "argument"))
		case c.MaxArgs == 0 && len(args) > 0:
			return usage("%q takes no arguments", cmd.CommandPath())
		case c.MaxArgs >= 0 && len(args) > c.MaxArgs:
			return usage("%q wants %s%s", cmd.CommandPath(), atMost, Count(c.MaxArgs, "argument"))
		}
		return nil
	}
}

// meant are the commands that a mistyped one may have been; known is the one that it
// certainly was, if not "".
func meant(cmd *cobra.Command, known, typed string) (hints []string) {
	if known != "" {
		return []string{"did you mean: " + known}
	}
	for _, name := range cmd.SuggestionsFor(typed) {
		hints = append(hints, "did you mean: "+cmd.CommandPath()+" "+name)
	}
	return hints
}

// Count is n of a thing, such as "1 machine", "2 machines" or "3 entries".
func Count[N int | int64 | uint64](n N, thing string) string {
	if stem, y := strings.CutSuffix(thing, "y"); n != 1 && y && !strings.ContainsAny(stem[max(0, len(stem)-1):], "aeo") { // keys, days and ways keep it
		thing = stem + "ies"
	} else if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// When is a moment for people, in the one form that all programs of ours print, take
// and log: RFC 3339, in UTC so that two people on the phone compare the same digits,
// to the second. No moment, which the messages have as 0, is "never".
func When(t time.Time) string {
	if t.Unix() <= 0 {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

func indent(example string) string {
	lines := strings.Split(strings.TrimSpace(example), "\n")
	for i, l := range lines {
		lines[i] = "  " + strings.TrimSpace(l)
	}
	return strings.TrimRight(strings.Join(lines, "\n"), " ")
}
