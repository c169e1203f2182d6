package filecopy

import (
	"crypto/sha256"
	"hash"
)

// Sizes of blocks; our choice. A resumed copy repeats at most one block, and the
// hashes of the largest file are 2 MiB.
const (
	minBlock  = 1 << 20
	MaxBlocks = 1 << 16 // of one file
	// MaxSize is the longest file, in bytes: 16 TiB.
	MaxSize = 1 << 44
)

// BlockSize is the size of the blocks of a file of size bytes: a power of two, at
// least 1 MiB, so that there are at most 65,536. A file of unknown size has the
// blocks of an empty one.
func BlockSize(size uint64) int {
	b := uint64(minBlock)
	for b*MaxBlocks < size {
		b <<= 1
	}
	return int(b)
}

// Blocks is the number of blocks of a file of size bytes, the last one maybe
// shorter.
func Blocks(size uint64) int {
	b := uint64(BlockSize(size))
	return int((size + b - 1) / b)
}

// Digest makes the digest of a file from the hashes of its blocks, which come in
// order.
type Digest struct {
	block int
	h     hash.Hash // over the hashes
	now   hash.Hash // of the block that is not complete
	in    int       // bytes in it
	size  uint64
	zero  [HashSize]byte // hash of a block of zeros; made at the first one
	known bool           // zero is made
}

// zeros is what holes read as.
var zeros = [4096]byte{}

// NewDigest begins one for a file whose size is size, 0 if unknown.
func NewDigest(size uint64) *Digest {
	return &Digest{block: BlockSize(size), h: sha256.New(), now: sha256.New()}
}

// At is how many bytes it has got.
func (d *Digest) At() uint64 { return d.size }

// Write adds the file's next bytes.
func (d *Digest) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part := p[:min(len(p), d.block-d.in)]
		d.now.Write(part)
		d.in, d.size, p = d.in+len(part), d.size+uint64(len(part)), p[len(part):]
		if d.in == d.block {
			d.finish()
		}
	}
	return n, nil
}

func (d *Digest) finish() {
	var sum [HashSize]byte
	d.h.Write(d.now.Sum(sum[:0]))
	d.now.Reset()
	d.in = 0
}

// Block adds one whole block of n bytes by its hash. It must begin where a block
// does.
func (d *Digest) Block(sum [HashSize]byte, n int) {
	d.h.Write(sum[:])
	d.size += uint64(n)
}

// Zeros adds n zeros; whole blocks of them cost nothing.
func (d *Digest) Zeros(n uint64) {
	for n > 0 {
		if d.in == 0 && n >= uint64(d.block) {
			d.Block(d.zeroBlock(), d.block)
			n -= uint64(d.block)
			continue
		}
		part := zeros[:min(n, uint64(len(zeros)), uint64(d.block-d.in))]
		_, _ = d.Write(part)
		n -= uint64(len(part))
	}
}

func (d *Digest) zeroBlock() [HashSize]byte {
	if !d.known {
		h := sha256.New()
		for range d.block / len(zeros) {
			h.Write(zeros[:])
		}
		h.Sum(d.zero[:0])
		d.known = true
	}
	return d.zero
}

// Sum is the digest of what was added; nothing may be added afterwards.
func (d *Digest) Sum() (sum [HashSize]byte) {
	if d.in > 0 {
		d.finish()
	}
	h := sha256.New()
	h.Write([]byte("tucdesk-copy-v1\x00"))
	h.Write(be.AppendUint64(nil, d.size))
	h.Write(d.h.Sum(nil))
	h.Sum(sum[:0])
	return sum
}
