package screen

import "unicode/utf8"

// overlay is what of ours is on the terminal now. The terminal is otherwise as
// the model describes it: pen included, since every piece we draw puts it back.
type overlay struct {
	predicted bool
	from, to  int // cells drawn over in the cursor's line
	col       int // where the terminal's cursor is, the model's being elsewhere

	bar  []byte // the notice that is drawn, nil if none
	row  int    // its row, or inline
	left int    // its cells
	end  int

	title []byte // the notice as the window's title, nil if it is not
}

// inline is the row of a bar in the cursor's own line.
const inline = -1

// drawable reports that we may write between what the program wrote before and
// after: nothing of the terminal's state would differ for it.
func (s *Screen) drawable() bool {
	m := s.model
	if !s.scan.whole() || m.broken || !m.columnKnown() || m.wrap || !m.plain() || m.insert {
		return false
	}
	return !m.printed || m.leftLetter() >= 0
}

// leftLetter is the column of the letter before the cursor if we know it, else -1.
func (m *model) leftLetter() int {
	at := m.col - 1
	if at < 0 {
		return -1
	}
	l := m.line()
	if l[at].kind == tail {
		at--
	}
	if l[at].kind != text && l[at].kind != wide {
		return -1
	}
	return at
}

// finish ends a piece of ours of which the last part left the cursor at col in
// the model's row: it puts the cursor and the pen back. Where the program's last
// byte was a letter, that letter is written again: what comes next may be an
// accent for it, or the order to repeat it.
func (s *Screen) finish(out []byte, col int) []byte {
	m := s.model
	if at := m.leftLetter(); m.printed && at >= 0 {
		c := m.line()[at]
		out = c.pen.appendTo(moveColumn(out, col, at))
		out = utf8.AppendRune(out, c.r)
		if c.pen == m.pen {
			return out
		}
		return m.pen.appendTo(out)
	}
	return m.pen.appendTo(moveColumn(out, col, m.col))
}

// moveColumn moves sideways by distance, not to a column: where a letter was
// drawn wider than we think, that is still right.
func moveColumn(out []byte, from, to int) []byte {
	if from == to {
		return out
	}
	out = append(out, esc, '[')
	if from > to {
		return append(appendNumber(out, from-to), 'D')
	}
	return append(appendNumber(out, to-from), 'C')
}

func moveTo(out []byte, row, col int) []byte {
	out = appendNumber(append(out, esc, '['), row+1)
	return append(appendNumber(append(out, ';'), col+1), 'H')
}

// appendCells draws cells from the cursor on. Erased cells are erased, not
// written as spaces: a terminal knows the difference when text is copied.
func appendCells(out []byte, l line, flag func(i int) bool) []byte {
	var current pen
	started := false
	for i := 0; i < len(l); i++ {
		c := l[i]
		if c.kind == erased {
			n := i
			for n < len(l) && l[n].kind == erased {
				n++
			}
			out = append(out, "\x1b[0m\x1b["...)
			out = append(appendNumber(out, n-i), 'X', esc, '[')
			out = append(appendNumber(out, n-i), 'C')
			current, started, i = pen{}, true, n-1
			continue
		}
		if c.kind == tail {
			continue
		}
		p := c.pen
		if flag != nil && flag(i) {
			p.underline = 1
		}
		if !started || p != current {
			out = p.appendTo(out)
			current, started = p, true
		}
		out = utf8.AppendRune(out, c.r)
	}
	return out
}

// drawPrediction draws the line as it will be after all keys.
func (s *Screen) drawPrediction(out []byte) []byte {
	p, m := &s.predictor, s.model
	if !s.predicting() || !s.drawable() {
		return out
	}
	want, have := p.steps[len(p.steps)-1], m.line()
	from, to := want.col, want.col
	differs := func(i int) bool { return !want.line[i].same(have[i]) }
	for _, step := range p.steps {
		for i := step.lo; i < step.hi; i++ {
			if !differs(i) {
				continue
			}
			if from == to {
				from, to = i, i+1
			}
			from, to = min(from, i), max(to, i+1)
		}
	}
	if from < to {
		for from > 0 && (want.line[from].kind == tail || have[from].kind == tail) {
			from--
		}
		for to < len(have) && (want.line[to].kind == tail || have[to].kind == tail) {
			to++
		}
	}
	if to >= len(have) || !have.known(from, to) || !want.line.known(from, to) {
		return out
	}
	if from < to {
		out = moveColumn(out, m.col, from)
		underline := p.flag || p.glitch > 0
		out = appendCells(out, want.line[from:to], func(i int) bool { return underline && differs(from+i) })
		out = moveColumn(out, to, want.col)
		out = m.pen.appendTo(out)
	} else {
		out = moveColumn(out, m.col, want.col)
	}
	s.drawn.predicted, s.drawn.from, s.drawn.to, s.drawn.col = true, from, to, want.col
	return out
}

// predicting reports that the predictions are to be shown.
func (s *Screen) predicting() bool {
	p := &s.predictor
	return len(p.steps) > 0 && p.confident && (s.cfg.Mode == Always || p.slow || p.glitch > 0) && p.home == &s.model.line()[0]
}

// undo takes everything of ours off the screen: it is then as if only the program
// had written to it.
func (s *Screen) undo(out []byte) []byte {
	d, m := &s.drawn, s.model
	if d.predicted {
		d.predicted = false
		out = moveColumn(out, d.col, d.from)
		out = appendCells(out, m.line()[d.from:d.to], nil)
		out = s.finish(out, d.to)
	}
	if d.bar != nil {
		out = s.undoBar(out)
	}
	return out
}
