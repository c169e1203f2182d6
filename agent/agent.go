package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/cgroup"
	"github.com/tucdesk/tucdesk/agent/gossip"
	"github.com/tucdesk/tucdesk/agent/judge"
	"github.com/tucdesk/tucdesk/agent/membership"
	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/agent/shelf"
	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/agent/utmp"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/spool"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/proxies"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// Config is what Open may be told. The zero value is what the programs use.
type Config struct {
	// Version is what this program calls itself at the server, for display, and
	// what is held against the roster's least version.
	Version string
	// MaxSessions bounds the open sessions, without pings; 0 is DefaultMaxSessions.
	MaxSessions int
	// NoPortMapping keeps sessions from asking the router to forward ports to them.
	NoPortMapping bool
	// Direct is where direct paths may come in; see ParseDirect.
	Direct Direct
	// SessionCommand starts a session process: a program that calls SessionMain,
	// with its arguments. nil is this program with the argument SessionArg.
	SessionCommand []string
	// Logins are the files in which a root agent tells the machine's own tools who has
	// a terminal; nil is the system's.
	Logins *utmp.Files
	// PAM opens a PAM session around every session but pings, by the system's own
	// runuser(1), whose file in /etc/pam.d says what is in it. Linux, as root.
	PAM bool
	// Logger gets what an administrator should know; nil discards it.
	Logger *slog.Logger
}

// Agent is the supervisor. Open makes one, Run runs it, Close frees it.
type Agent struct {
	dir      string
	version  string
	command  []string
	runuser  string // path of the program that opens PAM sessions; "" for none
	proxies  proxies.Settings
	mapPorts bool
	direct   Direct
	log      *slog.Logger
	unlock   func() // the state folder; nil before

	identity key.Private[key.Agent]
	member   membership.Membership
	cert     roster.AgentCert // as of Open: team and key never change, name and tags are asked again
	self     process.Account

	keeper *trust.Keeper
	ledger *approval.Ledger
	began  time.Time // when the ledger was opened
	spool  *spool.Spool
	gossip *gossip.Memory

	logins   utmp.Files
	groups   *cgroup.Parent // nil where sessions cannot have control groups
	crowding error          // why one session can take all processes that there is room for; nil when it cannot
	judge    *judge.Judge
	sessions sessionTable
	shells   *shelf.Table
	left     leftovers
	running  sync.WaitGroup          // session goroutines
	refusals *rate.Limiter[struct{}] // that are written into the audit log
	ways     ways

	started  started
	up       uplink
	asked    questions
	delivery delivery
	news     chan struct{} // poked when the spool has something to deliver
	acks     chan struct{} // poked when the server took some of it
	change   chan struct{} // poked when status.json is out of date
}

// ErrRuns is that of Open and Join while another agent runs on the folder; its
// process is in what ReadStatus returns.
var ErrRuns = membership.ErrLocked

// Open reads the state folder that Join made and checks that nobody else could
// have read or changed it. Refusal: BadFileMode with the file and the command
// that mends it (attack B17). Sessions get the proxies that the environment names
// now, since they get no environment.
func Open(dir string, cfg Config) (*Agent, error) {
	if err := keyfile.CheckDir(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("opening the agent's state: %q does not exist: join a team first: %w", dir, fs.ErrNotExist)
		}
		return nil, err
	}
	most := cfg.MaxSessions
	if most <= 0 {
		most = DefaultMaxSessions
	}
	a := &Agent{
		dir: dir, version: cfg.Version, command: cfg.SessionCommand, log: cfg.Logger,
		proxies: proxies.Environment(), mapPorts: !cfg.NoPortMapping, direct: cfg.Direct, sessions: newTable(most), shells: shelf.NewTable(), left: newLeftovers(),
		refusals: rate.New[struct{}](rate.Rate{PerSecond: refusalRate, Burst: refusalBurst}),
		news:     make(chan struct{}, 1), acks: make(chan struct{}, 1), change: make(chan struct{}, 1),
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.ways.path = filepath.Join(dir, waysFile)
	a.openLogins(cfg.Logins)
	if err := a.openPAM(cfg.PAM); err != nil {
		return nil, err
	}
	if err := a.load(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// load reads everything; what it opened Close closes.
func (a *Agent) load() (err error) {
	if a.unlock, err = membership.Lock(a.dir); err != nil {
		return err
	}
	if a.command == nil {
		self, err := pair.Self()
		if err != nil {
			return err
		}
		a.command = []string{self, SessionArg}
	}
	if a.member, a.identity, err = membership.Load(a.dir); err != nil {
		return err
	}
	if a.keeper, err = trust.Open(a.dir, a.member.Fingerprint); err != nil {
		return err
	}
	t, _ := a.keeper.Get()
	if a.cert, err = a.member.Verify(t.Roster, a.identity.ID(), time.Now()); err != nil {
		return err
	}
	if a.self, err = process.LookUp(""); err != nil {
		return err
	}
	a.openGroups()
	a.began = time.Now()
	if a.ledger, err = approval.OpenLedger(filepath.Join(a.dir, membership.LedgerFile)); err != nil {
		return err
	}
	if err := a.openAudit(t); err != nil {
		return err
	}
	a.openJudge()
	return nil
}

// openJudge gives the agent one who has seen no request yet.
func (a *Agent) openJudge() {
	a.judge = judge.New(judge.Config{
		Agent: a.ID(), Team: a.cert.Team, Token: a.member.Token, Certificate: a.member.Certificate, Version: a.version, User: a.self.Name, Began: a.began,
		Keeper: a.keeper, Rate: rate.New[key.ID](rate.Rate{PerSecond: judge.OpenRate, Burst: judge.OpenBurst}), Fetch: a.wantRoster, Accused: a.gossip.Err, IsOpen: a.sessions.has, Logger: a.log,
	})
}

// openGroups finds out whether sessions can have control groups, and ends those that
// an agent left which was killed. Without groups a session's end is the session
// process' own work (package process).
func (a *Agent) openGroups() {
	var err error
	if a.groups, err = cgroup.Open(a.ID().String()[:16]); err != nil {
		a.groups = nil
		a.log.Info("sessions have no control groups", "why", err)
		if os.Geteuid() == 0 { // without root the user's own limits hold
			a.crowding = err
		}
		return
	}
	if a.crowding = a.groups.Unlimited(); a.crowding != nil {
		a.log.Warn("one session can start so many processes that nothing else can", "why", a.crowding)
	}
	left, err := a.groups.Sweep()
	if err := errors.Join(append(a.left.readopt(left), err)...); err != nil {
		a.log.Error("ending what a killed agent left", "err", err)
	}
}

// Close frees what Open took. Run must have returned.
func (a *Agent) Close() {
	if a.ledger != nil {
		_ = a.ledger.Close()
	}
	if a.spool != nil {
		_ = a.spool.Close()
	}
	if a.unlock != nil {
		a.unlock()
	}
}

// ID returns the agent's key id.
func (a *Agent) ID() key.ID { return a.identity.ID() }

// Run keeps the agent reachable until ctx ends, whatever the server does. Then it
// ends all sessions and returns nil. An error means that the agent cannot work
// on this machine at all.
func (a *Agent) Run(ctx context.Context) error {
	if err := process.SealDescriptors(); err != nil {
		return err
	}
	a.started.owe()
	if err := a.recordStarted(); err != nil { // whoever stays away now never gets rid of what fills the spool (attack N9)
		a.log.Error("that this agent has started is not in its log yet: no session begins until it is", "why", err)
	}
	var loops sync.WaitGroup
	loops.Go(func() { a.keepSaved(ctx) })
	loops.Go(func() { a.keepStatus(ctx) })
	loops.Go(func() { a.keepEnforced(ctx) })
	if missing := process.Missing(); missing != nil {
		a.log.Warn("the processes of pings are not fully confined here", "missing", missing)
	}
	if err := a.closed(); err != nil {
		a.log.Warn("only root can start this program", "why", err)
	}
	a.log.Info("agent started", "agent", a.cert.Name, "key", a.ID().ShortCode(), "user", a.self.Name)
	a.keepConnected(ctx)
	// 1. no new sessions, 2. nobody begins to end what is left, 3. the live ones end and nothing writes any more
	a.sessions.close()
	a.shells.Close()
	loops.Wait()
	a.running.Wait()
	_ = a.record(entry.Entry{Type: entry.AgentStop})
	a.log.Info("agent stopped")
	return nil
}

// saveEvery is how often what could not be written is tried again; our choice.
const saveEvery = 5 * time.Second

// keepSaved writes what has to outlive the agent: the time, a roster for which the
// disk had no room, and that the agent has started. It does not tire of saying so.
func (a *Agent) keepSaved(ctx context.Context) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		if err := a.keeper.Remember(time.Now()); err != nil {
			a.log.Error("remembering the time", "err", err)
		}
		a.saveTrust()
		_ = a.recordStarted() // the status says why not
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// saveTrust writes what is in force, and shouts when that fails.
func (a *Agent) saveTrust() {
	if err := a.keeper.Save(); err != nil {
		a.log.Error("a roster cannot be written: no session begins until it can", "err", err)
		a.publish()
	}
}

// enforceEvery is how late a session may end whose right ran out by the clock; our
// choice.
const enforceEvery = time.Second

// keepEnforced ends what may not go on by the time of day: a key or a certificate
// that was good until a moment is not good for a session that began before it, and
// what the policy gives a number of hours has them also when the machine sleeps. It
// looks again and again instead of setting a timer for that moment, because the
// roster can move it, the clock can be set, and timers stand still while a machine
// sleeps. The limits of the policy have timers as well: a clock that is set back
// lengthens none of them.
func (a *Agent) keepEnforced(ctx context.Context) {
	tick := time.NewTicker(enforceEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.enforce(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// enforce ends the sessions of those who lost their right to them, or whose key or
// our own certificate is good no longer (attack G6), and those whose time is over. It
// waits for none of them to end.
func (a *Agent) enforce(now time.Time) {
	sessions, shells := a.sessions.all(), a.shells.All()
	if len(sessions)+len(shells)+a.left.count() == 0 {
		return
	}
	t, _ := a.keeper.Get()
	_, self := t.Roster.VerifyAgent(a.member.Token, a.member.Certificate, now)
	for _, k := range a.shells.Lapsed(now) {
		k.End(refusal.Expired)
	}
	for _, s := range sessions {
		if s.lapsed(now) {
			s.end(refusal.Expired)
			continue
		}
		_, err := judge.Entitled(t, s.question.Request.Operator, now)
		if err = errors.Join(self, err); err != nil {
			a.log.Warn("cutting a session", "session", s.question.Request.Session.String(), "err", err)
			s.end(codeOf(err))
		}
	}
	for _, k := range shells {
		_, err := judge.Entitled(t, k.Name.Operator, now)
		if err = errors.Join(self, err); err != nil {
			a.log.Warn("ending a kept shell", "session", k.Question.Request.Session.String(), "err", err)
			k.End(codeOf(err))
		}
	}
	a.endLeft(func(operator key.ID) error { // last: nobody sits at these
		_, err := judge.Entitled(t, operator, now)
		return errors.Join(self, err)
	})
}
