package agent

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/judge"
	"github.com/tucdesk/tucdesk/agent/kept"
	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/agent/shelf"
	"github.com/tucdesk/tucdesk/agent/utmp"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// shell is a kept shell with the process that holds it.
type shell struct {
	*shelf.Shell
	child
	agent *Agent

	reports int         // of run
	login   *utmp.Login // of run
	ended   bool        // of run: how it ended is written down
}

func nameOf(q *judge.Question) shelf.Name {
	return shelf.Name{Operator: q.Request.Operator, User: q.Account.Name, Name: q.Request.Params.Keep.Name}
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
		answer.Shells = s.agent.shells.List(s.question.Request.Operator, s.question.Account.Name)
	case wire.KeepKill:
		err = s.agent.shells.Kill(nameOf(s.question))
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
	k := a.shells.Find(name)
	switch {
	case k == nil && want.Do == wire.KeepAttach:
		return shelf.NotThere()
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

// beginShell starts a holder.
func (a *Agent) beginShell(s *live, name shelf.Name) (*shelf.Shell, error) {
	if err := a.shells.Reserve(name); err != nil {
		return nil, err
	}
	k := &shell{Shell: shelf.New(name, s.question, s.answer), agent: a}
	if err := k.spawn(); err != nil {
		a.shells.Abandon(name)
		return nil, err
	}
	a.shells.Fill(k.Shell)
	a.running.Go(func() {
		defer a.shells.Release(k.Shell)
		k.run()
	})
	return k.Shell, nil
}

func (k *shell) spawn() error {
	door, theirs, err := kept.NewDoor()
	if err != nil {
		return err
	}
	defer theirs.Close()
	k.child, err = k.agent.start(k.Question.Request.Session.String()+"-kept", k.agent.spawner(k.Question.Account, theirs))
	if err != nil {
		_ = door.Close()
		return err
	}
	k.Door = door
	return nil
}

// give passes the stream of s to the holder. Who had the shell hears of it there.
func (a *Agent) give(k *shelf.Shell, s *live) error {
	if s.stream == nil {
		return refusal.New(refusal.Unavailable, "the session has no way to a shell")
	}
	err := k.Door.Pass(s.stream)
	_ = s.stream.Close() // or the session process would not see the holder's end
	if err != nil {
		a.log.Error("joining a kept shell", "session", s.question.Request.Session.String(), "err", err)
		return refusal.New(refusal.Unavailable, "the shell does not answer")
	}
	before, ok := a.shells.Joined(k, s.question.Request.Session, s.limits, time.Now())
	if !ok {
		return shelf.NotThere()
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
	k := s.agent.shells.Left(id, time.Now())
	if k == nil {
		return
	}
	code := refusal.Of(err)
	if code == "" && s.closed != nil {
		code = refusal.Plain(refusal.Code(s.closed.Refusal))
	}
	s.agent.recordShell(entry.KeptDetach, k, id, code)
	if code == refusal.Expired {
		k.End(refusal.Expired)
	}
}

// run serves the holder to its end.
func (k *shell) run() {
	frames := make(chan pair.Frame)
	var reader sync.WaitGroup
	reader.Go(func() { k.child.read(frames, k.End) })
	q := k.Question
	if k.pair.SendJSON(pair.FrameJob, pair.Job{
		Hold: true, Action: q.Request.Action, Argv: q.Request.Params.Argv, Dir: wire.Bytes(q.Dir), Env: q.Request.Params.Env, TTY: true, Account: q.Account, PAM: k.agent.runuser != "",
	}) == nil {
		k.serve(frames)
	}
	why := k.Why()
	k.agent.shells.Forget(k.Shell)
	k.child.stop(why, frames, func(f pair.Frame) { k.handle(f, why) })
	if err := k.group.End(); err != nil {
		k.agent.log.Error("ending what a kept shell left", "session", q.Request.Session.String(), "err", err)
	}
	reader.Wait()
	_ = k.Door.Close()
	k.agent.absent(k.login)
	if !k.ended {
		k.agent.recordShellEnd(k.Shell, pair.Exited{Signal: "KILL"}, why)
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
		case <-k.Cut():
			return
		}
	}
}

// handle takes one frame of the holder: the program began, and ended, once each.
func (k *shell) handle(f pair.Frame, why refusal.Code) {
	if k.reports++; k.reports > reportsPerSession {
		k.End(refusal.ProtocolError)
		return
	}
	switch f.Type {
	case pair.FrameStarted:
		if r, ok := decode[pair.Started](f.Body); ok && k.login == nil {
			k.login = k.agent.present(&k.child, r.PID, k.Question)
		}
		k.agent.recordShell(entry.KeptStart, k.Shell, k.Question.Request.Session, "")
	case pair.FrameExited:
		if x, ok := decode[pair.Exited](f.Body); ok && !k.ended {
			k.ended = true
			k.agent.shells.Forget(k.Shell)
			k.agent.recordShellEnd(k.Shell, x, why)
		}
	case pair.FrameClosed:
	default:
		k.End(refusal.ProtocolError)
	}
}

func (a *Agent) recordShell(t entry.EventType, k *shelf.Shell, session wire.SessionID, code refusal.Code) {
	e := entryOf(k.Question, t)
	describe(&e, k.Answer)
	e.Session, e.Refusal = session, code
	_ = a.record(e) // logged there
}

// recordShellEnd writes down what the holder says; it is the user's word.
func (a *Agent) recordShellEnd(k *shelf.Shell, x pair.Exited, code refusal.Code) {
	e := entryOf(k.Question, entry.KeptEnd)
	describe(&e, k.Answer)
	ended(&e, x)
	if code != "" {
		e.Refusal = code
	}
	_ = a.record(e) // logged there
}

// decode reads what a child says.
func decode[T any](body []byte) (v T, ok bool) { return v, json.Unmarshal(body, &v) == nil }
