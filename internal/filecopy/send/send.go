// Package send is the end of a copy that reads files. It runs at the operator or at
// a machine, reads only regular files, never through a link below what was named,
// and reads small ones ahead so that nothing waits for a disk or a round trip.
package send

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Bounds of what is done at once; our choice. At most readAhead small files are in
// memory.
const (
	readers   = 4
	readAhead = 64
)

// Config is what one copy does.
type Config struct {
	Paths   []string         // absolute, without patterns
	Folders filecopy.Folders // where they have to be
	Flags   filecopy.Flags
	// Stream is sent as a file called Name, instead of Paths.
	Stream   io.Reader
	Name     string
	Progress *filecopy.Progress
	// Problem is told of what is left out, by either end; nil for nobody.
	Problem func(filecopy.Problem)
	// Hangup makes the stream's Next fail. It is called when the copy is cut, and may be
	// called more than once.
	Hangup func()
}

// Sender is one copy. Its fields are of Run's goroutine where nothing else is said.
type Sender struct {
	cfg     Config
	s       *filecopy.Stream
	last    uint32           // id of the newest offer
	pending map[uint32]*file // offered and not begun
	answers chan answer

	mu       sync.Mutex
	declined map[uint32]bool   // guarded by mu: of offers
	finished filecopy.Finished // guarded by mu
	err      error             // guarded by mu: what the reader ended with; io.EOF after finished
	over     chan struct{}     // closed when the reader has ended
}

// answer is to an offer.
type answer struct {
	id     uint32
	no     bool
	hashes []byte
}

// Run sends everything and returns what the receiver says of it. An error means that
// the copy was cut; single files that could not be had are none.
func Run(ctx context.Context, s *filecopy.Stream, cfg Config) (filecopy.Finished, error) {
	x := &Sender{cfg: cfg, s: s, pending: map[uint32]*file{}, answers: make(chan answer, 2*filecopy.MaxOffers), declined: map[uint32]bool{}, over: make(chan struct{})}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer cancel() // nothing more is to be sent
		x.listen(ctx)
	})
	items := x.start(ctx, &wg)
	err := x.emit(ctx, items)
	if err == nil {
		err = s.Say(filecopy.End{})
	}
	if err != nil {
		cfg.Hangup()
	}
	<-x.over
	cancel()
	for it := range items {
		it.drop()
	}
	for _, f := range x.pending {
		_ = f.f.Close()
	}
	return x.result(err)
}

// result prefers what the receiver said, and why it went, over what that did to us.
func (x *Sender) result(err error) (filecopy.Finished, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err == io.EOF && err == nil {
		return x.finished, nil
	}
	if x.err != nil && x.err != io.EOF && (err == nil || refusal.Of(err) == "") {
		err = x.err
	}
	return x.finished, err
}

// start begins to walk and to read.
func (x *Sender) start(ctx context.Context, wg *sync.WaitGroup) <-chan *item {
	items, files := make(chan *item, readAhead), make(chan *item)
	w := &walk{ctx: ctx, flags: x.cfg.Flags, folders: x.cfg.Folders, items: items, files: files}
	wg.Go(func() {
		defer close(items)
		defer close(files)
		if x.cfg.Stream != nil {
			x.walkStream(w)
			return
		}
		for _, p := range x.cfg.Paths {
			if w.source(p) != nil {
				return
			}
		}
	})
	for range readers {
		wg.Go(func() {
			for it := range files {
				it.file.read()
				close(it.ready)
			}
		})
	}
	if x.cfg.Flags&filecopy.Count != 0 && x.cfg.Stream == nil {
		wg.Go(func() {
			n, size := Measure(ctx, x.cfg.Paths, x.cfg.Folders)
			x.total(n, size)
		})
	}
	return items
}

// total tells both ends how much there is. An error of the stream shows elsewhere.
func (x *Sender) total(files, bytes uint64) {
	if p := x.cfg.Progress; p != nil {
		p.TotalFiles.Store(files)
		p.TotalBytes.Store(bytes)
	}
	_ = x.s.Send(filecopy.Total{Files: files, Bytes: bytes})
}

// walkStream offers the stream as the only file.
func (x *Sender) walkStream(w *walk) {
	f := &file{name: x.cfg.Name, f: io.NopCloser(x.cfg.Stream)}
	f.offer = filecopy.Offer{Flags: filecopy.Unsized, Mode: 0o666, Time: time.Now().UnixNano(), Name: f.name}
	ready := make(chan struct{})
	close(ready)
	select {
	case w.items <- &item{file: f, ready: ready}:
	case <-w.ctx.Done():
	}
}

// drop gives up an item that is not sent.
func (it *item) drop() {
	if it.file == nil {
		return
	}
	if <-it.ready; it.file.f != nil {
		_ = it.file.f.Close()
	}
}

// emit sends items in their order, and offered files when they were answered.
func (x *Sender) emit(ctx context.Context, items <-chan *item) error {
	for items != nil || len(x.pending) > 0 {
		from := items
		if len(x.pending) >= filecopy.MaxOffers {
			from = nil
		}
		select { // what is there already
		case a := <-x.answers:
			if err := x.answered(a); err != nil {
				return err
			}
			continue
		case it, ok := <-from:
			if !ok {
				items = nil
			} else if err := x.item(it); err != nil {
				return err
			}
			continue
		default:
		}
		if err := x.s.Flush(); err != nil {
			return err
		}
		select {
		case a := <-x.answers:
			if err := x.answered(a); err != nil {
				return err
			}
		case it, ok := <-from:
			if !ok {
				items = nil
			} else if err := x.item(it); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (x *Sender) item(it *item) error {
	if it.file == nil {
		if p, ok := it.message.(filecopy.Problem); ok {
			x.tell(p)
		}
		return x.s.Send(it.message)
	}
	<-it.ready
	f := it.file
	if p := x.cfg.Progress; p != nil {
		p.Note(f.name)
	}
	switch {
	case f.err != nil:
		return x.problem(f.name, f.err)
	case f.small != nil:
		x.progress(len(f.small.Data))
		x.count(nil)
		return x.s.Send(*f.small)
	}
	x.last++
	f.offer.ID = x.last
	x.pending[f.offer.ID] = f
	return x.s.Send(f.offer)
}

func (x *Sender) answered(a answer) error {
	f := x.pending[a.id]
	if f == nil {
		return nil // declined while it was sent
	}
	delete(x.pending, a.id)
	if a.no {
		return f.f.Close()
	}
	return x.stream(f, a.hashes)
}

func (x *Sender) problem(name string, err error) error {
	p := filecopy.ProblemOf(name, err)
	x.tell(p)
	return x.s.Send(p)
}

func (x *Sender) tell(p filecopy.Problem) {
	if x.cfg.Problem != nil {
		x.cfg.Problem(p)
	}
}

func (x *Sender) progress(n int) {
	if p := x.cfg.Progress; p != nil {
		p.Bytes.Add(uint64(n))
	}
}

func (x *Sender) kept(n int) {
	x.progress(n)
	if p := x.cfg.Progress; p != nil {
		p.Kept.Add(uint64(n))
	}
}

func (x *Sender) count(err error) {
	if p := x.cfg.Progress; p != nil && err == nil {
		p.Files.Add(1)
	}
}
