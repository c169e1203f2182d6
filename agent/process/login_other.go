//go:build unix && !linux

package process

import "time"

// system is empty: other systems have no files that say what a login gets.
type system string

func (system) loginVariables(bool) []Variable { return nil }

func (system) open(Account, time.Time) error { return nil }

// AsLogin calls start.
func AsLogin(_ uint32, start func() error) error { return start() }

// MessageOfTheDay is empty here.
func MessageOfTheDay(string) []byte { return nil }
