package worker

import "runtime/debug"

// TuneMemory trades some processor time for memory: agents idle nearly always,
// on machines that have other work. Our choice: collect at half the usual growth,
// and harder still before 64 MiB are reached.
func TuneMemory() {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(64 << 20)
}
