package filecopy

import "sync/atomic"

// Progress is how far a copy is. Who copies writes it, who shows it reads it.
type Progress struct {
	Files, Bytes           atomic.Uint64 // that are through, kept ones among them
	Kept                   atomic.Uint64 // bytes that were there already
	TotalFiles, TotalBytes atomic.Uint64 // 0 until known
	Name                   atomic.Pointer[string]
}

// Note says which file is being copied.
func (p *Progress) Note(name string) { p.Name.Store(&name) }
