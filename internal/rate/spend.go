package rate

import "time"

// Spend takes n tokens of k's bucket and reports whether there was one. What it lacks is
// owed, so that one thing may cost more than is left: the next one waits the longer.
func (l *Limiter[K]) Spend(k K, n float64, now time.Time) bool {
	if !l.Allow(k, now) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.buckets[k]; b != nil { // nil when it was full again meanwhile, and forgotten
		b.tokens -= n - 1
	}
	return true
}
