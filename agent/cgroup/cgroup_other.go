//go:build !linux

package cgroup

import "errors"

// Parent cannot be had on this system.
type Parent struct{}

// Open says that this system has no control groups.
func Open(string) (*Parent, error) {
	return nil, errors.New("looking for control groups: this system has none")
}

// Make is never reached: there is no Parent.
func (*Parent) Make(string) (*Group, error) {
	return nil, errors.New("this system has no control groups")
}

// Unlimited is never reached: there is no Parent.
func (*Parent) Unlimited() error { return nil }

// Sweep does nothing.
func (*Parent) Sweep() ([]Left, error) { return nil, nil }

// Add does nothing.
func (*Group) Add(int) error { return nil }

// End does nothing.
func (*Group) End() error { return nil }

// Leave does nothing: there is nothing to be marked.
func (*Group) Leave(string) (bool, error) { return false, nil }

// Ended reports true: there is no group.
func (*Group) Ended() bool { return true }
