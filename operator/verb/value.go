package verb

import (
	"errors"
	"flag"
	"strconv"
	"time"
)

// CountVar is a flag for a number from 1. What stands in n without it stays: 0 is no value
// that somebody types, so that a script whose variable came to nothing is told.
func CountVar(f *flag.FlagSet, n *int, name, usage string) { f.Var((*count)(n), name, usage) }

// SpanVar is CountVar for a time above 0.
func SpanVar(f *flag.FlagSet, d *time.Duration, name, usage string) {
	f.Var((*span)(d), name, usage)
}

type count int

// String is the number, or "" for none, which is no default that help would show.
func (c *count) String() string {
	if c == nil || *c == 0 {
		return ""
	}
	return strconv.Itoa(int(*c))
}

// Set reads it.
func (c *count) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return errors.New("want a number from 1; leave the flag out for none")
	}
	*c = count(n)
	return nil
}

type span time.Duration

// String is the time, or "" for none.
func (s *span) String() string {
	if s == nil || *s == 0 {
		return ""
	}
	return time.Duration(*s).String()
}

// Set reads it.
func (s *span) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return errors.New("want a time above 0, such as 30s, 5m or 24h; leave the flag out for none")
	}
	*s = span(d)
	return nil
}
