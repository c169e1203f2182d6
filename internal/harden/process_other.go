//go:build !unix

package harden

// Process does nothing here: this system writes no core files by itself, and
// memory protection against the same user is not to be had.
func Process() error { return nil }
