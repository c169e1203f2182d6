//go:build unix && !linux

package process

// adopt does nothing: this system has no way to keep a daemon as a descendant.
func adopt() error { return nil }

func (p *Process) reapAdopted() {}

// Stays reports false: what has left the program's process group is not known here, and
// nothing ends it.
func (p *Process) Stays() bool { return false }
