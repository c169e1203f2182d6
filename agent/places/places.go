// Package places bounds how much of one kind is open on a machine, in all and of one
// operator, so that nobody takes what others need (attack H8).
package places

import (
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Places are those of one kind. Its caller guards it.
type Places struct {
	what      string
	all, each int            // at most, and of one operator
	taken     int            // in all
	of        map[key.ID]int // taken by each operator
}

// New makes places of what, in the plural: at most all, and each of one operator.
func New(what string, all, each int) *Places {
	return &Places{what: what, all: all, each: each, of: make(map[key.ID]int)}
}

// Take takes one, or refuses with TooMany.
func (p *Places) Take(operator key.ID) error {
	if err := p.Room(operator); err != nil {
		return err
	}
	p.Count(operator)
	return nil
}

// Room refuses with TooMany when Take would.
func (p *Places) Room(operator key.ID) error {
	switch {
	case p.taken >= p.all:
		return refusal.New(refusal.TooMany, "at most %d %s at once here", p.all, p.what)
	case p.of[operator] >= p.each:
		return refusal.New(refusal.TooMany, "at most %d %s of one operator at once here", p.each, p.what)
	}
	return nil
}

// Count counts one that is there already, whatever the bounds.
func (p *Places) Count(operator key.ID) {
	p.taken++
	p.of[operator]++
}

// Give gives back what was taken.
func (p *Places) Give(operator key.ID) {
	p.taken--
	if p.of[operator]--; p.of[operator] <= 0 {
		delete(p.of, operator)
	}
}

// Taken is how many are.
func (p *Places) Taken() int { return p.taken }
