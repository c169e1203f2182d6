package spool

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/lines"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// header is the first line: the chain's end before the first entry below.
type header struct {
	Format string      `json:"format"`
	Team   wire.TeamID `json:"team"`
	Agent  key.ID      `json:"agent"`
	Seq    uint64      `json:"seq"`
	Hash   key.Hash    `json:"hash"`
}

func headerLine(h header) ([]byte, error) {
	line, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("writing the audit spool: %v", err)
	}
	return append(line, '\n'), nil
}

// load reads f from its beginning and cuts off a torn last line.
func (s *Spool) load(f *os.File) error {
	r := bufio.NewReaderSize(f, 64<<10)
	line, whole, err := lines.Next(r, maxLine)
	if err != nil {
		return err
	}
	var h header
	if again, err := []byte(nil), json.Unmarshal(line, &h); err != nil || !whole {
		return errors.New("header is damaged")
	} else if again, err = headerLine(h); err != nil || !bytes.Equal(again, append(line, '\n')) {
		return errors.New("header is damaged")
	}
	if h.Format != format || h.Team != s.team || h.Agent != s.signer.ID() {
		return refusal.New(refusal.WrongTeam, "the spool is of another team or agent")
	}
	s.seq, s.head, s.first, s.acked, s.size = h.Seq, h.Hash, h.Seq+1, h.Seq, int64(len(line))+1
	for {
		line, whole, err := lines.Next(r, maxLine)
		switch {
		case err != nil:
			return err
		case !whole:
			return s.cutTail(f, len(line))
		}
		if err := s.take(line); err != nil {
			if _, end := r.Peek(1); end == io.EOF {
				return s.cutTail(f, len(line)) // the last line, written out of order
			}
			return fmt.Errorf("entry %d: %w", s.seq+1, err)
		}
	}
}

// take verifies one line and moves the chain's end behind it.
func (s *Spool) take(line []byte) error {
	e, err := s.open(line)
	if err != nil {
		return err
	}
	hash := statement.Signed(line).Hash()
	if e.Seq != s.seq+1 || e.Previous != s.head || e.Team != s.team {
		return refusal.New(refusal.BadChain, "does not follow the entry before it")
	}
	s.push(e, hash, int64(len(line))+1)
	return nil
}

func (s *Spool) push(e entry.Entry, hash key.Hash, bytes int64) {
	s.start, s.by = append(s.start, s.size), append(s.by, e.Actor.Kid)
	s.held[e.Actor.Kid] += bytes
	s.size += bytes
	s.seq, s.head = e.Seq, hash
	s.gap = nil
	if e.Type == entry.SpoolGap && e.Gap != nil && e.Gap.Open {
		s.gap = &entry.Gap{Open: true, Since: e.Gap.Since}
	}
}

func (s *Spool) cutTail(f *os.File, torn int) error {
	if torn > 0 {
		if err := f.Truncate(s.size); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	_, err := f.Seek(s.size, io.SeekStart)
	return err
}

func (s *Spool) open(line []byte) (entry.Entry, error) {
	e, _, err := statement.Open[entry.Entry](line, func(key.ID) (statement.Verifier, error) {
		return s.signer.Public(), nil // another kid fails Open's own comparison
	})
	return e, err
}
