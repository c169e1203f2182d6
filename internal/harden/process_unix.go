//go:build unix && !linux

package harden

// Process makes this process leave no core file. Call it first thing in main,
// before a key is loaded; a program that gets an error must not go on.
func Process() error { return noCore() }
