package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// Our choices.
const (
	// resendFirst and resendMost are between two sendings of one request; the
	// interval doubles in between.
	resendFirst = 500 * time.Millisecond
	resendMost  = 4 * time.Second
	// allocationLife is what a Refresh asks for. pion asks for as much, twice in
	// that time; the credential is the bound that counts.
	allocationLife = 10 * time.Minute
)

// prolongLimit bounds the renewal at one relay: one that is gone must not keep
// the others' news from the caller. Our choice.
const prolongLimit = 5 * time.Second

// Renew makes every allocation last as long as cred, a newer credential of the
// same pair and role, and uses cred and its list of relays from then on; an empty
// list is the one in use. Data goes on meanwhile: sockets, allocations and
// channels stay.
//
// It succeeds when one relay has taken cred, or none is up to be asked. Errors:
// the context's; net.ErrClosed; the refusal RelayFailed, with everything left as
// it was, when no relay took cred, or cred is not for this session.
func (l *Link) Renew(ctx context.Context, cred wire.Relay) error {
	if l.ctx.Err() != nil {
		return fmt.Errorf("renewing the relay credential: %w", net.ErrClosed)
	}
	if len(cred.Endpoints) > wire.MaxRelayEndpoints || !sameSession(cred, l.credential()) {
		return refusal.New(refusal.RelayFailed, "the new credential is not one of this session")
	}
	if len(cred.Endpoints) == 0 {
		cred.Endpoints = l.endpoints()
	}
	if err := l.prolong(ctx, cred); err != nil {
		return fmt.Errorf("renewing the relay credential: %w", err)
	}
	// The list comes first, as in entitle: who dials a relay that it does not name
	// finds that out, or has taken the old credential.
	l.list(cred.Endpoints)
	l.mu.Lock()
	l.cred = cred
	l.mu.Unlock()
	return nil
}

// endpoints is the list of relays in use, in its order.
func (l *Link) endpoints() (list []wire.RelayEndpoint) {
	for _, s := range *l.order.Load() {
		if e := s.relay(); e != (wire.RelayEndpoint{}) {
			list = append(list, e)
		}
	}
	return list
}

// prolong asks at once all relays that cred names. One that it does not name any
// more is shown nothing of it.
func (l *Link) prolong(ctx context.Context, cred wire.Relay) error {
	ctx, cancel := context.WithTimeout(ctx, prolongLimit)
	defer cancel()
	results := make(chan error, len(l.slots))
	asked := 0
	for _, s := range l.slots {
		if a := s.current.Load(); a != nil && slices.Contains(cred.Endpoints, a.at) {
			asked++
			l.wg.Go(func() { results <- a.prolong(ctx, cred) })
		}
	}
	var failed error
	for range asked {
		err := <-results
		if err == nil {
			failed, asked = nil, 0
		} else if asked > 0 {
			failed = err
		}
	}
	return failed
}

// sameSession reports whether two credentials are of one pair and role.
func sameSession(a, b wire.Relay) bool {
	na, errA := credential.Parse(a.Username)
	nb, errB := credential.Parse(b.Username)
	return errA == nil && errB == nil && na.Pair == nb.Pair && na.Role == nb.Role
}

// credential is the newest.
func (l *Link) credential() wire.Relay {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cred
}

// credential is the newest, unless a's relay is not the one that it is for any
// more. A new list is in place before the credential that comes with it, so it is
// looked at after.
func (a *allocation) credential() (wire.Relay, error) {
	cred := a.link.credential()
	if a.link.slots[a.via.Relay-1].relay() != a.at {
		return wire.Relay{}, errStale
	}
	return cred, nil
}

func (a *allocation) prolong(ctx context.Context, cred wire.Relay) error {
	return a.settle(ctx, cred, allocationLife, resendFirst)
}

// forget ends what the relay has for our five-tuple.
func (a *allocation) forget(ctx context.Context) error {
	cred, err := a.credential()
	if err != nil {
		return err
	}
	return a.settle(ctx, cred, 0, askLeast)
}

// settle gives the allocation so long to live, from now on with cred. first is
// the pause before the request is sent again.
func (a *allocation) settle(ctx context.Context, cred wire.Relay, life, first time.Duration) error {
	for range renewTries {
		answer, key, err := a.refresh(ctx, cred, life, first)
		switch {
		case err != nil:
			return err
		case guard.TypeOf(answer) == guard.RefreshSuccess:
			if !answers(answer, key) {
				return refusal.New(refusal.RelayFailed, "the relay's answer was not made by the relay")
			}
			a.turn.identity.take(cred)
			return nil
		case errorCode(answer) != staleNonce:
			return refusal.New(refusal.RelayFailed, "the relay refused it with error %d", errorCode(answer))
		}
		// control has learnt the nonce that came with the answer.
	}
	return refusal.New(refusal.RelayFailed, "the relay takes no nonce of its own")
}

// refresh is one transaction with the relay, sent until it is answered.
func (a *allocation) refresh(ctx context.Context, cred wire.Relay, life, first time.Duration) (answer, key []byte, err error) {
	request := newRequest(guard.RefreshRequest)
	request = guard.AppendAttribute(request, guard.AttrLifetime, binary.BigEndian.AppendUint32(nil, uint32(life/time.Second)))
	request, key = a.turn.identity.sign(request, cred.Username, credential.Text(cred.Password))
	if len(request) > guard.MaxFrame {
		return nil, nil, refusal.New(refusal.RelayFailed, "the relay's challenge is too long")
	}
	id := guard.Transaction(request)
	came := a.questions.ask(id)
	defer a.questions.forget(id)
	for wait := first; ; wait = min(2*wait, resendMost) {
		answer, err = a.try(ctx, request, came, wait)
		if answer != nil || err != nil {
			return answer, key, err
		}
	}
}

func newRequest(t guard.Type) []byte {
	var id [12]byte
	rand.Read(id[:])
	return guard.NewMessage(t, id)
}

// try sends a request once and waits for its answer, which is nil when none came.
func (a *allocation) try(ctx context.Context, request []byte, came <-chan []byte, wait time.Duration) ([]byte, error) {
	if err := a.leg.frame(request); err != nil {
		return nil, err
	}
	return a.await(ctx, came, wait)
}

func (a *allocation) await(ctx context.Context, came <-chan []byte, wait time.Duration) ([]byte, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	select {
	case answer := <-came:
		return answer, nil
	case <-over.C:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-a.done:
		return nil, a.err
	}
}

// allocationMismatch is the error of a relay that has no allocation for our
// five-tuple, or that has one already (RFC 8656, sections 5 and 7.2).
const allocationMismatch = 437

// staleNonce is the one error that asks for another try (RFC 8489, section 9.2.5).
const staleNonce = 438

// errorCode of an answer, 0 if it names none.
func errorCode(frame []byte) int {
	v, ok := guard.Find(frame, guard.AttrErrorCode)
	if !ok {
		return 0
	}
	return int(v[2]&7)*100 + int(v[3])
}

// questions are our own transactions under way.
type questions struct {
	mu sync.Mutex
	m  map[[12]byte]chan []byte // guarded by mu
}

func (q *questions) ask(id [12]byte) <-chan []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.m == nil {
		q.m = make(map[[12]byte]chan []byte)
	}
	q.m[id] = make(chan []byte, 1)
	return q.m[id]
}

func (q *questions) forget(id [12]byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.m, id)
}

// answer delivers a copy of an answer to one of ours, once.
func (q *questions) answer(frame []byte) bool {
	id := guard.Transaction(frame)
	q.mu.Lock()
	defer q.mu.Unlock()
	came, ok := q.m[id]
	if ok {
		delete(q.m, id)
		came <- bytes.Clone(frame)
	}
	return ok
}
