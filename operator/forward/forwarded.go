package forward

import (
	"github.com/tucdesk/tucdesk/internal/join"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
)

// forwarded serves one connection to a listener of the machine's. Only listeners
// that we have asked for lead anywhere, and only where the person has said.
func (s *Set) forwarded(a *session.Asked) {
	spec, known := s.listener(a.Of)
	if !known || a.Kind != session.ForwardedTCP && a.Kind != session.ForwardedSocket {
		a.Refuse(refusal.New(refusal.BadRequest, "there is no such listener"))
		return
	}
	from := "a program of the machine"
	if a.Kind == session.ForwardedTCP {
		from = hostPort(a.Host, a.Port)
	}
	if spec.socks() {
		s.forwardedSocks(a, spec, from)
		return
	}
	target, err := s.dial(spec.To)
	if err != nil {
		a.Refuse(refusal.New(refusal.Unreachable, "the operator's end cannot connect"))
		s.refused(spec, from, spec.To.String(), err)
		return
	}
	pipe, err := a.Accept(0)
	if err != nil {
		_ = target.Close()
		s.refused(spec, from, spec.To.String(), err)
		return
	}
	s.join(spec, from, spec.To.String(), pipe, target)
}

func (s *Set) listener(id uint64) (Spec, bool) {
	s.asking.Lock()
	defer s.asking.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	spec, known := s.listeners[id]
	return spec, known
}

// forwardedSocks lets a program of the machine choose where on our side it gets to,
// as OpenSSH does for -R without a target.
func (s *Set) forwardedSocks(a *session.Asked, spec Spec, from string) {
	pipe, err := a.Accept(0)
	if err != nil {
		s.refused(spec, from, "", err)
		return
	}
	want, err := greet(s.ctx, pipe)
	if err != nil {
		_ = pipe.Close()
		s.refused(spec, from, "", err)
		return
	}
	to := Address{Host: want.Host, Port: want.Port}
	target, err := s.dial(to)
	why := refusal.New(refusal.Unreachable, "the operator's end cannot connect")
	if err != nil {
		_ = want.Answer(reason(why))
		_ = pipe.CloseWrite() // the answer arrives; a cut could overtake it
		_ = pipe.Close()
		s.refused(spec, from, to.String(), err)
		return
	}
	if err := want.Answer(reason(nil)); err != nil {
		_, _ = pipe.Close(), target.Close()
		return
	}
	s.join(spec, from, to.String(), pipe, target)
}

var _ join.Conn = (*session.Pipe)(nil)
