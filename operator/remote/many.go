package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/fleet"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// many is one command on many machines.
type many struct {
	*execOptions
	tio    *cli.IO
	form   fleet.Form
	params wire.Params
	output *fleet.Output
	input  string // file that every machine reads
}

// outcome is how it ended on one machine.
type outcome struct {
	Schema  int     `json:"schemaVersion"`
	Type    string  `json:"type"` // "exit"
	Host    string  `json:"host"`
	Status  uint32  `json:"status"`
	Error   string  `json:"error,omitempty"`
	Code    string  `json:"code,omitempty"`
	Seconds float64 `json:"seconds"`
}

// summary is the last line of --json.
type summary struct {
	Schema int    `json:"schemaVersion"`
	Type   string `json:"type"` // "summary"
	Hosts  int    `json:"hosts"`
	Failed int    `json:"failed"`
	Status uint32 `json:"status"` // of this program
}

// onMany runs argv on each machine that selection means.
func (o *execOptions) onMany(ctx context.Context, tio *cli.IO, selection fleet.Selection, form fleet.Form, argv []string) error {
	p, err := o.params(argv)
	if err != nil {
		return err
	}
	targets, err := o.targets(ctx, tio, selection)
	if err != nil {
		return err
	}
	m := &many{execOptions: o, tio: tio, form: form, params: p, input: os.DevNull}
	if o.stdin {
		copied, remove, err := spool(tio.In)
		if err != nil {
			return err
		}
		defer remove()
		m.input = copied
	}
	if m.output, err = fleet.NewOutput(form, tio.Out, tio.Err, o.logDir); err != nil {
		return err
	}
	defer m.output.Close()
	return m.sum(ctx, m.all(ctx, targets))
}

// targets asks the server which machines there are: labels may have changed since,
// and a machine that is new must not be left out.
func (o *execOptions) targets(ctx context.Context, tio *cli.IO, selection fleet.Selection) (list []fleet.Target, err error) {
	err = o.WithAccount(ctx, tio, func(a *account.Account) error {
		if err := a.Trusted(); err != nil {
			return err
		}
		machines, err := a.Machines(ctx, tio)
		if err != nil {
			return err
		}
		list, err = Pick(a, selection, machines)
		return err
	})
	return list, err
}

// Pick returns what a person selected among machines, which a has just got from the
// server. Refusal: NotFound, with hints.
func Pick(a *account.Account, selection fleet.Selection, machines []account.Machine) ([]fleet.Target, error) {
	list := make([]fleet.Machine, len(machines))
	for i, m := range machines {
		list[i] = fleet.Machine{Name: m.Cert.Name, Tags: m.Cert.Tags}
	}
	targets, err := selection.Pick(list)
	if absent := new(fleet.Absent); errors.As(err, &absent) {
		return nil, a.Absent(absent.Name)
	}
	if err != nil {
		return nil, &cli.Error{Err: err, Hints: []string{"tucdesk ls"}, Exit: cli.ExitTransport}
	}
	return targets, nil
}

// spool copies our input into a file that all of them can read.
func spool(in io.Reader) (path string, remove func(), err error) {
	f, err := os.CreateTemp("", "tucdesk-stdin-") // mode 0600
	if err != nil {
		return "", nil, fmt.Errorf("keeping standard input: %v", err)
	}
	remove = func() { _ = os.Remove(f.Name()) }
	_, err = io.Copy(f, in)
	if bad := f.Close(); err == nil {
		err = bad
	}
	if err != nil {
		remove()
		return "", nil, fmt.Errorf("keeping standard input: %v", err)
	}
	return f.Name(), remove, nil
}

// all runs it on so many machines at once. Each worker has an account, and so a
// connection to the server, for all the machines that it comes to.
func (m *many) all(ctx context.Context, targets []fleet.Target) []outcome {
	next := make(chan int)
	results := make([]outcome, len(targets))
	var workers sync.WaitGroup
	for range min(m.parallel, len(targets)) {
		workers.Go(func() { m.work(ctx, targets, next, results) })
	}
	for i := range targets {
		next <- i
	}
	close(next)
	workers.Wait()
	return results
}

// work takes machines until there are no more. After Ctrl-C it names those that are
// left without asking for them.
func (m *many) work(ctx context.Context, targets []fleet.Target, next <-chan int, results []outcome) {
	var a *account.Account
	defer func() {
		if a != nil {
			a.Close()
		}
	}()
	for i := range next {
		begun := time.Now()
		err := ctx.Err()
		if err == nil && a == nil {
			a, err = m.OpenAccount()
		}
		results[i] = m.on(ctx, a, targets[i], err)
		results[i].Seconds = time.Since(begun).Seconds()
		m.tell(results[i])
	}
}

// on runs it on one machine, unless there is an error already.
func (m *many) on(ctx context.Context, a *account.Account, t fleet.Target, err error) outcome {
	o := outcome{Schema: 1, Type: "exit", Host: t.String()}
	streams, bad := m.output.Open(t.String())
	if bad != nil {
		o.Status, o.Error = cli.ExitFailed, bad.Error()
		return o
	}
	if err == nil {
		err = m.session(ctx, a, t, streams)
	}
	if ctx.Err() != nil {
		o.Status, o.Error = cli.ExitInterrupted, "interrupted"
	} else {
		o.Status = uint32(cli.Report(streams.Talk, cli.About(t.Name, err)))
		if code := refusal.Of(err); code != "" {
			o.Code = string(code)
		}
		if err != nil {
			o.Error = err.Error()
		}
	}
	if bad := streams.Close(); bad != nil && o.Status == 0 {
		o.Status, o.Error = cli.ExitFailed, bad.Error()
	}
	return o
}

func (m *many) session(ctx context.Context, a *account.Account, t fleet.Target, streams *fleet.Streams) error {
	if err := a.Begin(ctx); err != nil {
		return err
	}
	in, err := os.Open(m.input)
	if err != nil {
		return err
	}
	defer in.Close()
	w := m.want(t.Name, wire.Exec, m.params)
	if t.User != "" {
		w.params.User = t.User
	}
	conn, err := connect(ctx, a, &cli.IO{In: in, Out: streams.Out, Err: streams.Talk}, w)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer conn.list(a, w)()
	_, err = play(ctx, &cli.IO{In: in, Out: streams.Out, Err: streams.Err}, conn, w, around{verbose: m.sessionOptions.talk})
	return err
}

// tell reports one machine's end where nothing else does.
func (m *many) tell(o outcome) {
	if m.form == fleet.JSON {
		_ = m.output.Value(o)
	}
}

// sum lists what failed and returns the exit status that the help promises.
func (m *many) sum(ctx context.Context, results []outcome) error {
	bad := slices.DeleteFunc(slices.Clone(results), func(o outcome) bool { return o.Status == 0 })
	status := uint32(0)
	for _, o := range bad {
		status = max(status, o.Status)
	}
	if ctx.Err() != nil {
		status = cli.ExitInterrupted
	}
	if m.form == fleet.JSON {
		_ = m.output.Value(summary{Schema: 1, Type: "summary", Hosts: len(results), Failed: len(bad), Status: status})
	} else if err := m.table(len(results), bad); err != nil {
		return err
	}
	if status == 0 {
		return nil
	}
	return cli.Status(status)
}

// table goes to standard error: the answer is what the machines have printed.
func (m *many) table(of int, bad []outcome) error {
	if len(bad) == 0 {
		m.tio.Say("%s, all ended with 0", cli.Count(of, "machine"))
		return nil
	}
	m.tio.Say("%s, of which %d failed:", cli.Count(of, "machine"), len(bad))
	slices.SortStableFunc(bad, func(a, b outcome) int { return cmp.Compare(a.Host, b.Host) })
	var text bytes.Buffer
	err := verb.Table(&cli.IO{Out: &text}, []any{"MACHINE", "STATUS", "WHY"}, func(row func(...any)) {
		for _, o := range bad {
			row(o.Host, o.Status, verb.Shown(terminal.Escape(strings.TrimSpace(o.Error))))
		}
	})
	_, _ = m.tio.Err.Write(text.Bytes())
	return err
}
