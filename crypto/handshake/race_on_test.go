//go:build race

package handshake

// raceDetector is on in this build. One goroutine's arithmetic has no races and is
// ten times slower here, so what tries every bit tries a part; CI tries all without it.
const raceDetector = true
