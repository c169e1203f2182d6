package screen

import (
	"bytes"

	"github.com/tucdesk/tucdesk/internal/terminal"
)

// minBar is the narrowest bar that still says something. Our choice.
const minBar = 24

// barText makes text fit into a bar: escaped, one cell for each letter.
func barText(text string) []byte {
	out := []byte{' '}
	for _, r := range terminal.Escape(text) {
		if cellsOf(r) != 1 {
			r = '?'
		}
		out = append(out, string(r)...)
	}
	return append(out, ' ')
}

// clip is the beginning of bar that fits into n cells.
func clip(bar []byte, n int) []byte {
	if r := bytes.Runes(bar); len(r) > n {
		return append([]byte(string(r[:n-1])), ' ')
	}
	return bar
}

// drawNotice draws the notice where it can be taken off again.
func (s *Screen) drawNotice(out []byte) []byte {
	if !s.scan.whole() {
		return out
	}
	if s.notice == nil {
		return s.setTitle(out, nil)
	}
	if s.drawable() {
		if bar, row, left, ok := s.barPlace(); ok {
			return s.drawBar(s.setTitle(out, nil), bar, row, left)
		}
	}
	return s.setTitle(out, bytes.TrimSpace(s.notice))
}

// setTitle makes text the window's title, or puts back the program's if it is
// nil. A title is in nobody's way: it stays while the program writes.
func (s *Screen) setTitle(out, text []byte) []byte {
	m, d := s.model, &s.drawn
	if bytes.Equal(text, d.title) {
		return out
	}
	switch {
	case text != nil:
		if d.title == nil && !m.titleKnown { // ask the terminal to remember it
			out = append(out, "\x1b[22;2t"...)
		}
		out = append(append(append(out, "\x1b]2;"...), text...), '\a')
	case m.titleKnown:
		out = append(append(append(out, "\x1b]2;"...), m.title...), '\a')
	default:
		out = append(out, "\x1b[23;2t"...)
	}
	d.title = text
	return out
}

// barPlace finds cells that we can put back: at the beginning of the first such
// row, or at the end of the cursor's line.
func (s *Screen) barPlace() (bar []byte, row, left int, ok bool) {
	m := s.model
	bar = clip(s.notice, m.cols-1)
	n := len(bytes.Runes(bar))
	if m.rowKnown() && !m.origin {
		for row := range m.rows {
			if l := m.lines[row]; row != m.row && l.known(0, n) && l[n].kind != tail {
				return bar, row, 0, true
			}
		}
	}
	from := m.col
	if p := &s.predictor; s.predicting() {
		from = max(from, p.steps[len(p.steps)-1].hi, p.steps[len(p.steps)-1].col)
		for _, step := range p.steps {
			from = max(from, step.hi)
		}
	}
	from += 2
	bar = clip(s.notice, max(1, m.cols-1-from))
	n = len(bytes.Runes(bar))
	left = m.cols - 1 - n
	if n < min(minBar, len(bytes.Runes(s.notice))) || left < from || !m.line()[left:m.cols-1].allErased() {
		return nil, 0, 0, false
	}
	return bar, inline, left, true
}

// drawBar draws bar and puts the cursor back. A prediction is drawn later, so
// the cursor is the model's.
func (s *Screen) drawBar(out, bar []byte, row, left int) []byte {
	m, n := s.model, len(bytes.Runes(bar))
	if row == inline {
		out = moveColumn(out, m.col, left)
	} else {
		out = moveTo(out, row, left)
	}
	out = append(append(out, "\x1b[0;7m"...), bar...)
	d := &s.drawn
	d.bar, d.row, d.left, d.end = bar, row, left, left+n
	return s.leaveBar(out)
}

// leaveBar puts the cursor and the pen back from the end of the bar.
func (s *Screen) leaveBar(out []byte) []byte {
	m, d := s.model, &s.drawn
	if d.row == inline {
		return s.finish(out, d.end)
	}
	return s.finish(moveTo(out, m.row, m.col), m.col)
}

func (s *Screen) undoBar(out []byte) []byte {
	m, d := s.model, &s.drawn
	l := m.line()
	if d.row == inline {
		out = moveColumn(out, m.col, d.left)
	} else {
		l = m.lines[d.row]
		out = moveTo(out, d.row, d.left)
	}
	out = s.leaveBar(appendCells(out, l[d.left:d.end], nil))
	d.bar = nil
	return out
}
