package screen

// The largest screen we keep a model of; a larger one gets no overlay. Our
// choice: ten times what a person can see.
const (
	maxCols = 2000
	maxRows = 1000
)

// place is a cursor with what goes with it when a program saves it.
type place struct {
	// The real row is row + d for one d in [0, slack] that we do not know, the
	// same for all lines of the model: it keeps what is near the cursor at its
	// distance from the cursor.
	row, slack int
	// The real column is in [col, colMax].
	col, colMax int
	wrap        bool // a letter went into the last column: the next one begins a line, unless wrapping is off
	pen         pen
	penKnown    bool
	g0, g1      byte // character sets, as designated; 'B' is ASCII
	shifted     bool // g1 is in use
	origin      bool
	valid       bool // of a saved place: it was saved at all
}

// model is what we know of the terminal. It draws nothing.
type model struct {
	place
	cols, rows  int
	lines       []line // of the screen in use
	main, alt   []line
	onAlt       bool
	saved       [2]place // by DECSC, of the main and the alternate screen
	entered     place    // by 1049, of the main screen
	top, bottom int      // scroll region, inclusive

	noWrap, insert   bool
	reverseWrap      bool
	customTabs, link bool
	broken           bool // beyond our understanding until the terminal is reset
	printed          bool // the last thing was a letter, which REP and accents refer to
	last             rune // that letter
	title            []byte
	titleKnown       bool
	clearings        int // counts switches and erasures of the screen, which end every epoch
}

// newModel describes a terminal of which only the size is known, and that the
// cursor stands at the beginning of some line, as a shell leaves it.
func newModel(cols, rows int) *model {
	m := &model{}
	m.place = place{penKnown: true, g0: 'B', g1: 'B'}
	m.resize(cols, rows)
	m.col, m.colMax = 0, 0
	return m
}

// resize forgets the contents: terminals wrap their lines anew.
func (m *model) resize(cols, rows int) {
	if cols < 2 || rows < 1 || cols > maxCols || rows > maxRows {
		m.broken = true
		cols, rows = 2, 1
	}
	m.cols, m.rows = cols, rows
	m.main, m.alt = grid(cols, rows), grid(cols, rows)
	m.lines = m.main
	if m.onAlt {
		m.lines = m.alt
	}
	m.saved, m.entered = [2]place{}, place{}
	m.top, m.bottom = 0, rows-1
	m.lose()
}

func grid(cols, rows int) []line {
	cells := make([]cell, cols*rows)
	g := make([]line, rows)
	for i := range g {
		g[i] = cells[i*cols : (i+1)*cols : (i+1)*cols]
	}
	return g
}

// eraseBelow notes that we erased the screen from a cursor at the beginning of
// its line downwards.
func (m *model) eraseBelow() {
	for _, l := range m.lines[m.row:] {
		l.fill(0, m.cols, cell{kind: erased})
	}
}

// lose gives up what is on the screen and where the cursor is.
func (m *model) lose() {
	m.forget()
	m.row, m.slack = 0, m.rows-1
	m.loseColumn()
}

// distrust is lose for bytes that may have changed anything else, too.
func (m *model) distrust() {
	m.lose()
	m.penKnown = false
	m.printed = false
}

// forget gives up the contents of the screen in use.
func (m *model) forget() {
	for _, l := range m.lines {
		l.fill(0, m.cols, cell{})
	}
}

func (m *model) loseColumn() { m.col, m.colMax, m.wrap = 0, m.cols-1, false }

// columnKnown reports that the cursor's column is certain.
func (m *model) columnKnown() bool { return m.col == m.colMax }

// rowKnown reports that the cursor's row is certain.
func (m *model) rowKnown() bool { return m.slack == 0 }

// fullRegion reports that the scroll region is the screen.
func (m *model) fullRegion() bool { return m.top == 0 && m.bottom == m.rows-1 }

// line is the cursor's line.
func (m *model) line() line { return m.lines[m.row] }

// settle is called by what terminals do in two ways while a line is full and the
// next letter has not begun another: some count the cursor beyond the line.
func (m *model) settle() {
	if m.wrap {
		m.line().fill(0, m.cols, cell{})
		m.loseColumn()
	}
}

// blank is a cell as erasing leaves it now.
func (m *model) blank() cell {
	if m.penKnown && m.pen == (pen{}) && !m.link {
		return cell{kind: erased}
	}
	return cell{} // terminals differ in whether colours come along
}

// plain reports that letters appear as they are written.
func (m *model) plain() bool {
	return m.penKnown && !m.link && (!m.shifted && m.g0 == 'B' || m.shifted && m.g1 == 'B')
}

// letter is the cell that printing r leaves.
func (m *model) letter(r rune) cell {
	if !m.plain() {
		return cell{}
	}
	return cell{r: r, pen: m.pen, kind: text}
}

// printASCII prints letters of one cell each.
func (m *model) printASCII(p []byte) {
	if m.broken {
		return
	}
	m.printed, m.last = true, rune(p[len(p)-1])
	if !m.columnKnown() || m.insert || m.noWrap {
		for _, b := range p {
			m.put(rune(b), 1)
		}
		return
	}
	c := m.letter(0)
	for len(p) > 0 {
		if m.wrap {
			m.wrapLine()
		}
		n := min(len(p), m.cols-m.col)
		l := m.line()
		l.split(m.col, m.col+n)
		cells := l[m.col : m.col+n]
		for i, b := range p[:n] {
			c.r = rune(b)
			cells[i] = c
		}
		if c.kind == unknown {
			l.fill(m.col, m.col+n, cell{})
		}
		m.advance(n)
		p = p[n:]
	}
}

// print prints any letter.
func (m *model) print(r rune) {
	if m.broken {
		return
	}
	switch w := cellsOf(r); w {
	case 0:
		m.combine()
		m.printed = true
	case doubtful:
		m.doubt()
	default:
		m.printed, m.last = true, r
		m.put(r, w)
	}
}

// combine joins a character to the letter before the cursor, which we then
// could no longer put back.
func (m *model) combine() {
	if !m.columnKnown() || m.col == 0 {
		m.doubt()
		return
	}
	at := m.col - 1
	if m.wrap {
		at = m.col
	}
	l := m.line()
	l.split(at, at+1)
	l[at] = cell{}
	m.last = 0 // what REP would repeat now differs
}

// doubt is something printed that takes none, one or two cells.
func (m *model) doubt() {
	m.printed = false
	if m.wrap || m.colMax+2 >= m.cols {
		m.maybeWrapped()
		return
	}
	m.line().fill(max(0, m.col-1), m.cols, cell{})
	m.colMax += 2
}

// maybeWrapped is a letter after which the cursor is in this line or the next.
func (m *model) maybeWrapped() {
	m.forget()
	m.slack = min(m.slack+1, m.rows-1-m.row)
	m.loseColumn()
}

// put prints a letter of w cells.
func (m *model) put(r rune, w int) {
	if !m.columnKnown() {
		m.putSomewhere(w)
		return
	}
	if m.noWrap && (m.wrap || m.col+w > m.cols) { // into the last column, over and over
		m.line().fill(m.cols-2, m.cols, cell{})
		m.col, m.colMax, m.wrap = m.cols-1, m.cols-1, true
		return
	}
	switch {
	case m.wrap:
		m.wrapLine()
	case m.col+w > m.cols: // half a wide letter does not fit
		m.line()[m.col] = cell{}
		m.wrapLine()
	}
	l := m.line()
	if m.insert {
		m.shift(w)
	}
	l.split(m.col, m.col+w)
	c := m.letter(r)
	l[m.col] = c
	if w == 2 {
		l[m.col+1] = cell{}
		if c.kind == text {
			l[m.col].kind = wide
			l[m.col+1] = cell{r: r, pen: c.pen, kind: tail}
		}
	}
	m.advance(w)
}

// putSomewhere prints a letter of w cells at a column that we do not know.
func (m *model) putSomewhere(w int) {
	if m.colMax+w >= m.cols {
		m.maybeWrapped()
		return
	}
	l := m.line()
	if m.insert {
		l.fill(m.col, m.cols, cell{})
	}
	l.split(m.col, m.colMax+w)
	l.fill(m.col, m.colMax+w, cell{})
	m.col, m.colMax = m.col+w, m.colMax+w
}

func (m *model) advance(n int) {
	m.col += n
	if m.col >= m.cols {
		m.col, m.wrap = m.cols-1, true
	}
	m.colMax = m.col
}

func (m *model) wrapLine() {
	m.wrap = false
	m.index()
	m.col, m.colMax = 0, 0
}

// carriageReturn is where certainty about the column comes from.
func (m *model) carriageReturn() { m.col, m.colMax, m.wrap = 0, 0, false }

// index moves the cursor down and scrolls at the end of the region.
func (m *model) index() {
	switch last := m.row + m.slack; {
	case m.rowKnown() && m.row == m.bottom:
		m.scrollUp(m.top, m.bottom, 1)
	case m.rowKnown():
		m.row = min(m.row+1, m.rows-1)
	case !m.fullRegion():
		m.forget()
		m.slack = min(m.slack+1, m.rows-1-m.row)
	case last < m.rows-1:
		m.row++
	default: // down, or scrolled: the new line is either below or erased
		m.row++
		m.slack--
		if l := m.line(); !l.allErased() || m.blank().kind != erased {
			l.fill(0, m.cols, cell{})
		}
	}
}

// reverseIndex moves the cursor up and scrolls at the top of the region.
func (m *model) reverseIndex() {
	switch {
	case m.rowKnown() && m.row == m.top:
		m.scrollDown(m.top, m.bottom, 1)
	case m.rowKnown():
		m.row = max(m.row-1, 0)
	case m.fullRegion() && m.row > 0:
		m.row--
	default:
		m.forget()
		last := m.row + m.slack
		m.row = max(m.row-1, 0)
		m.slack = last - m.row
	}
}

func (m *model) scrollUp(top, bottom, n int) {
	n = min(n, bottom-top+1)
	m.rotate(top, bottom, n)
	for i := bottom - n + 1; i <= bottom; i++ {
		m.lines[i].fill(0, m.cols, m.blank())
	}
}

func (m *model) scrollDown(top, bottom, n int) {
	n = min(n, bottom-top+1)
	m.rotate(top, bottom, bottom-top+1-n)
	for i := top; i < top+n; i++ {
		m.lines[i].fill(0, m.cols, m.blank())
	}
}

// rotate moves the lines from top to bottom up by n.
func (m *model) rotate(top, bottom, n int) {
	l := m.lines[top : bottom+1]
	if n == 1 { // a line feed: the case that output consists of
		first := l[0]
		copy(l, l[1:])
		l[len(l)-1] = first
		return
	}
	moved := append(append(make([]line, 0, len(l)), l[n:]...), l[:n]...)
	copy(l, moved)
}
