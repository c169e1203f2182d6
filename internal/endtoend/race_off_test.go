//go:build !race && linux

package endtoend

// raceDetector is off in this build.
const raceDetector = false
