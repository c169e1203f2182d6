//go:build goexperiment.runtimesecret

package harden

import "runtime/secret"

// Erases reports whether Do wipes what f leaves behind. The documentation and
// the memory-scan test ask it.
const Erases = true

// Do calls f and wipes the registers and the stack that f used before it
// returns; what f allocated is wiped when it is collected. f must not start
// goroutines.
func Do(f func()) { secret.Do(f) }
