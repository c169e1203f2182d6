package transport

import "sync"

// chunk is the unit that buffers grow by. A peer that sends one byte on each of
// its streams makes us hold a chunk for each, so it is small.
const chunkSize = 4 << 10

type chunk [chunkSize]byte

// buffer is a part of a stream's bytes, by offset. It takes memory for what it
// holds only, in chunks that are the connection's.
type buffer struct {
	base   uint64 // offset of chunks[0]; a multiple of chunkSize
	chunks []*chunk
}

// write puts p at an offset, which is not below what was dropped.
func (b *buffer) write(p []byte, off uint64, pool *sync.Pool) {
	for len(p) > 0 {
		i := int((off - b.base) / chunkSize)
		for i >= len(b.chunks) {
			b.chunks = append(b.chunks, nil)
		}
		if b.chunks[i] == nil {
			b.chunks[i] = pool.Get().(*chunk)
		}
		n := copy(b.chunks[i][off%chunkSize:], p)
		p, off = p[n:], off+uint64(n)
	}
}

// read fills p from an offset; all of it has been written.
func (b *buffer) read(p []byte, off uint64) {
	for len(p) > 0 {
		n := copy(p, b.chunks[(off-b.base)/chunkSize][off%chunkSize:])
		p, off = p[n:], off+uint64(n)
	}
}

// drop gives back the chunks below an offset.
func (b *buffer) drop(off uint64, pool *sync.Pool) {
	n := int((off - b.base) / chunkSize)
	n = min(n, len(b.chunks))
	for _, c := range b.chunks[:n] {
		if c != nil {
			pool.Put(c)
		}
	}
	b.base += uint64(n) * chunkSize
	left := copy(b.chunks, b.chunks[n:])
	clear(b.chunks[left:])
	b.chunks = b.chunks[:left]
}

// fewChunks is how many places a buffer keeps that holds nothing, for the next keys.
const fewChunks = 8

// free gives back everything below end, the highest offset in use.
func (b *buffer) free(end uint64, pool *sync.Pool) {
	if b.drop(b.base+uint64(len(b.chunks))*chunkSize, pool); cap(b.chunks) > fewChunks {
		b.chunks = nil
	}
	b.base = end / chunkSize * chunkSize
}
