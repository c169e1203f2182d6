//go:build !linux

package link

// addressEvents: the look every few seconds has to do.
func (l *Link) addressEvents() <-chan struct{} { return nil }
