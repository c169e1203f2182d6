//go:build race && linux

package endtoend

// raceDetector is on in this build, so the programs are built with it as well.
const raceDetector = true
