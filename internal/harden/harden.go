// Package harden keeps secrets inside the process that needs them: no core
// dump, no debugger of the same user, no copy of a key left in memory after the
// key is no longer used, no key in a log line.
//
// What each part is worth:
//
//   - Process turns core dumps off (attack A21) and, on Linux, makes the process
//     undumpable, which also closes /proc/<pid>/mem to others of the same user.
//   - Do runs a function so that its stack, registers and heap are wiped after
//     use. Only builds with GOEXPERIMENT=runtimesecret on linux/amd64 and
//     linux/arm64 can do that; everywhere else it is a plain call and erasure is
//     best effort (attack A19, protocol 2.9).
//   - Collect asks for the collection that wipes dropped keys.
//   - Opaque is embedded in every type that holds secrets, and Hidden holds them
//     there (attack A20).
package harden

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"
)

// collectEvery bounds how often Collect forces a collection. Our choice: a host
// that opens and closes sessions all the time must not spend its processors on
// collecting. What is skipped is caught by the next collection, which the
// runtime starts by itself after two minutes at the latest.
const collectEvery = time.Second

// Collect forces a garbage collection unless one ended less than a second ago.
// Wiping needs it: a dropped cipher object is erased when it is collected, not
// when the last reference goes away.
func Collect() {
	var stats debug.GCStats
	debug.ReadGCStats(&stats)
	if time.Since(stats.LastGC) >= collectEvery {
		runtime.GC()
	}
}

const placeholder = "[secret]"

// Opaque, embedded in a struct, makes the struct print and encode as a
// placeholder: for the verbs of fmt, for slog and for the JSON, XML, text and gob
// encoders. None of them can be decoded again, so a round trip of a secret
// through an encoder cannot go unnoticed. %p and structs around this one do not
// ask methods, so the secrets themselves go into Hidden.
type Opaque struct{}

// String returns a placeholder.
func (Opaque) String() string { return placeholder }

// GoString returns a placeholder: %#v would otherwise walk the fields.
func (Opaque) GoString() string { return placeholder }

// Format writes a placeholder for every verb.
func (Opaque) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, placeholder) }

// LogValue is a placeholder for slog.
func (Opaque) LogValue() slog.Value { return slog.StringValue(placeholder) }

// MarshalText returns a placeholder, which also serves JSON and XML.
func (Opaque) MarshalText() ([]byte, error) { return []byte(placeholder), nil }

// MarshalBinary returns a placeholder, which also serves gob.
func (Opaque) MarshalBinary() ([]byte, error) { return []byte(placeholder), nil }
