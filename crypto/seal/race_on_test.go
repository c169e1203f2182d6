//go:build race

package seal

// raceDetector is on in this build: sync.Pool then drops buffers at random, so
// allocations cannot be counted.
const raceDetector = true
