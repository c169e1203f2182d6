//go:build !linux

package utmp

import "time"

// In does nothing here.
func (Files) In(Login) error { return nil }

// Out does nothing here.
func (Files) Out(Login, time.Time) error { return nil }

// Sweep does nothing here.
func (Files) Sweep(string, time.Time) error { return nil }
