// Package receive is the end of a copy that writes files. It runs at the operator or
// at a machine, takes the sender for hostile, and leaves the target either as it was
// or complete, file by file, whenever it is stopped.
package receive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Bounds of what is done at once; our choice.
const (
	writers   = 4   // that put small files on the disk
	ahead     = 64  // small files that wait for one of them
	preparing = 2   // files of earlier copies that are hashed
	batch     = 256 // files that are waited for together, and again that wait meanwhile
)

// Config is what one copy does.
type Config struct {
	Path    string           // where to; absolute or below the working directory
	Folders filecopy.Folders // where it has to be
	Flags   filecopy.Flags
	// Special says that setuid, setgid and sticky bits may be set where Flags ask for them;
	// else each file and folder that would have had one is told of as a problem.
	Special bool
	// Asked are the sources that were asked for; nothing else is taken. nil takes all:
	// where the sender is who may write here anyway.
	Asked []string
	// Look says that contents which are there may be compared with what is sent, so that
	// the sender learns their hashes, if the target really lies in Readable.
	Look     bool
	Readable filecopy.Folders
	// Mark is who sends, in names of files that are not complete. A sender who may not
	// look goes on with such as have the same mark: by the hash of each beginning it would
	// read those of others. Without a mark it goes on with none.
	Mark string
	// Sink takes the contents of the one file instead of Path.
	Sink     io.Writer
	Progress *filecopy.Progress
	// Problem is told of what is left out, by either end; nil for nobody.
	Problem func(filecopy.Problem)
}

// Open finds the target and reports whether a copy can go there. Who calls it calls
// Run as well, or Close.
func Open(cfg Config) (*Receiver, error) {
	tree := cfg.Sink == nil && cfg.Flags&filecopy.Recursive != 0
	r := &Receiver{cfg: cfg, gate: filecopy.NewGate(cfg.Asked, tree), offers: map[uint32]*incoming{}}
	if cfg.Sink != nil {
		return r, nil
	}
	var err error
	if r.tree, err = place(cfg.Path, cfg.Folders, cfg.Flags&filecopy.Into != 0); err != nil {
		return nil, err
	}
	// Of what was opened, not of its name: that may be a link to where nobody may read.
	if r.cfg.Look = cfg.Look && cfg.Readable.Holds(r.tree.root, r.tree.real); !r.cfg.Look {
		r.tree.mark, r.tree.anew = cfg.Mark, cfg.Mark == ""
	}
	return r, nil
}

// Receiver is one copy. Its fields are of Run's goroutine where nothing else is said.
type Receiver struct {
	cfg  Config
	ctx  context.Context // Run's
	s    *filecopy.Stream
	tree *tree // nil with a sink

	gate    *filecopy.Gate
	entries int
	offers  map[uint32]*incoming // offered and not begun
	current *incoming            // begun
	links   []filecopy.Link
	folders []settling // whose mode and time are set in the end
	held    int        // bytes of both

	small    chan smallFile
	complete chan *part
	sem      chan struct{} // of preparing
	workers  sync.WaitGroup
	commits  sync.WaitGroup

	awake sync.Mutex // held by read but while it waits for a message
	ended bool       // guarded by awake: read is over

	mu   sync.Mutex
	done filecopy.Finished // guarded by mu
	err  error             // guarded by mu: of the stream, met by a worker
}

// smallFile is a file that has come in one message.
type smallFile struct {
	filecopy.Small
	name string // here
}

// settling is a folder that gets its mode and time in the end.
type settling struct {
	filecopy.Folder
	name string // here
}

// Close gives up what Open took.
func (r *Receiver) Close() {
	if r.tree != nil {
		r.tree.close()
	}
}

// Run receives until the sender has sent everything. An error means that the copy
// was cut; single files that could not be had are none, and told to Problem and to
// the sender. ctx ends when s has ended, or is to end: it stops what takes long without
// a message, which the end of s alone does not.
func (r *Receiver) Run(ctx context.Context, s *filecopy.Stream) (filecopy.Finished, error) {
	defer r.Close()
	r.ctx, r.s = ctx, s
	r.small, r.complete, r.sem = make(chan smallFile, ahead), make(chan *part, batch), make(chan struct{}, preparing)
	for range writers {
		r.workers.Go(r.write)
	}
	r.commits.Go(r.commit)
	err := r.read()
	close(r.small)
	r.workers.Wait()
	r.abandonAll()
	close(r.complete)
	r.commits.Wait()
	if err == nil {
		r.finish()
		err = r.failure()
	}
	if err == nil {
		err = s.Say(r.done)
	}
	return r.done, err
}

func (r *Receiver) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// read handles messages up to end.
func (r *Receiver) read() error {
	r.awake.Lock()
	defer r.awake.Unlock()
	defer func() { r.ended = true }()
	quiet := time.AfterFunc(lendAfter, r.lend)
	defer quiet.Stop()
	for {
		quiet.Reset(lendAfter)
		r.awake.Unlock()
		m, err := r.s.Next()
		r.awake.Lock()
		quiet.Stop()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if _, ok := m.(filecopy.End); ok {
			r.forgetDeclined()
			if r.current != nil || len(r.offers) > 0 {
				return errOrder
			}
			return nil
		}
		if err := r.handle(m); err != nil {
			return err
		}
	}
}

var errOrder = refusal.New(refusal.ProtocolError, "a message of a copy that has no place there")

func (r *Receiver) handle(m filecopy.Message) error {
	switch m := m.(type) {
	case filecopy.Problem:
		r.tell(m)
		return nil
	case filecopy.Total:
		if p := r.cfg.Progress; p != nil {
			p.TotalFiles.Store(m.Files)
			p.TotalBytes.Store(m.Bytes)
		}
		return nil
	case filecopy.Refused:
		return &refusal.Error{Code: refusal.Plain(m.Code), Detail: m.Text}
	}
	if r.current != nil {
		return r.handleContents(m)
	}
	if begin, ok := m.(filecopy.Begin); ok {
		return r.begin(begin.ID)
	}
	return r.handleEntry(m)
}

// handleEntry takes what begins something new.
func (r *Receiver) handleEntry(m filecopy.Message) error {
	switch m := m.(type) {
	case filecopy.Folder:
		return r.folder(m)
	case filecopy.Link:
		return r.link(m)
	case filecopy.Small:
		name, ok, err := r.accept(m)
		if ok {
			m.Data = bytes.Clone(m.Data)
			r.small <- smallFile{m, name}
		}
		return err
	case filecopy.Offer:
		return r.offer(m)
	}
	return errOrder
}

// accept says what an entry is called here. Without ok it is left out, and the sender
// knows it; an error ends the copy.
func (r *Receiver) accept(m filecopy.Message) (here string, ok bool, err error) {
	name, _ := filecopy.EntryName(m)
	switch err = r.gate.Pass(m); refusal.Of(err) {
	case refusal.ProtocolError, refusal.TooMany:
		return "", false, err
	}
	r.entries++
	switch {
	case err != nil:
	case r.tree != nil:
		here, err = r.tree.local(name)
	case r.entries > 1:
		err = refusal.New(refusal.BadPath, "standard output takes one file")
	}
	if err != nil {
		return "", false, r.problem(name, err)
	}
	if p := r.cfg.Progress; p != nil {
		p.Note(name)
	}
	return here, true, nil
}

// link keeps a link until everything else is there.
func (r *Receiver) link(m filecopy.Link) error {
	name, ok, err := r.accept(m)
	if !ok {
		return err
	}
	if err := filecopy.CheckLink(m.Name, m.Target); err != nil {
		return r.problem(m.Name, err)
	}
	if err := r.hold(m.Name, m.Target); err != nil {
		return err
	}
	r.links = append(r.links, filecopy.Link{Name: name, Target: m.Target})
	return nil
}

// entryCost is what an entry that waits for the end takes beside its strings, in bytes.
const entryCost = 64

// hold counts what has to be kept until the end. Of other entries nothing is kept but
// keys: a sender is not to fill the memory with names of 4 KiB (attack H4).
func (r *Receiver) hold(strings ...string) error {
	r.held += entryCost
	for _, s := range strings {
		r.held += len(s)
	}
	if r.held > filecopy.MaxHeld {
		return refusal.New(refusal.TooLarge, "the links and folders of a copy have at most %d MiB of names and targets", filecopy.MaxHeld>>20)
	}
	return nil
}

func (r *Receiver) folder(m filecopy.Folder) error {
	name, ok, err := r.accept(m)
	if !ok {
		return err
	}
	if err := r.tree.mkdir(name, m.Mode); err != nil {
		return r.problem(m.Name, err)
	}
	if r.cfg.Flags&filecopy.Preserve != 0 {
		if err := r.hold(m.Name); err != nil {
			return err
		}
		r.folders = append(r.folders, settling{m, name})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done.Folders++
	return nil
}

// finish does what has to wait until all files are there: links, which nothing may
// be written through, then modes and times of folders, inner ones first.
func (r *Receiver) finish() {
	for _, l := range r.links {
		if err := r.tree.link(l.Name, l.Target); err != nil {
			r.fail(r.problem(l.Name, err))
		}
	}
	for _, f := range slices.Backward(r.folders) {
		m := r.meta(f.Mode, f.Time)
		err := r.tree.settle(f.name, fs.FileMode(f.Mode)&fs.ModePerm|m.specialBits(), m.time)
		if err == nil && m.barred() {
			err = errBarred
		}
		if err != nil {
			r.fail(r.problem(f.Name, err))
		}
	}
}

func (r *Receiver) meta(mode uint32, at int64) meta {
	return meta{mode: mode, time: time.Unix(0, at), preserve: r.cfg.Flags&filecopy.Preserve != 0, special: r.cfg.Flags&filecopy.Special != 0, allowed: r.cfg.Special}
}

// write puts small files on the disk until there are no more.
func (r *Receiver) write() {
	for f := range r.small {
		if err := r.writeSmall(f); err != nil {
			r.fail(r.problem(f.Name, err))
		}
	}
}

func (r *Receiver) writeSmall(f smallFile) error {
	if sha256.Sum256(f.Data) != f.Hash {
		return refusal.New(refusal.HashMismatch, "what arrived is not what was read")
	}
	if r.tree == nil {
		_, err := r.cfg.Sink.Write(f.Data)
		if err == nil {
			r.count(1, uint64(len(f.Data)))
		}
		return err
	}
	p, err := r.tree.begin(f.name)
	if err != nil {
		return err
	}
	if _, err = p.f.WriteAt(f.Data, 0); err == nil {
		err = p.complete(uint64(len(f.Data)), r.meta(f.Mode, f.Time))
	}
	if err != nil {
		p.leave(false)
		return err
	}
	r.progress(len(f.Data))
	r.complete <- p
	return nil
}

// progress is about bytes that arrived; count about files that are in their place.
func (r *Receiver) progress(n int) {
	if p := r.cfg.Progress; p != nil {
		p.Bytes.Add(uint64(n))
	}
}

func (r *Receiver) count(files, bytes uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done.Files += files
	r.done.Bytes += bytes
	if p := r.cfg.Progress; p != nil {
		p.Files.Add(files)
	}
}

// problem tells both ends that an entry is left out. Its error is the stream's.
func (r *Receiver) problem(name string, err error) error {
	m := filecopy.ProblemOf(name, err)
	r.tell(m)
	return r.s.Say(m)
}

func (r *Receiver) tell(m filecopy.Problem) {
	if r.cfg.Problem != nil {
		r.cfg.Problem(m)
	}
}

// fail keeps the first error of the stream that a worker has met; the reader meets
// its own.
func (r *Receiver) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.Join(r.err, err)
}
