package remote

import (
	"io"
	"sync"
)

// lateWriter is talk whose place changes while several goroutines write to it: a
// raw terminal comes and goes.
type lateWriter struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

// Write passes whole writes on, one after another.
func (l *lateWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// become changes the place and returns the one before.
func (l *lateWriter) become(w io.Writer) (before io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, l.w = l.w, w
	return before
}
