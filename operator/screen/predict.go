package screen

import "time"

// Thresholds, our choice; those of mosh where it has one.
const (
	showAbove      = 30 * time.Millisecond  // a round trip that people begin to feel
	hideBelow      = 20 * time.Millisecond  // and one they do not; between them it stays as it was
	flagAbove      = 80 * time.Millisecond  // from here on predictions are underlined
	unflagBelow    = 50 * time.Millisecond  //
	glitchAfter    = 100 * time.Millisecond // an echo this late is shown ahead for a while, whatever the round trip
	glitchRepairs  = 10                     // echoes in time that end that
	minPatience    = 250 * time.Millisecond // a prediction lives this long or two round trips
	maxPredictions = 256                    // keys; further ones wait for their echo
)

// step is what the cursor's line will be after one key.
type step struct {
	at     time.Time
	line   line
	col    int
	lo, hi int  // cells that this key changes
	credit bool // its echo proves that the program echoes: the letter was not there before
}

// predictor guesses what the program will make of keys.
type predictor struct {
	steps []step // keys without an echo yet, oldest first
	home  *cell  // identity of the line they were typed in
	base  int    // the column before the first step
	lo    int    // the leftmost cell that any of them changed

	// confident: the program echoed a letter since the epoch began. ended: a key
	// that we cannot predict came after the steps; until they are gone, nothing is
	// added, and then a new epoch begins.
	confident, ended bool

	input     *cell // identity of the line that the person's input begins in
	inputFrom int   // its first column: what is left of it is the program's prompt

	slow, flag bool
	glitch     int
}

// tune follows the round trip.
func (p *predictor) tune(rtt time.Duration) {
	switch {
	case rtt <= 0: // unknown, as while the path is gone
		return
	case rtt > showAbove:
		p.slow = true
	case rtt <= hideBelow && len(p.steps) == 0:
		p.slow = false
	}
	switch {
	case rtt > flagAbove:
		p.flag = true
	case rtt <= unflagBelow:
		p.flag = false
	}
}

// patience is how long a prediction waits for its echo.
func patience(rtt time.Duration) time.Duration { return max(minPatience, 2*rtt) }

// drop forgets all predictions. What comes is a new epoch.
func (p *predictor) drop() {
	p.steps, p.confident, p.ended = p.steps[:0], false, false
}

// end ends the epoch, keeping the predictions that stand.
func (p *predictor) end() {
	if p.ended = true; len(p.steps) == 0 {
		p.drop()
	}
}

// typed predicts what a key will do.
func (p *predictor) typed(m *model, k key, now time.Time) {
	if m.columnKnown() && !m.broken && len(p.steps) == 0 && p.input == nil {
		p.input, p.inputFrom = &m.line()[0], m.col
	}
	if k.kind == enterKey {
		p.input = nil
	}
	if k.kind >= enterKey || len(p.steps) >= maxPredictions {
		p.end()
		return
	}
	if p.ended {
		return
	}
	s, ok := p.predict(m, k)
	if !ok {
		p.end()
		return
	}
	s.at = now
	if len(p.steps) == 0 {
		p.home, p.base, p.lo = &m.line()[0], m.col, m.col
	}
	p.lo = min(p.lo, s.lo)
	p.steps = append(p.steps, s)
}

// predict is what the line will be after k, where that is sure enough.
func (p *predictor) predict(m *model, k key) (step, bool) {
	if m.broken || !m.columnKnown() || m.wrap || m.insert || !m.plain() {
		return step{}, false
	}
	l, col := m.line(), m.col
	if n := len(p.steps); n > 0 {
		if p.home != &l[0] {
			return step{}, false
		}
		l, col = p.steps[n-1].line, p.steps[n-1].col
	}
	switch k.kind {
	case letterKey:
		return p.insert(m, l, col, k.r)
	case backspaceKey:
		return p.delete(l, col)
	case leftKey:
		at := p.before(l, col)
		return step{line: l, col: at, lo: at, hi: at}, at >= 0
	}
	w := 1
	if col+1 < len(l) && l[col+1].kind == tail {
		w = 2
	}
	ok := (l[col].kind == text || l[col].kind == wide) && col+w < len(l)
	return step{line: l, col: col + w, lo: col, hi: col}, ok
}

// insert types r at col: the text from there on moves to the right. It ends at
// the first cell never written; what stands beyond, such as a prompt at the
// right margin, stays.
func (p *predictor) insert(m *model, l line, col int, r rune) (step, bool) {
	w := cellsOf(r)
	if w < 1 {
		return step{}, false
	}
	end, ok := textEnd(l, col)
	// The last column is left alone: programs differ in how they fill it.
	if !ok || end+w >= len(l) || l[end+w-1].kind != erased || l[col].kind == tail {
		return step{}, false
	}
	next := append(line(nil), l...)
	copy(next[col+w:end+w], l[col:end])
	c := cell{r: r, pen: m.pen, kind: text}
	if p.input == &m.line()[0] && col > p.inputFrom && (l[col-1].kind == text || l[col-1].kind == tail) {
		c.pen = l[col-1].pen // coloured as what one types into
	}
	next[col] = c
	if w == 2 {
		next[col].kind = wide
		next[col+1] = cell{r: r, pen: c.pen, kind: tail}
	}
	return step{line: next, col: col + w, lo: col, hi: end + w, credit: !c.same(l[col]) && r != ' '}, true
}

// delete is backspace at col: the text from there on moves to the left.
func (p *predictor) delete(l line, col int) (step, bool) {
	at := p.before(l, col)
	if at < 0 {
		return step{}, false
	}
	end, ok := textEnd(l, col)
	if !ok || !l.known(at, end) {
		return step{}, false
	}
	next := append(line(nil), l...)
	copy(next[at:], l[col:end])
	next.fill(end-(col-at), end, cell{kind: erased})
	return step{line: next, col: at, lo: at, hi: end}, true
}

// before is the column of the letter before col within the person's own input,
// or -1.
func (p *predictor) before(l line, col int) int {
	at := col - 1
	if at > 0 && l[at].kind == tail {
		at--
	}
	if p.input == nil || p.input != p.homeOf(l) || at < p.inputFrom || l[at].kind == unknown || l[at].kind == erased {
		return -1
	}
	return at
}

// homeOf is the identity of the screen's line that l is or continues.
func (p *predictor) homeOf(l line) *cell {
	if len(p.steps) > 0 {
		return p.home
	}
	return &l[0]
}

// textEnd is where the text from col on ends; ok is false where we cannot know.
func textEnd(l line, col int) (int, bool) {
	for i := col; i < len(l); i++ {
		switch l[i].kind {
		case unknown:
			return 0, false
		case erased:
			return i, true
		}
	}
	return 0, false
}

// matches reports that the screen is as it will be after the first k keys. The
// text right of the cursor is not compared: shells write suggestions there.
func (p *predictor) matches(m *model, k int) bool {
	if !m.columnKnown() || m.wrap || &m.line()[0] != p.home {
		return false
	}
	if k == 0 {
		return m.col == p.base
	}
	s := p.steps[k-1]
	if m.col != s.col {
		return false
	}
	l := m.line()
	for i := p.lo; i < s.col; i++ {
		if !l[i].same(s.line[i]) {
			return false
		}
	}
	return true
}

// seen compares the predictions with what the program has written. before is
// where the cursor was.
func (p *predictor) seen(m *model, before mark, now time.Time) {
	if m.clearings != before.clearings {
		p.drop()
		p.input = nil
		return
	}
	if len(p.steps) == 0 {
		if m.mark() != before { // nobody typed this
			p.confident = false
		}
		return
	}
	for k := 0; k <= len(p.steps); k++ {
		if p.matches(m, k) {
			p.confirm(m, k, now)
			return
		}
	}
	p.drop()
}

// confirm takes off the first k predictions.
func (p *predictor) confirm(m *model, k int, now time.Time) {
	for _, s := range p.steps[:k] {
		if s.credit && m.line()[s.col-1].same(s.line[s.col-1]) && s.col <= m.col {
			p.confident = true
			if p.input != p.home { // typed before the prompt was there
				p.input, p.inputFrom = p.home, s.lo
			}
		}
		if now.Sub(s.at) < glitchAfter && p.glitch > 0 {
			p.glitch--
		}
	}
	if k > 0 {
		p.base = m.col
		p.steps = append(p.steps[:0], p.steps[k:]...)
	}
	if len(p.steps) == 0 && p.ended {
		p.drop()
	}
}

// expire ends what waited too long for its echo, and reports whether anything
// is to be drawn anew.
func (p *predictor) expire(m *model, now time.Time, rtt time.Duration) bool {
	if len(p.steps) == 0 {
		return false
	}
	age, was := now.Sub(p.steps[0].at), p.glitch
	if age >= patience(rtt) {
		if p.matches(m, len(p.steps)) { // such as a letter and its removal, echoed at once
			p.steps = p.steps[:0]
		}
		if len(p.steps) > 0 || p.ended {
			p.drop()
		}
		return true
	}
	if age >= glitchAfter && p.confident {
		p.glitch = glitchRepairs
	}
	return was == 0 && p.glitch > 0
}

// due is when expire has something to do next; zero when never.
func (p *predictor) due(rtt time.Duration) time.Time {
	if len(p.steps) == 0 {
		return time.Time{}
	}
	first := p.steps[0].at
	if p.glitch == 0 && p.confident && patience(rtt) > glitchAfter {
		return first.Add(glitchAfter)
	}
	return first.Add(patience(rtt))
}

// mark is a place of the cursor, to be compared.
type mark struct {
	home      *cell
	col       int
	known     bool
	clearings int
}

func (m *model) mark() mark {
	return mark{home: &m.line()[0], col: m.col, known: m.columnKnown() && !m.wrap, clearings: m.clearings}
}
