// Package tiles keeps an export as a folder that any reader of C2SP tlog-tiles
// understands, with one file beside the standard's for all that those readers do not
// know:
//
//	checkpoint              the newest one, with its cosignatures
//	tile/<level>/<n>        hashes
//	tile/entries/<n>        entries, each behind its length as two bytes, big-endian
//	export.jsonl            the export without its entries: of each only {"index":n}
//
// Source: protocol 5.4.
package tiles

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/lines"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
)

// The files that are no tiles; see the package's comment.
const (
	checkpointFile = "checkpoint"
	restFile       = "export.jsonl"
)

// Write turns the export that r reads into a folder that does not exist yet. Nothing
// is verified here. On an error, also when r ends before the export does,
// what was written so far stays for the caller to remove.
func Write(dir string, r io.Reader) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	rest, err := os.OpenFile(filepath.Join(dir, restFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w := &writer{dir: dir, rest: bufio.NewWriterSize(rest, 64<<10)}
	err = w.copy(bufio.NewReaderSize(r, 256<<10))
	if w.bundle != nil { // it broke off
		err = errors.Join(err, w.bundle.Close())
	}
	if err = errors.Join(err, w.rest.Flush(), rest.Close()); err != nil {
		return fmt.Errorf("writing tiles: %w", err)
	}
	return nil
}

type writer struct {
	dir    string
	rest   *bufio.Writer
	hashes tree.Tiles
	size   int64
	note   string   // the last checkpoint
	bundle *os.File // the unfinished one, under a name of its own
	buffer *bufio.Writer
}

func (w *writer) copy(r *bufio.Reader) error {
	for {
		raw, whole, err := lines.Next(r, export.MaxLine)
		if err != nil {
			return err
		}
		var l export.Line
		if !whole || json.Unmarshal(raw, &l) != nil {
			return errors.New("the export is cut off, or is none")
		}
		switch {
		case l.Entry != nil:
			if err := w.entry(l.Entry); err != nil {
				return err
			}
			raw = fmt.Appendf(nil, `{"index":%d}`, w.size-1)
		case l.Checkpoint != "":
			w.note = l.Checkpoint
		}
		if _, err := w.rest.Write(append(raw, '\n')); err != nil {
			return err
		}
		if l.End != nil {
			return w.finish(*l.End)
		}
	}
}

func (w *writer) entry(entry []byte) error {
	if len(entry) > math.MaxUint16 {
		return fmt.Errorf("entry %d has %d bytes, a bundle takes %d", w.size, len(entry), math.MaxUint16)
	}
	if w.bundle == nil {
		f, err := os.OpenFile(filepath.Join(w.dir, "bundle"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		w.bundle, w.buffer = f, bufio.NewWriterSize(f, 64<<10)
	}
	if _, err := w.buffer.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(entry))), entry...)); err != nil {
		return err
	}
	w.size++
	if err := w.hashes.Add(tree.Leaf(entry), w.put); err != nil {
		return err
	}
	if w.size%tree.TileWidth == 0 {
		return w.closeBundle(tree.TileWidth)
	}
	return nil
}

// closeBundle gives the unfinished bundle its name.
func (w *writer) closeBundle(width int) error {
	err := errors.Join(w.buffer.Flush(), w.bundle.Close())
	w.bundle = nil
	path, made := w.place(tree.TilePath(tree.EntriesLevel, (w.size-1)/tree.TileWidth, width))
	if err = errors.Join(err, made); err != nil {
		return err
	}
	return os.Rename(filepath.Join(w.dir, "bundle"), path)
}

// place makes the folders above a file of the log.
func (w *writer) place(path string) (string, error) {
	full := filepath.Join(w.dir, filepath.FromSlash(path))
	return full, os.MkdirAll(filepath.Dir(full), 0o700)
}

func (w *writer) put(path string, content []byte) error {
	full, err := w.place(path)
	if err != nil {
		return err
	}
	return os.WriteFile(full, content, 0o600)
}

func (w *writer) finish(end int64) error {
	if end != w.size {
		return fmt.Errorf("the export has %d entries and says %d", w.size, end)
	}
	if w.size == 0 {
		return nil
	}
	if c, err := checkpoint.Peek(w.note); err != nil || c.Size != w.size {
		return errors.New("the export does not end with a checkpoint of all its entries")
	}
	if w.bundle != nil {
		if err := w.closeBundle(int(w.size % tree.TileWidth)); err != nil {
			return err
		}
	}
	if err := w.hashes.Finish(w.put); err != nil {
		return err
	}
	return w.put(checkpointFile, []byte(w.note))
}

// Reader reads a folder of tiles as the export that it was made of, and compares
// what stands in it twice: the hashes with the entries, the checkpoint file with the
// last checkpoint. A generic reader sees nothing that was not compared.
type Reader struct {
	dir    *os.Root
	size   int64 // of the checkpoint file; it only says where things are
	note   string
	last   string // the last checkpoint of the rest
	file   *os.File
	rest   *bufio.Reader
	hashes tree.Tiles
	next   int64 // entry
	bundle []byte
	out    bytes.Buffer
	ended  bool
	bad    []string
}

// maxBad is how many bad files are named; our choice.
const maxBad = 100

// Open opens what Write made, or what somebody says that it did. The caller closes it.
func Open(dir string) (*Reader, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	t := &Reader{dir: root}
	if err := t.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("reading the folder %q: %w", dir, err), root.Close())
	}
	return t, nil
}

func (t *Reader) open() error {
	raw, err := t.readAtMost(checkpointFile, checkpoint.MaxNote)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err == nil { // none belongs to an empty log
		c, err := checkpoint.Peek(string(raw))
		if err != nil {
			return fmt.Errorf("reading %q: %w", checkpointFile, err)
		}
		t.size, t.note = c.Size, string(raw)
	}
	if t.file, err = openRegular(t.dir, restFile); err != nil {
		return err
	}
	t.rest = bufio.NewReaderSize(t.file, 256<<10)
	return nil
}

// Close closes the file and the folder that are open.
func (t *Reader) Close() error { return errors.Join(t.file.Close(), t.dir.Close()) }

// Bad returns the files that are missing or are not what the entries give, after
// Read has come to the end.
func (t *Reader) Bad() []string { return t.bad }

// Read implements io.Reader.
func (t *Reader) Read(p []byte) (int, error) {
	for t.out.Len() == 0 {
		if t.ended {
			return 0, io.EOF
		}
		if err := t.line(); err != nil {
			return 0, err
		}
	}
	return t.out.Read(p)
}

func (t *Reader) line() error {
	raw, whole, err := lines.Next(t.rest, export.MaxLine)
	if err != nil {
		return err
	}
	if !whole {
		t.out.Write(raw)
		t.finish()
		return nil
	}
	var l export.Line
	if json.Unmarshal(raw, &l) == nil {
		if l.Checkpoint != "" {
			t.last = l.Checkpoint
		}
		if l.Index != nil && l.Entry == nil {
			return t.entry(l)
		}
	}
	t.out.Write(append(raw, '\n'))
	return nil
}

// entry puts the next entry back into its line. Without one the line stays as it is,
// which no reader of an export accepts.
func (t *Reader) entry(l export.Line) error {
	if entry := t.nextEntry(); json.Valid(entry) {
		l.Entry = entry
		if err := t.hashes.Add(tree.Leaf(entry), t.compare); err != nil {
			return err
		}
	}
	enc := json.NewEncoder(&t.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(l)
}

// nextEntry returns nil when its bundle is missing or ends before it.
func (t *Reader) nextEntry() []byte {
	if t.next%tree.TileWidth == 0 {
		t.loadBundle()
	}
	t.next++
	if len(t.bundle) < 2 {
		return nil
	}
	n := int(binary.BigEndian.Uint16(t.bundle))
	if len(t.bundle) < 2+n {
		t.bundle = nil
		return nil
	}
	entry := t.bundle[2 : 2+n]
	t.bundle = t.bundle[2+n:]
	return entry
}

func (t *Reader) loadBundle() {
	if len(t.bundle) > 0 {
		t.accuse(tree.TilePath(tree.EntriesLevel, t.next/tree.TileWidth-1, tree.TileWidth))
	}
	t.bundle = nil
	width := min(t.size-t.next, tree.TileWidth)
	if width <= 0 {
		return
	}
	path := tree.TilePath(tree.EntriesLevel, t.next/tree.TileWidth, int(width))
	raw, err := t.readAtMost(path, tree.TileWidth*(2+math.MaxUint16))
	if err != nil {
		t.accuse(path)
		return
	}
	t.bundle = raw
}

func (t *Reader) readAtMost(path string, limit int64) ([]byte, error) {
	f, err := openRegular(t.dir, filepath.FromSlash(path))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err = errors.Join(err, f.Close()); err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return raw, err
}

func (t *Reader) compare(path string, want []byte) error {
	have, err := t.readAtMost(path, int64(len(want)))
	if err != nil || !bytes.Equal(have, want) {
		t.accuse(path)
	}
	return nil
}

func (t *Reader) accuse(path string) {
	if len(t.bad) < maxBad {
		t.bad = append(t.bad, path)
	}
}

func (t *Reader) finish() {
	t.ended = true
	if len(t.bundle) > 0 {
		t.accuse(tree.TilePath(tree.EntriesLevel, (t.next-1)/tree.TileWidth, int((t.next-1)%tree.TileWidth)+1))
	}
	_ = t.hashes.Finish(t.compare) // compare has no errors of its own
	if t.note != t.last || t.next != t.size {
		t.accuse(checkpointFile)
	}
}
