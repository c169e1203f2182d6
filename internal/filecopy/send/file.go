package send

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/filecopy/disk"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// file is one regular file on its way. What read finds is one of small, f and err.
type file struct {
	in   *folder
	base string
	name string

	small *filecopy.Small
	f     io.ReadCloser // longer than fits in one message; an *os.File but for a stream
	offer filecopy.Offer
	info  fs.FileInfo
	err   error
}

// read opens the file and reads it if it is small.
func (f *file) read() {
	defer f.in.done()
	o, err := f.in.root.OpenFile(f.base, os.O_RDONLY|disk.OpenFlags, 0)
	if err != nil {
		f.err = err
		return
	}
	if f.err = f.look(o); f.err != nil || f.small != nil {
		_ = o.Close()
		return
	}
	f.f = o
}

func (f *file) look(o *os.File) error {
	info, err := o.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return refusal.New(refusal.BadFile, "no file any more")
	}
	if info.Size() > filecopy.MaxData {
		f.info = info
		f.offer = offerOf(info, f.name)
		return nil
	}
	// What the system makes up when it is read, as in /proc, has size 0.
	data, err := io.ReadAll(io.LimitReader(o, max(info.Size(), filecopy.MaxData)+1))
	if err != nil {
		return err
	}
	if len(data) > filecopy.MaxData {
		return refusal.New(refusal.FileChanged, "it is longer than the system says")
	}
	f.small = &filecopy.Small{Mode: modeOf(info), Time: info.ModTime().UnixNano(), Hash: sha256.Sum256(data), Name: f.name, Data: data}
	return nil
}

func offerOf(info fs.FileInfo, name string) filecopy.Offer {
	o := filecopy.Offer{Mode: modeOf(info), Time: info.ModTime().UnixNano(), Size: uint64(info.Size()), Allocated: disk.FactsOf(info).Allocated, Name: name}
	if o.Allocated < o.Size {
		o.Flags = filecopy.Sparse
	}
	return o
}

// errDeclined ends a file that the receiver does not want any more.
var errDeclined = errors.New("declined")

// outgoing is a file that is being sent.
type outgoing struct {
	x      *Sender
	file   *file
	digest *filecopy.Digest
	buf    []byte
}

// stream sends a file whose blocks with these hashes the receiver has. An error is
// the stream's: what happens to the file is told to the receiver.
func (x *Sender) stream(f *file, hashes []byte) error {
	defer f.f.Close()
	if err := x.s.Send(filecopy.Begin{ID: f.offer.ID}); err != nil {
		return err
	}
	o := &outgoing{x: x, file: f, digest: filecopy.NewDigest(f.offer.Size), buf: make([]byte, filecopy.MaxData)}
	err := o.contents(hashes)
	if err == nil {
		err = x.s.Send(filecopy.Close{Size: o.digest.At(), Digest: o.digest.Sum()})
		if err == nil {
			err = o.changed()
		}
		x.count(err)
		return err
	}
	var lost streamError
	if errors.As(err, &lost) {
		return lost.error
	}
	if err != errDeclined {
		if err := x.problem(f.name, err); err != nil {
			return err
		}
	}
	return x.s.Send(filecopy.Abandon{})
}

// streamError is an error of the stream, not of the file.
type streamError struct{ error }

func (o *outgoing) send(m filecopy.Message) error {
	if err := o.x.s.Send(m); err != nil {
		return streamError{err}
	}
	if o.x.dropped(o.file.offer.ID) {
		return errDeclined
	}
	return nil
}

// changed tells about a file that somebody wrote to meanwhile: what was copied may
// be a mixture.
func (o *outgoing) changed() error {
	f, ok := o.file.f.(*os.File)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err == nil && info.ModTime().Equal(o.file.info.ModTime()) && info.Size() == o.file.info.Size() {
		return nil
	}
	return o.x.problem(o.file.name, refusal.New(refusal.FileChanged, "it changed while it was read; the copy may be a mixture"))
}

func (o *outgoing) contents(hashes []byte) error {
	f, ok := o.file.f.(*os.File)
	if !ok || o.file.offer.Flags&filecopy.Unsized != 0 {
		return o.all(o.file.f)
	}
	if err := o.compare(f, hashes); err != nil {
		return err
	}
	size := int64(o.file.offer.Size)
	for at := int64(o.digest.At()); at < size; at = int64(o.digest.At()) {
		data := disk.Range{Start: at, End: size}
		var err error
		if o.file.offer.Flags&filecopy.Sparse != 0 {
			if data, err = disk.NextData(f, at, size); err != nil {
				return err
			}
		}
		if data.Start > at {
			if err := o.zeros(uint64(data.Start - at)); err != nil {
				return err
			}
		}
		if err := o.part(io.NewSectionReader(f, data.Start, data.End-data.Start), data.End); err != nil {
			return err
		}
	}
	return nil
}

// all sends a stream to its end.
func (o *outgoing) all(r io.Reader) error {
	for {
		n, err := io.ReadFull(r, o.buf)
		if n > 0 {
			if err := o.data(o.buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// part sends what is in r, which ends at end of the file.
func (o *outgoing) part(r io.Reader, end int64) error {
	for at := int64(o.digest.At()); at < end; at = int64(o.digest.At()) {
		b := o.buf[:min(int64(len(o.buf)), end-at)]
		if _, err := io.ReadFull(r, b); err != nil {
			return shorter(err)
		}
		if err := o.data(b); err != nil {
			return err
		}
	}
	return nil
}

func shorter(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return refusal.New(refusal.FileChanged, "it became shorter while it was read")
	}
	return err
}

var noBytes [filecopy.MaxData]byte

func (o *outgoing) data(b []byte) error {
	if bytes.Equal(b, noBytes[:len(b)]) {
		return o.zeros(uint64(len(b)))
	}
	at := o.digest.At()
	_, _ = o.digest.Write(b)
	o.x.progress(len(b))
	return o.send(filecopy.Data{Offset: at, Bytes: b})
}

func (o *outgoing) zeros(n uint64) error {
	at := o.digest.At()
	o.digest.Zeros(n)
	o.x.progress(int(n))
	return o.send(filecopy.Zeros{Offset: at, Length: n})
}

// compare sends those of the first blocks that are not as the receiver has them.
func (o *outgoing) compare(f *os.File, hashes []byte) error {
	size := o.file.offer.Size
	block := uint64(filecopy.BlockSize(size))
	n := min(len(hashes)/filecopy.HashSize, filecopy.Blocks(size))
	buf := make([]byte, 0)
	if n > 0 {
		buf = make([]byte, min(block, size))
	}
	keep := filecopy.Keep{}
	for i := range n {
		at := uint64(i) * block
		b := buf[:min(block, size-at)]
		if _, err := f.ReadAt(b, int64(at)); err != nil {
			return shorter(err)
		}
		sum := sha256.Sum256(b)
		if bytes.Equal(sum[:], hashes[i*filecopy.HashSize:][:filecopy.HashSize]) {
			if keep.Count == 0 {
				keep.First = uint32(i)
			}
			keep.Count++
			o.digest.Block(sum, len(b))
			o.x.kept(len(b))
			continue
		}
		if err := o.keep(&keep); err != nil {
			return err
		}
		if err := o.pieces(b); err != nil {
			return err
		}
	}
	return o.keep(&keep)
}

func (o *outgoing) keep(k *filecopy.Keep) error {
	if k.Count == 0 {
		return nil
	}
	m := *k
	*k = filecopy.Keep{}
	return o.send(m)
}

func (o *outgoing) pieces(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), filecopy.MaxData)
		if err := o.data(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
