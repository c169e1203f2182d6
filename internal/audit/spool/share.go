package spool

import (
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Shares of a spool, in parts of its limit; our choice. An operator decides how many
// entries a session makes, and a server far away takes them more slowly than a machine
// next to a busy browser writes them. What would fill the spool is therefore refused while
// there is still room for what others do and for what cannot be refused, because it has
// happened: ends, exits, and the agent's own start (attack N9).
const (
	parts = 8

	sessionShare    = 6 // all that waits, for a session to begin
	channelShare    = 4 // all that waits, for a session to open a connection or a path
	ownSessionShare = 2 // what waits of one operator, for a session of this operator
	ownChannelShare = 1 // what waits of one operator, for a connection of this operator
)

// sharesOf are the shares within which an entry of type t is written; 0 where it may use
// all of the spool. A refused session is in it with those that begin: whoever is let in
// nowhere may not fill the log with that either.
func sharesOf(t entry.EventType) (all, own int64) {
	switch t {
	case entry.SessionAccept, entry.SessionRefuse:
		return sessionShare, ownSessionShare
	case entry.ChannelOpen:
		return channelShare, ownChannelShare
	}
	return 0, 0
}

// Room reports whether an entry of type t would be written now whose actor is by, zero
// for none, who has no share of their own. Refusal: AuditFull.
func (s *Spool) Room(t entry.EventType, by key.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fullLocked() {
		return errFull()
	}
	return s.shareLocked(t, by)
}

// fullLocked leaves room for the largest entry, so that one that is signed is never given up.
func (s *Spool) fullLocked() bool { return s.waitingLocked()+maxLine > s.limit }

func errFull() error {
	return refusal.New(refusal.AuditFull, "the audit spool is full: the server has not taken any entries for too long")
}

// shareLocked refuses what would begin beyond its share.
func (s *Spool) shareLocked(t entry.EventType, by key.ID) error {
	all, own := sharesOf(t)
	switch part := s.limit / parts; {
	case all == 0:
		return nil
	case s.waitingLocked()+maxLine > all*part:
		return refusal.New(refusal.AuditFull, "too much of the machine's audit log waits for its server")
	case !by.IsZero() && s.held[by]+maxLine > own*part:
		return refusal.New(refusal.AuditFull, "too much of the machine's audit log that waits for its server is of one operator")
	}
	return nil
}

// giveBackLocked takes an entry that is delivered from what waits of its actor.
func (s *Spool) giveBackLocked(seq uint64) {
	by := s.by[seq-s.first]
	from, end := s.placeLocked(seq)
	if s.held[by] -= end - from; s.held[by] == 0 {
		delete(s.held, by)
	}
}
