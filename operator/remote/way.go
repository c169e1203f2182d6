package remote

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/live"
)

// maxSteps is how many changes of the path are told one by one; our choice.
const maxSteps = 6

// trail remembers which ways a session has taken.
type trail struct {
	mu      sync.Mutex
	past    []step // guarded by mu; the last ones before now, oldest first
	now     step   // guarded by mu
	changes int    // guarded by mu; changes of the way, losses among them
	begun   bool   // guarded by mu; now says something
}

// step is one way, or none, for some time.
type step struct {
	kind, name string // both "" for none
	since      time.Time
	took       time.Duration // 0 for the present one
}

// String names the way, for -v.
func (s step) String() string {
	if s.kind == "" {
		return "no way"
	}
	return s.kind + " " + terminal.Escape(s.name)
}

// note takes what the session says now. In its first moment it says nothing.
func (t *trail) note(p session.PathState, now time.Time) {
	next := step{since: now}
	switch {
	case p.Lost:
	case p.Kind == "":
		return
	default:
		next.kind, next.name = p.Kind, p.Name
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun && t.now.kind == next.kind && t.now.name == next.name {
		return
	}
	if t.begun {
		t.now.took = now.Sub(t.now.since)
		t.changes++
		if t.past = append(t.past, t.now); len(t.past) > maxSteps {
			t.past = t.past[1:]
		}
	}
	t.now, t.begun = next, true
}

func (t *trail) present() (step, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now, t.changes
}

// String is the present way, and behind a semicolon for how long and what was
// before it.
func (t *trail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%s; for %s", t.now, short(time.Since(t.now.since)))
	if len(t.past) == 0 {
		return b.String()
	}
	before := make([]string, len(t.past))
	for i, s := range t.past {
		before[i] = s.String() + " for " + short(s.took)
	}
	fmt.Fprintf(&b, ", before that %s", strings.Join(before, ", "))
	if left := t.changes - len(t.past); left > 0 {
		fmt.Fprintf(&b, ", and %d more", left)
	}
	return b.String()
}

// short is a time span as people read it.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// follow notes the ways of a session until it ends.
func (t *trail) follow(c *session.Conn) {
	for {
		changed := c.PathChanged()
		t.note(c.Path(), time.Now())
		select {
		case <-changed:
		case <-c.Done():
			return
		}
	}
}

// Close ends the session and waits for what belongs to it.
func (o *opened) Close() error {
	err := o.Conn.Close()
	o.followers.Wait()
	return err
}

// follow begins to remember the session's ways.
func (o *opened) follow() {
	o.trail.now.since = o.since
	o.followers.Go(func() { o.trail.follow(o.Conn) })
}

// paths lists every way that is known as it may be shown, the chosen one first.
func (o *opened) paths() []live.Path {
	relays, list := o.renew.link.Relays(), []live.Path{}
	for _, s := range o.Paths() {
		p := live.Path{
			Kind: "direct", Name: s.Via.Addr.String(), Chosen: s.Chosen, Live: s.Live, RTTMillis: live.Millis(s.SRTT),
			Heard: s.Heard, BytesIn: s.In, BytesOut: s.Out, Challenges: s.Challenges, Unanswered: s.Unanswered, Why: s.Why,
		}
		for _, r := range relays {
			if s.Via.Relayed() && r.Via == s.Via {
				p.Kind, p.Name = string(r.Kind), r.Name
			}
		}
		list = append(list, p)
	}
	return list
}

// list lets "status -d" see the session until hide is called. Where it cannot, nothing
// else misses it.
func (o *opened) list(a *account.Account, w want) (hide func()) {
	stop, err := live.Serve(a.Home.Dir, o.id.String(), func() live.Session { return o.describe(w) })
	if err != nil {
		return func() {}
	}
	return stop
}

// describe is what "status -d" is told of the session.
func (o *opened) describe(w want) live.Session {
	now, changes := o.trail.present()
	s := live.Session{
		PID: os.Getpid(), Host: w.host, Action: string(w.action), User: w.params.User, Session: o.id.String(), Since: o.since.UTC(),
		Lost: now.kind == "", PathSince: now.since.UTC(), Kind: now.kind, Name: now.name, Changes: changes, Paths: o.paths(),
	}
	stats := o.Stats()
	s.OpenFailed, s.Alarm = stats.OpenFailed, stats.Alarm
	for _, p := range s.Paths {
		s.BytesIn, s.BytesOut = s.BytesIn+p.BytesIn, s.BytesOut+p.BytesOut
		if p.Heard.After(s.Heard) {
			s.Heard = p.Heard
		}
	}
	if p := o.Path(); !p.Lost {
		s.RTTMillis = live.Millis(p.RTT)
	}
	return s
}

// line is the answer to the escape ~s: the way, the second one, what copies have
// done (design 4.5), and how many packets of what we sent were taken for lost.
func (o *opened) line() string {
	now, changes := o.trail.present()
	var b strings.Builder
	fmt.Fprintf(&b, "%s for %s", now, short(time.Since(now.since)))
	if p := o.Path(); !p.Lost && p.RTT > 0 {
		fmt.Fprintf(&b, ", %s round trip", short(p.RTT.Round(100*time.Microsecond)))
	}
	second := "none"
	for _, p := range o.paths() {
		if p.Live && !p.Chosen {
			second = fmt.Sprintf("%s %s, %g ms", p.Kind, terminal.Escape(p.Name), p.RTTMillis)
			break
		}
	}
	fmt.Fprintf(&b, "; second %s; %s; %s", second, cli.Count(changes, "change"), counted(o.Stats()))
	return b.String()
}

// counted is what became of datagrams and packets. Who is attacked hears it here as
// well, not only the machine's administrator (attack A14).
func counted(s session.Stats) string {
	text := fmt.Sprintf("%s, %d of them twice, and %d that did not open; %s sent, %d of them lost",
		cli.Count(s.Opened, "datagram"), s.Replayed, s.OpenFailed, cli.Count(s.Streams.Sent, "packet"), s.Streams.Lost)
	if s.Alarm {
		text += "; ALARM: somebody sends forged datagrams; none gets in"
	}
	return text
}

// lostAfter is how long nothing gets through before there is a line about it: what
// is shorter concerns nobody who reads a log. Our choice.
const lostAfter = 3 * time.Second

// tellLoss says that nothing gets through, and when it does again, until the session
// or ctx ends. say prints one line; a program's terminal must not be in its way.
func (o *opened) tellLoss(ctx context.Context, host string, say func(format string, args ...any)) {
	var said time.Time // since when there was none, once that was said
	for {
		changed, way := o.PathChanged(), o.Path()
		var wait <-chan time.Time
		switch {
		case way.Lost && said.IsZero():
			left := lostAfter - time.Since(way.Since)
			if left <= 0 {
				said = way.Since
				say("tucdesk: no way to %s for %s; what is sent is kept; it waits up to %s", terminal.Escape(host), short(lostAfter), o.patience())
				continue
			}
			wait = time.After(left)
		case !way.Lost && !said.IsZero():
			say("tucdesk: there is a way to %s again after %s: %s %s", terminal.Escape(host), short(time.Since(said)), way.Kind, terminal.Escape(way.Name))
			said = time.Time{}
		}
		select {
		case <-ctx.Done():
			return
		case <-o.Done():
			return
		case <-changed:
		case <-wait:
		}
	}
}

// patience is how long the session waits for a way.
func (o *opened) patience() time.Duration {
	if most := o.Ready().MaxResume; most > 0 && most < session.DefaultResume {
		return most
	}
	return session.DefaultResume
}
