//go:build !linux

package process

// adopt does nothing: this system has no way to keep a daemon as a descendant.
func adopt() error { return nil }

func (p *Process) reapAdopted() {}
