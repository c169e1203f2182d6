package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
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

// Renew takes cred, a newer credential of the same pair and role, and its list of
// relays into use: at once for every allocation there is, and for every later one.
// Data goes on meanwhile. It sends until every relay has answered or ctx ends.
//
// Everything stays as it was when no relay took it.
//
// Errors: the context's; net.ErrClosed; the refusal RelayFailed. A relay does not
// answer at all for somebody else's cred.
func (l *Link) Renew(ctx context.Context, cred wire.Relay) error {
	if _, err := credential.Parse(cred.Username); err != nil {
		return refusal.New(refusal.RelayFailed, "the new credential is none")
	}
	if l.ctx.Err() != nil {
		return net.ErrClosed
	}
	asked, errs := l.prolong(ctx, cred)
	if asked > 0 && len(errs) == asked {
		return errs[0]
	}
	l.mu.Lock()
	l.cred = cred
	l.mu.Unlock()
	l.grow(cred.Endpoints)
	return nil
}

// prolong shows cred to every relay where there is an allocation.
func (l *Link) prolong(ctx context.Context, cred wire.Relay) (asked int, errs []error) {
	answers := make(chan error, len(l.list()))
	for _, r := range l.list() {
		if a := r.get(); a != nil {
			asked++
			go func() { answers <- a.prolong(ctx, cred) }()
		}
	}
	for range asked {
		if err := <-answers; err != nil {
			errs = append(errs, fmt.Errorf("renewing the credential: %w", err))
		}
	}
	return asked, errs
}

func (a *allocation) prolong(ctx context.Context, cred wire.Relay) error {
	if _, err := credential.Parse(cred.Username); err != nil {
		return refusal.New(refusal.RelayFailed, "the new credential is none")
	}
	for range renewTries {
		answer, key, err := a.refresh(ctx, cred)
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
func (a *allocation) refresh(ctx context.Context, cred wire.Relay) (answer, key []byte, err error) {
	request := newRequest(guard.RefreshRequest)
	request = guard.AppendAttribute(request, guard.AttrLifetime, binary.BigEndian.AppendUint32(nil, uint32(allocationLife/time.Second)))
	request, key = a.turn.identity.sign(request, cred.Username, credential.Text(cred.Password))
	if len(request) > guard.MaxFrame {
		return nil, nil, refusal.New(refusal.RelayFailed, "the relay's challenge is too long")
	}
	id := guard.Transaction(request)
	came := a.questions.ask(id)
	defer a.questions.forget(id)
	for wait := resendFirst; ; wait = min(2*wait, resendMost) {
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
