//go:build !linux && !windows

package process

import "errors"

// Confined calls start: this system has no such means that a program may use alone.
func Confined(_ string, start func() error) error { return start() }

// SealPrograms does nothing: see Confined.
func SealPrograms() error { return nil }

// Missing says what Confined does not do here.
func Missing() error {
	return errors.New("this system confines no processes: they may do what their user may")
}
