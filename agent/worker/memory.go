package worker

import "runtime/debug"

// forwardMemory is where a process of forwards collects harder: ten thousand
// connections need more than the 64 MiB that nothing else comes to. Our choice.
const forwardMemory = 160 << 20

func roomForMany() { debug.SetMemoryLimit(forwardMemory) }

// TuneMemory trades some processor time for memory: agents idle nearly always,
// on machines that have other work. Our choice: collect at half the usual growth,
// and harder still before 64 MiB are reached.
func TuneMemory() {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(64 << 20)
}
