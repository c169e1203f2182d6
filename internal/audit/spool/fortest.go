package spool

// LimitForTest makes s as small as that, in bytes, so that a test fills it in a moment.
func (s *Spool) LimitForTest(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = bytes
}
