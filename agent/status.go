package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Our choices.
const (
	statusEvery = 30 * time.Second    // status.json is never older while the agent runs
	statusPause = time.Second         // and not written more often
	expiryAlert = 14 * 24 * time.Hour // warnings begin (protocol, introduction)
	maxStatus   = 64 << 10
)

// Status is what the running agent leaves in its folder for `tucdesk-agent status`.
type Status struct {
	Time        wire.Millis  `json:"time"`
	PID         int          `json:"pid"`
	Version     string       `json:"version"`
	Agent       string       `json:"agent"` // key id
	Name        string       `json:"name"`
	Tags        []string     `json:"tags"`
	Team        wire.TeamID  `json:"team"`
	Fingerprint string       `json:"fingerprint"`
	Server      string       `json:"server"` // "" while not connected
	Since       wire.Millis  `json:"since"`  // of being connected, or of not being
	Problem     string       `json:"problem"`
	Code        refusal.Code `json:"code"`   // why sessions cannot be opened, but by admins with program_too_old; audit_fork also when nothing of them would get into the team's log; "" when all is well
	Frozen      bool         `json:"frozen"` // two rosters of one version were seen
	Forked      bool         `json:"forked"` // the team's log holds other entries of this agent than the agent itself

	RosterVersion  uint64      `json:"rosterVersion"`
	RosterExpires  wire.Millis `json:"rosterExpires"`
	GraceEnds      wire.Millis `json:"graceEnds"`          // until when the policy accepts an expired roster
	CertificateEnd wire.Millis `json:"certificateExpires"` // 0 is never
	Warnings       []string    `json:"warnings"`
	Sessions       int         `json:"sessions"`
	AuditSeq       uint64      `json:"auditSeq"`
}

// status describes the agent now.
func (a *Agent) status(now time.Time) Status {
	t, _ := a.keeper.Get()
	s := Status{
		Time: wire.At(now), PID: os.Getpid(), Version: a.version,
		Agent: a.ID().String(), Name: a.cert.Name, Tags: a.cert.Tags,
		Team: t.Roster.Team(), Fingerprint: t.Roster.Fingerprint().String(),
		Frozen: a.keeper.Frozen(), RosterVersion: t.Roster.Version(),
		RosterExpires: wire.At(t.Roster.ExpiresAt()), CertificateEnd: a.cert.NotAfter,
		Warnings: []string{}, Sessions: a.sessions.count(),
	}
	s.GraceEnds = s.RosterExpires
	if t.Rules != nil {
		s.GraceEnds = wire.At(t.Roster.ExpiresAt().Add(t.Rules.RosterGrace()))
	}
	s.AuditSeq, _ = a.spool.Head()
	a.up.describe(&s)
	_, err := a.keeper.Usable(now)
	s.trouble(err, "no session can be opened: ")
	s.trouble(a.gossip.Err(), "no session can be opened: ")
	s.trouble(a.spool.Room(entry.SessionAccept, key.ID{}), "no session can be opened until the server has taken more of this machine's log: ")
	if err := a.started.missing(); refusal.Of(err) != refusal.AuditFull { // which is said already
		s.trouble(err, "no session can be opened until this agent has written that it has started: ")
	}
	if err := a.delivery.forks(); err != nil {
		s.Forked = true
		s.trouble(err, "the team's log holds other entries of this agent than the agent itself, and takes no more of it: this machine's disk was set back or cloned, and it has to join anew: ")
	}
	if err := a.spool.Room(entry.ChannelOpen, key.ID{}); err != nil {
		s.Warnings = append(s.Warnings, "no session can open connections or paths that it has not had, until the server has taken more of this machine's log: "+err.Error())
	}
	s.trouble(t.Roster.CheckProgram(a.version), "only admins can open sessions, to bring a newer program here: ")
	if n := a.sessions.forged(); n > 0 {
		s.Warnings = append(s.Warnings, fmt.Sprintf("somebody sends forged datagrams to %d sessions; none gets in, but look who can reach this machine's network", n))
	}
	if a.crowding != nil {
		s.Warnings = append(s.Warnings, "one session can start so many processes that nothing else can: "+a.crowding.Error())
	}
	if err := a.closed(); err != nil {
		s.Warnings = append(s.Warnings, "only root can start this program: "+err.Error())
	}
	s.warn("the roster", s.RosterExpires, "an owner has to renew it", now)
	if s.CertificateEnd != 0 {
		s.warn("this agent's certificate", s.CertificateEnd, "join again with a new token", now)
	}
	return s
}

// trouble takes what keeps the agent from its work; the first one gives the code.
func (s *Status) trouble(err error, means string) {
	if err == nil {
		return
	}
	if s.Code == "" {
		s.Code = codeOf(err)
	}
	s.Warnings = append(s.Warnings, means+err.Error())
}

// warn says in time what will end when, and what to do about it.
func (s *Status) warn(what string, at wire.Millis, remedy string, now time.Time) {
	if left := at.Time().Sub(now); left > 0 && left < expiryAlert {
		s.Warnings = append(s.Warnings, fmt.Sprintf("%s expires at %s: %s", what, at.Time().Format(time.RFC3339), remedy))
	}
}

func (l *uplink) describe(s *Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Server = l.url
	if !l.since.IsZero() {
		s.Since = wire.At(l.since)
	}
	if l.err != nil {
		s.Problem = l.err.Error()
	}
}

// publish asks for a new status.json.
func (a *Agent) publish() { poke(a.change) }

// keepStatus writes status.json until ctx ends, and then takes it away: a file
// without an agent would lie.
func (a *Agent) keepStatus(ctx context.Context) {
	path := filepath.Join(a.dir, statusFile)
	for {
		if err := a.writeStatus(path); err != nil {
			a.log.Warn("writing the status", "err", err)
		}
		if !pause(ctx, statusPause, nil) || !pause(ctx, statusEvery, a.change) {
			_ = os.Remove(path)
			return
		}
	}
}

func (a *Agent) writeStatus(path string) error {
	data, err := json.Marshal(a.status(time.Now()))
	if err != nil {
		return err
	}
	return keyfile.WriteAtomic(path, data, 0o600)
}

// pause waits for d or a poke, and reports false when ctx has ended.
func pause(ctx context.Context, d time.Duration, poked <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-poked:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// ReadStatus returns what the running agent wrote last. fs.ErrNotExist means that
// none runs on dir.
func ReadStatus(dir string) (Status, error) {
	var s Status
	data, err := keyfile.ReadPrivate(filepath.Join(dir, statusFile), maxStatus)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("reading %q: %v", statusFile, err)
	}
	return s, nil
}
