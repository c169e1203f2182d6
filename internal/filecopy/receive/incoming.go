package receive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/filecopy/disk"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// incoming is a file that comes in pieces.
type incoming struct {
	r     *Receiver
	offer filecopy.Offer
	name  string // here

	ready  chan struct{} // closed when the fields below are set
	err    error         // it is not wanted
	part   *part         // nil with a sink, and until something has to be written
	basis  *os.File      // what the kept blocks are of: the part, or the target as it is
	hashes [][filecopy.HashSize]byte

	digest *filecopy.Digest
	wrong  bool // it failed, and what comes is dropped
}

// offer begins to look what there is of a file, and answers when that is known.
func (r *Receiver) offer(m filecopy.Offer) error {
	r.forgetDeclined()
	if len(r.offers) >= filecopy.MaxOffers || r.offers[m.ID] != nil {
		return errOrder
	}
	name, ok, err := r.accept(m)
	if err != nil {
		return err
	}
	if !ok {
		return r.s.Say(filecopy.Decline{ID: m.ID})
	}
	in := &incoming{r: r, offer: m, name: name, ready: make(chan struct{}), digest: filecopy.NewDigest(m.Size)}
	r.offers[m.ID] = in
	r.workers.Go(func() {
		r.sem <- struct{}{}
		defer func() { <-r.sem }()
		in.err = in.prepare()
		close(in.ready) // before the answer, which may be answered at once
		if r.ctx.Err() != nil {
			return // nobody waits for an answer
		}
		if in.err == nil {
			r.fail(in.want())
			return
		}
		r.fail(errors.Join(r.problem(m.Name, in.err), r.s.Say(filecopy.Decline{ID: m.ID})))
	})
	return nil
}

// prepare finds what the file can be built on.
func (in *incoming) prepare() error {
	t := in.r.tree
	if t == nil {
		return nil
	}
	dir, err := t.open(path.Dir(in.name))
	if err != nil {
		return err
	}
	defer t.done(dir)
	old, err := t.target(dir, path.Base(in.name))
	if err != nil {
		return err
	}
	if in.part, err = t.begin(in.name); err != nil {
		return err
	}
	if err := in.room(dir); err != nil {
		in.leave(true)
		return err
	}
	if in.offer.Flags&filecopy.Unsized != 0 {
		return nil
	}
	if in.part.have == 0 && in.r.cfg.Look && old != nil && old.Mode().IsRegular() && uint64(old.Size()) == in.offer.Size {
		in.basis = reopen(dir, path.Base(in.name), old)
	} else if in.part.have > 0 {
		in.basis = in.part.f
	}
	if in.basis == nil {
		return nil
	}
	return in.hash()
}

// reopen opens the file that info is of, or nothing.
func reopen(dir *folder, base string, info fs.FileInfo) *os.File {
	f, err := dir.root.OpenFile(base, os.O_RDONLY|disk.OpenFlags, 0)
	if err != nil {
		return nil
	}
	if now, err := f.Stat(); err != nil || !os.SameFile(now, info) {
		_ = f.Close()
		return nil
	}
	return f
}

// room says early that the disk is too small (attack I7). What others write
// meanwhile is seen when it happens.
func (in *incoming) room(dir *folder) error {
	need := in.offer.Size
	if in.offer.Flags&filecopy.Sparse != 0 {
		need = min(need, in.offer.Allocated)
	}
	if info, err := in.part.f.Stat(); err == nil {
		need -= min(need, disk.FactsOf(info).Allocated)
	}
	d, err := dir.root.Open(".")
	if err != nil {
		return nil // a folder that may be written and not read
	}
	defer d.Close()
	if free, ok := disk.Free(d); ok && free < need {
		return refusal.New(refusal.NoSpace, "it needs %d bytes more, and %d are free", need, free)
	}
	return nil
}

// hash computes the hashes of the whole blocks of basis.
func (in *incoming) hash() error {
	info, err := in.basis.Stat()
	if err != nil {
		return err
	}
	have, size := uint64(info.Size()), in.offer.Size
	block := uint64(filecopy.BlockSize(size))
	n := min(have, size) / block
	if have >= size {
		n = uint64(filecopy.Blocks(size))
	}
	buf := make([]byte, min(block, 1<<20))
	for i := range n {
		h := sha256.New()
		at := i * block
		section := io.NewSectionReader(in.basis, int64(at), int64(min(block, size-at)))
		if _, err := io.CopyBuffer(h, wanted{section, in.r.ctx}, buf); err != nil {
			return err
		}
		in.hashes = append(in.hashes, [filecopy.HashSize]byte(h.Sum(nil)))
	}
	return nil
}

// wanted is read for as long as the copy goes on: the hashes of a part that is all
// holes can take hours.
type wanted struct {
	r   io.Reader
	ctx context.Context
}

// Read fails when the copy is over.
func (w wanted) Read(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.r.Read(b)
}

// want sends the hashes.
func (in *incoming) want() error {
	left := in.hashes
	for {
		n := min(len(left), filecopy.MaxHashes)
		m := filecopy.Want{ID: in.offer.ID, More: n < len(left)}
		for _, h := range left[:n] {
			m.Hashes = append(m.Hashes, h[:]...)
		}
		if left = left[n:]; !m.More {
			return in.r.s.Say(m)
		}
		if err := in.r.s.Send(m); err != nil {
			return err
		}
	}
}

// begin makes an offer the current file. One that was declined is not begun.
func (r *Receiver) begin(id uint32) error {
	in := r.offers[id]
	if in == nil {
		return errOrder
	}
	if <-in.ready; in.err != nil {
		return errOrder
	}
	delete(r.offers, id)
	r.current = in
	return nil
}

// forgetDeclined forgets offers that were answered with no, which the sender does
// not begin.
func (r *Receiver) forgetDeclined() {
	for id, in := range r.offers {
		select {
		case <-in.ready:
			if in.err != nil {
				delete(r.offers, id)
			}
		default:
		}
	}
}

func (r *Receiver) handleContents(m filecopy.Message) error {
	in := r.current
	at := in.digest.At()
	switch m := m.(type) {
	case filecopy.Data:
		if m.Offset != at || !in.fits(uint64(len(m.Bytes))) {
			return errOrder
		}
		_, _ = in.digest.Write(m.Bytes)
		in.r.progress(len(m.Bytes))
		return in.try(func() error { return in.write(m.Bytes, at) })
	case filecopy.Zeros:
		if m.Offset != at || m.Length == 0 || !in.fits(m.Length) {
			return errOrder
		}
		in.digest.Zeros(m.Length)
		in.r.progress(int(m.Length))
		return in.try(func() error { return in.zero(at, m.Length) })
	case filecopy.Keep:
		return in.keep(m)
	case filecopy.Abandon:
		r.current = nil
		in.leave(true)
		return nil
	case filecopy.Close:
		r.current = nil
		return in.close(m)
	}
	return errOrder
}

func (in *incoming) fits(n uint64) bool {
	most := in.offer.Size
	if in.offer.Flags&filecopy.Unsized != 0 {
		most = filecopy.MaxSize
	}
	return n <= most && in.digest.At() <= most-n
}

// try does something to the file. After the first failure the sender is told that
// the rest is not wanted, and what is under way is dropped.
func (in *incoming) try(do func() error) error {
	if in.wrong {
		return nil
	}
	var err error
	if in.part != nil {
		err = in.part.recall()
	}
	if err == nil {
		err = do()
	}
	if err == nil {
		return nil
	}
	in.wrong = true
	if in.r.ctx.Err() != nil {
		return nil // the stream's end says why
	}
	return errors.Join(in.r.problem(in.offer.Name, err), in.r.s.Say(filecopy.Decline{ID: in.offer.ID}))
}

// lend lends the locks of all files that are under way. It runs while the reader
// waits.
func (r *Receiver) lend() {
	r.awake.Lock()
	defer r.awake.Unlock()
	if r.ended {
		return
	}
	if in := r.current; in != nil && in.part != nil {
		in.part.lend()
	}
	for _, in := range r.offers {
		select {
		case <-in.ready:
			if in.part != nil {
				in.part.lend()
			}
		default: // it is being looked at
		}
	}
}

func (in *incoming) write(b []byte, at uint64) error {
	if in.part == nil {
		_, err := in.r.cfg.Sink.Write(b)
		return err
	}
	if in.offer.Flags&filecopy.Sparse == 0 {
		_, err := in.part.f.WriteAt(b, int64(at))
		return err
	}
	return in.writeSparse(b, at)
}

// holeUnit is the smallest hole that is kept: a page, and a block of nearly every
// file system.
const holeUnit = 4096

var noBytes [16 * holeUnit]byte

// writeSparse leaves out pieces of zeros where there is nothing yet.
func (in *incoming) writeSparse(b []byte, at uint64) error {
	for len(b) > 0 {
		n := min(len(b), holeUnit-int(at%holeUnit))
		piece := b[:n]
		if int64(at) < in.part.have || !bytes.Equal(piece, noBytes[:n]) {
			if _, err := in.part.f.WriteAt(piece, int64(at)); err != nil {
				return err
			}
		}
		b, at = b[n:], at+uint64(n)
	}
	return nil
}

// zero makes n zeros: a hole where nothing lies yet, for one message can say 16 TiB of
// them (attack I7), and in what an earlier copy left behind zeros over the bytes that
// are there.
func (in *incoming) zero(at, n uint64) error {
	if in.part == nil {
		return in.fill(in.r.cfg.Sink, n)
	}
	for end := min(at+n, uint64(in.part.have)); at < end; {
		data, err := disk.NextData(in.part.f, int64(at), int64(end))
		if err == nil {
			err = in.fill(io.NewOffsetWriter(in.part.f, data.Start), uint64(data.End-data.Start))
		}
		if err != nil {
			return err
		}
		at = uint64(data.End)
	}
	return nil
}

// fill writes n zeros, for as long as the copy goes on.
func (in *incoming) fill(w io.Writer, n uint64) error {
	for n > 0 {
		if err := in.r.ctx.Err(); err != nil {
			return err
		}
		piece := noBytes[:min(uint64(len(noBytes)), n)]
		if _, err := w.Write(piece); err != nil {
			return err
		}
		n -= uint64(len(piece))
	}
	return nil
}

// keep takes blocks that are right as they are.
func (in *incoming) keep(m filecopy.Keep) error {
	block, size := uint64(filecopy.BlockSize(in.offer.Size)), in.offer.Size
	if m.Count == 0 || uint64(m.First)+uint64(m.Count) > uint64(len(in.hashes)) || in.digest.At() != uint64(m.First)*block {
		return errOrder
	}
	for i := m.First; i < m.First+m.Count; i++ {
		at := uint64(i) * block
		n := min(block, size-at)
		in.digest.Block(in.hashes[i], int(n))
		in.r.kept(n)
		if err := in.try(func() error { return in.fetch(i, at, n) }); err != nil {
			return err
		}
	}
	return nil
}

// fetch copies a kept block from the target, which may have changed since it was
// hashed.
func (in *incoming) fetch(i uint32, at, n uint64) error {
	if in.basis == in.part.f {
		return nil
	}
	h := sha256.New()
	section := io.NewSectionReader(in.basis, int64(at), int64(n))
	if _, err := io.Copy(&sparsely{in, at}, io.TeeReader(section, h)); err != nil {
		return err
	}
	if [filecopy.HashSize]byte(h.Sum(nil)) != in.hashes[i] {
		return refusal.New(refusal.HashMismatch, "the target changed while it was compared")
	}
	return nil
}

// sparsely writes from at on, and leaves holes where there are zeros.
type sparsely struct {
	in *incoming
	at uint64
}

// Write writes all of b, or fails.
func (w *sparsely) Write(b []byte) (int, error) {
	at := w.at
	w.at += uint64(len(b))
	return len(b), w.in.writeSparse(b, at)
}

func (r *Receiver) kept(n uint64) {
	r.progress(int(n))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done.Kept += n
	if p := r.cfg.Progress; p != nil {
		p.Kept.Add(n)
	}
}

// close compares the file as a whole, before it gets its name.
func (in *incoming) close(m filecopy.Close) error {
	at := in.digest.At()
	if m.Size != at || in.offer.Flags&filecopy.Unsized == 0 && at != in.offer.Size {
		return errOrder
	}
	if in.wrong {
		in.leave(true)
		return nil
	}
	err := error(nil)
	if in.digest.Sum() != m.Digest {
		err = refusal.New(refusal.HashMismatch, "what arrived is not what was read; copy it again")
	} else if in.part == nil {
		in.r.count(1, at)
		return nil
	} else if err = in.part.recall(); err == nil {
		err = in.part.complete(at, in.r.meta(in.offer.Mode, in.offer.Time))
	}
	if err != nil {
		in.leave(false)
		return in.r.problem(in.offer.Name, err)
	}
	in.closeBasis()
	in.r.complete <- in.part
	return nil
}

// leave gives the file up; with useful the next copy may go on where it ended.
func (in *incoming) leave(useful bool) {
	if in.part == nil {
		return
	}
	in.closeBasis()
	info, err := in.part.f.Stat()
	in.part.leave(useful && err == nil && info.Size() > 0 && in.offer.Flags&filecopy.Unsized == 0)
	in.part = nil
}

func (in *incoming) closeBasis() {
	if in.basis != nil && in.basis != in.part.f {
		_ = in.basis.Close()
	}
	in.basis = nil
}

// abandonAll gives up what is not complete, after the workers have ended.
func (r *Receiver) abandonAll() {
	if r.current != nil {
		r.current.leave(true)
	}
	for _, in := range r.offers {
		in.leave(true)
	}
}
