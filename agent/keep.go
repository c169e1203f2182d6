package agent

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/judge"
	"github.com/tucdesk/tucdesk/agent/kept"
	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/agent/utmp"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// shell is one, from its start to the end of its holder.
type shell struct {
	child
	agent    *Agent
	name     shellName
	question *judge.Question // by which it began
	answer   judge.Answer
	door     *kept.Door
	begun    time.Time

	cutOnce sync.Once
	cut     chan struct{} // closed when it has to end
	why     refusal.Code  // guarded by cut

	reports int         // of run
	login   *utmp.Login // of run
	ended   bool        // of run: how it ended is written down

	// Guarded by the table's mu.
	with   wire.SessionID // the session that has it; zero for none
	left   time.Time      // when the last one ended
	limits policy.Limits  // by the newest decision
	timer  *time.Timer    // ends it
}

// end makes the shell end; the first reason counts, "" is none.
func (k *shell) end(why refusal.Code) {
	k.cutOnce.Do(func() {
		k.why = why
		close(k.cut)
	})
}

func nameOf(q *judge.Question) shellName {
	return shellName{q.Request.Operator, q.Account.Name, q.Request.Params.Keep.Name}
}

// keep does what the request wants of kept shells, when the operator has proved its
// key and the policy has been asked again. nil when it wants nothing.
func (s *live) keep() *pair.KeepAnswer {
	want := s.question.Request.Params.Keep
	if want == nil {
		return nil
	}
	answer := &pair.KeepAnswer{}
	var err error
	switch want.Do {
	case wire.KeepList:
		answer.Shells = s.agent.shells.list(s.question.Request.Operator, s.question.Account.Name)
	case wire.KeepKill:
		err = s.agent.shells.kill(nameOf(s.question))
	default:
		err = s.agent.join(s, want)
	}
	if err != nil {
		answer.Code, answer.Detail = codeOf(err), detail(err)
	}
	return answer
}

// join gives the shell to s; for KeepOpen it begins where there is none.
func (a *Agent) join(s *live, want *wire.Keep) error {
	name := nameOf(s.question)
	k := a.shells.find(name)
	switch {
	case k == nil && want.Do == wire.KeepAttach:
		return noShell()
	case k != nil && len(s.question.Request.Params.Argv) > 0:
		return refusal.New(refusal.NameTaken, "a shell of that name runs already; it was not joined, since there is a command to run")
	case k == nil:
		var err error
		if k, err = a.beginShell(s, name); err != nil {
			return err
		}
	}
	return a.give(k, s)
}

// noShell is one answer for shells that are not there and for those of others.
func noShell() error {
	return refusal.New(refusal.NotFound, "you have no shell of that name here")
}

// beginShell starts a holder.
func (a *Agent) beginShell(s *live, name shellName) (*shell, error) {
	if err := a.shells.reserve(name); err != nil {
		return nil, err
	}
	k := &shell{agent: a, name: name, question: s.question, answer: s.answer, begun: time.Now(), cut: make(chan struct{})}
	if err := k.spawn(); err != nil {
		a.shells.abandon(name)
		return nil, err
	}
	a.shells.fill(k)
	a.running.Go(func() {
		defer a.shells.release(k)
		k.run()
	})
	return k, nil
}

func (k *shell) spawn() error {
	door, theirs, err := kept.NewDoor()
	if err != nil {
		return err
	}
	defer theirs.Close()
	k.child, err = k.agent.start(k.question.Request.Session.String()+"-kept", k.agent.spawner(k.question.Account, theirs))
	if err != nil {
		_ = door.Close()
		return err
	}
	k.door = door
	return nil
}

// give passes the stream of s to the holder. Who had the shell hears of it there.
func (a *Agent) give(k *shell, s *live) error {
	if s.stream == nil {
		return refusal.New(refusal.Unavailable, "the session has no way to a shell")
	}
	err := k.door.Pass(s.stream)
	_ = s.stream.Close() // or the session process would not see the holder's end
	if err != nil {
		a.log.Error("joining a kept shell", "session", s.question.Request.Session.String(), "err", err)
		return refusal.New(refusal.Unavailable, "the shell does not answer")
	}
	before, ok := a.shells.joined(k, s.question.Request.Session, s.limits, time.Now())
	if !ok {
		return noShell()
	}
	if before != (wire.SessionID{}) {
		a.recordShell(entry.KeptDetach, k, before, refusal.TakenOver)
	}
	a.recordShell(entry.KeptAttach, k, s.question.Request.Session, "")
	a.publish()
	return nil
}

// leave notes that s has ended, by err. A session that came to the end of what the
// policy lets it takes its kept shell along.
func (s *live) leave(err error) {
	if s.stream == nil {
		return
	}
	_ = s.stream.Close()
	id := s.question.Request.Session
	k := s.agent.shells.left(id, time.Now())
	if k == nil {
		return
	}
	code := refusal.Of(err)
	if code == "" && s.closed != nil {
		code = refusal.Plain(refusal.Code(s.closed.Refusal))
	}
	s.agent.recordShell(entry.KeptDetach, k, id, code)
	if code == refusal.Expired {
		k.end(refusal.Expired)
	}
}

// run serves the holder to its end.
func (k *shell) run() {
	frames := make(chan pair.Frame)
	var reader sync.WaitGroup
	reader.Go(func() { k.child.read(frames, k.end) })
	q := k.question
	if k.pair.SendJSON(pair.FrameJob, pair.Job{
		Hold: true, Action: q.Request.Action, Argv: q.Request.Params.Argv, Dir: wire.Bytes(q.Dir), Env: q.Request.Params.Env, TTY: true, Account: q.Account, PAM: k.agent.runuser != "",
	}) == nil {
		k.serve(frames)
	}
	var why refusal.Code
	select {
	case <-k.cut:
		why = k.why
	default:
	}
	k.agent.shells.forget(k)
	k.child.stop(why, frames, func(f pair.Frame) { k.handle(f, why) })
	if err := k.group.End(); err != nil {
		k.agent.log.Error("ending what a kept shell left", "session", q.Request.Session.String(), "err", err)
	}
	reader.Wait()
	_ = k.door.Close()
	k.agent.absent(k.login)
	if !k.ended {
		k.agent.recordShellEnd(k, pair.Exited{Signal: "KILL"}, why)
	}
	k.agent.publish()
}

// serve handles frames until the holder has gone or the shell must end.
func (k *shell) serve(frames <-chan pair.Frame) {
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				return
			}
			k.handle(f, "")
		case <-k.cut:
			return
		}
	}
}

// handle takes one frame of the holder: the program began, and ended, once each.
func (k *shell) handle(f pair.Frame, why refusal.Code) {
	if k.reports++; k.reports > reportsPerSession {
		k.end(refusal.ProtocolError)
		return
	}
	switch f.Type {
	case pair.FrameStarted:
		if r, ok := decode[pair.Started](f.Body); ok && k.login == nil {
			k.login = k.agent.present(&k.child, r.PID, k.question)
		}
		k.agent.recordShell(entry.KeptStart, k, k.question.Request.Session, "")
	case pair.FrameExited:
		if x, ok := decode[pair.Exited](f.Body); ok && !k.ended {
			k.ended = true
			k.agent.shells.forget(k)
			k.agent.recordShellEnd(k, x, why)
		}
	case pair.FrameClosed:
	default:
		k.end(refusal.ProtocolError)
	}
}

func (a *Agent) recordShell(t entry.EventType, k *shell, session wire.SessionID, code refusal.Code) {
	e := entryOf(k.question, t)
	describe(&e, k.answer)
	e.Session, e.Refusal = session, code
	_ = a.record(e) // logged there
}

// recordShellEnd writes down what the holder says; it is the user's word.
func (a *Agent) recordShellEnd(k *shell, x pair.Exited, code refusal.Code) {
	e := entryOf(k.question, entry.KeptEnd)
	describe(&e, k.answer)
	ended(&e, x)
	if code != "" {
		e.Refusal = code
	}
	_ = a.record(e) // logged there
}

// decode reads what a child says.
func decode[T any](body []byte) (v T, ok bool) { return v, json.Unmarshal(body, &v) == nil }
