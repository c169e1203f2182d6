package remote

import (
	"context"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/master"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// execJob is one exec as a master is asked for it. Each becomes a request of its
// own, signed by the master for these very arguments.
type execJob struct {
	Version string      `json:"version"` // of the client: another one does it itself
	Proxies []string    `json:"proxies"` // likewise
	Host    string      `json:"host"`
	Params  wire.Params `json:"params"`
	Reason  string      `json:"reason"`
	NoWait  bool        `json:"noWait"`
	NoMap   bool        `json:"noMap"`
	Verbose bool        `json:"verbose"`
}

// proxyEnvironment is the part of the environment that decides how the server and the relays
// are reached.
func proxyEnvironment() []string {
	list := []string{}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"} {
		list = append(list, os.Getenv(name))
	}
	return list
}

// throughMaster has the master do it, and starts one where there is none. An error
// that master.IsNone reports means that nothing was begun.
func (o *execOptions) throughMaster(ctx context.Context, tio *cli.IO, w want) error {
	out, ok := tio.Out.(*os.File)
	errs, ok2 := tio.Err.(*os.File)
	home, err := o.Home()
	if err != nil || !ok || !ok2 {
		return err
	}
	job := execJob{
		Version: cli.Version(), Proxies: proxyEnvironment(), Host: w.host, Params: w.params,
		Reason: w.reason, NoWait: w.noWait, NoMap: w.noMap, Verbose: o.talk,
	}
	run := func() (int, error) { return master.Run(ctx, home.Dir, job, tio.In, out, errs) }
	status, err := run()
	if master.IsNone(err) && startMaster(ctx, home.Dir, o.persist) == nil {
		status, err = run()
	}
	if err != nil {
		return err
	}
	if status != 0 {
		return cli.Status(status)
	}
	return nil
}

// mastering is the verb master, which exec --persist starts.
type mastering struct {
	verb.Options
	idle         time.Duration
	inBackground bool
}

// MasterCommand is the process that exec --persist leaves in the background.
func MasterCommand() *cli.Command {
	var o mastering
	return &cli.Command{
		Use: "master", Short: "Keep connections warm for exec --persist", Hidden: true,
		Flags: func(f *flag.FlagSet) {
			o.Flags(f)
			f.DurationVar(&o.idle, "idle", time.Minute, "end when nothing was to be done for that `time`")
			f.BoolVar(&o.inBackground, backgroundFlag, false, "")
		},
		Run: func(ctx context.Context, _ *cli.IO, _ []string) error {
			home, err := o.Home()
			if err != nil {
				return err
			}
			ready := func() {}
			if o.inBackground {
				ready = inBackground
			}
			m := &warm{home: home}
			defer m.close()
			return master.Serve(ctx, home.Dir, o.idle, ready, m.do)
		},
	}
}

// warm is accounts with open connections, each used by one job at a time.
type warm struct {
	home account.Home
	mu   sync.Mutex
	free []warmAccount // guarded by mu
}

// warmAccount is an account with the files that it was read from as they were then:
// what this client believes must not be older than what is on the disk.
type warmAccount struct {
	*account.Account
	files []fs.FileInfo
}

// believed are the files that decide what an account is and believes.
var believed = [...]string{account.OperatorKeyFile, account.TeamFile, account.RosterFile, account.PolicyFile}

func (m *warm) files() []fs.FileInfo {
	list := make([]fs.FileInfo, len(believed))
	for i, name := range believed {
		list[i], _ = os.Stat(m.home.Path(name))
	}
	return list
}

func same(a, b []fs.FileInfo) bool {
	for i := range a {
		switch {
		case a[i] == nil || b[i] == nil:
			if a[i] != b[i] {
				return false
			}
		case !os.SameFile(a[i], b[i]) || !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size():
			return false
		}
	}
	return true
}

// take returns an account that is as new as its files.
func (m *warm) take() (warmAccount, error) {
	now := m.files()
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.free) > 0 {
		last := m.free[len(m.free)-1]
		m.free = m.free[:len(m.free)-1]
		if same(last.files, now) {
			return last, nil
		}
		last.Close()
	}
	a, err := account.Open(m.home)
	return warmAccount{a, now}, err
}

func (m *warm) give(a warmAccount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = append(m.free, a)
}

func (m *warm) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.free {
		a.Close()
	}
	m.free = nil
}

// do is master.Handler.
func (m *warm) do(ctx context.Context, raw json.RawMessage, in, out, errs *os.File) (status int, no bool) {
	defer func() { _, _, _ = in.Close(), out.Close(), errs.Close() }()
	var j execJob
	if json.Unmarshal(raw, &j) != nil || j.Version != cli.Version() || !slices.Equal(j.Proxies, proxyEnvironment()) {
		return 0, true
	}
	err := m.run(ctx, &cli.IO{In: in, Out: out, Err: errs}, j)
	if ctx.Err() != nil {
		return cli.ExitInterrupted, false
	}
	return cli.Report(errs, err), false
}

func (m *warm) run(ctx context.Context, tio *cli.IO, j execJob) error {
	a, err := m.take()
	if err != nil {
		return err
	}
	defer m.give(a)
	for _, text := range a.Warnings(time.Now()) {
		tio.Say("warning: %s", text)
	}
	if err := a.Begin(ctx); err != nil {
		return err
	}
	w := want{host: j.Host, action: wire.Exec, params: j.Params, reason: j.Reason, noWait: j.NoWait, noMap: j.NoMap}
	conn, err := connect(ctx, a.Account, tio, w)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer conn.list(a.Account, w)()
	p, err := play(ctx, tio, conn, w, around{verbose: j.Verbose})
	if j.Verbose {
		conn.trail.note(conn.Path(), time.Now())
		tio.Say("path %s; session after %s, first output after %s", &conn.trail, conn.setup.Round(time.Millisecond), p.firstOutput(conn.asked))
	}
	return err
}
