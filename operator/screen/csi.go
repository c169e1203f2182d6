package screen

// csi acts on a control sequence: its bytes between the bracket and the final
// byte, and the final byte.
func (m *model) csi(p []byte, final byte) {
	if m.broken {
		return
	}
	var room [16]arg
	prefix, args, mid, ok := parseParams(room[:], p)
	repeat := m.printed
	m.printed = false
	switch {
	case !ok:
		m.distrust()
	case len(mid) > 0:
		m.csiMid(prefix, args, mid, final)
	case prefix == '?':
		m.csiPrivate(args, final)
	case prefix != 0:
		if final != 'm' && final != 'c' && final != 'q' && final != 'u' && final != 'n' { // keyboards and questions
			m.distrust()
		}
	case final == 'm':
		known, reset := m.pen.sgr(args)
		m.penKnown = known && (m.penKnown || reset)
	case final == 'b' && repeat:
		m.repeat(number(args, 0, 1))
	case final == 'h' || final == 'l':
		for _, a := range args {
			m.mode(a.or(0), final == 'h')
		}
	case !m.move(args, final) && !m.edit(args, final):
		m.csiRest(args, final)
	}
}

// number is a parameter that counts: zero and none mean the default.
func number(args []arg, i, missing int) int {
	if i >= len(args) || args[i].value <= 0 {
		return missing
	}
	return args[i].value
}

// repeat is REP. Terminals agree on it for ASCII and within the line.
func (m *model) repeat(n int) {
	if m.last < ' ' || m.last >= del || !m.columnKnown() || m.wrap || m.col+n >= m.cols {
		m.lose()
		return
	}
	for range n {
		m.put(m.last, 1)
	}
}

// move acts on what moves the cursor.
func (m *model) move(args []arg, final byte) bool {
	n := number(args, 0, 1)
	switch final {
	case 'A', 'B', 'E', 'F':
		m.stay()
		m.vertical(n, final == 'A' || final == 'F')
		if final == 'E' || final == 'F' {
			m.carriageReturn()
		}
	case 'C', 'a':
		m.stay()
		m.col, m.colMax = min(m.col+n, m.cols-1), min(m.colMax+n, m.cols-1)
	case 'D':
		if m.stay(); m.reverseWrap && n > m.col {
			m.lose()
			break
		}
		m.col, m.colMax = max(m.col-n, 0), max(m.colMax-n, 0)
	case 'G', '`':
		m.column(n)
	case 'd':
		m.stay()
		m.toRow(n)
	case 'H', 'f':
		m.toRow(n)
		m.column(number(args, 1, 1))
	case 'I':
		m.tab(n)
	case 'Z':
		m.backTab(n)
	default:
		return false
	}
	return true
}

// stay is for moves from a full line: the cursor is in its last column or
// beyond, depending on the terminal.
func (m *model) stay() {
	if m.wrap {
		m.loseColumn()
	}
}

func (m *model) column(n int) {
	m.col = min(n, m.cols) - 1
	m.colMax, m.wrap = m.col, false
}

// toRow puts the cursor into row n from 1: from here on we know the row, and
// only now whether what we know of the lines is at its place.
func (m *model) toRow(n int) {
	if !m.rowKnown() {
		for _, l := range m.lines {
			if !l.allErased() {
				m.forget()
				break
			}
		}
	}
	m.slack = 0
	m.row = min(n, m.rows) - 1
	if m.origin {
		m.row = min(m.top+n-1, m.bottom)
	}
}

// vertical moves up or down without scrolling.
func (m *model) vertical(n int, up bool) {
	first, last := m.row, m.row+m.slack
	if !m.rowKnown() && !m.fullRegion() {
		m.forget()
		m.row, m.slack = 0, m.rows-1
		return
	}
	floor, ceiling := 0, m.rows-1
	if m.row >= m.top {
		floor = m.top
	}
	if m.row <= m.bottom {
		ceiling = m.bottom
	}
	if up {
		n = -n
	}
	if !m.rowKnown() && (first+n < floor || last+n > ceiling) {
		m.forget() // it may have stopped at the border, and we do not know how early
	}
	first, last = min(max(first+n, floor), ceiling), min(max(last+n, floor), ceiling)
	m.row, m.slack = first, last-first
}

// edit acts on what erases, inserts and deletes.
func (m *model) edit(args []arg, final byte) bool {
	n := number(args, 0, 1)
	switch final {
	case 'J', 'K':
		what := 0
		if len(args) > 0 {
			what = args[0].or(0)
		}
		if final == 'J' {
			m.eraseScreen(what)
		} else {
			m.eraseLine(what)
		}
	case 'X':
		if m.certain() {
			m.erase(m.col, min(m.col+n, m.cols))
		}
	case '@':
		if m.certain() {
			m.shift(n)
		}
	case 'P':
		if m.certain() {
			m.pull(n)
		}
	case 'L', 'M':
		m.editLines(n, final == 'L')
	case 'S', 'T':
		m.scroll(args, final == 'S')
	default:
		return false
	}
	return true
}

// certain reports that the cursor's cell is known, and forgets the line if not.
func (m *model) certain() bool {
	m.settle()
	if m.columnKnown() {
		return true
	}
	m.line().fill(0, m.cols, cell{})
	return false
}

func (m *model) erase(from, to int) {
	l := m.line()
	l.split(from, to)
	l.fill(from, to, m.blank())
}

func (m *model) eraseLine(what int) {
	switch {
	case what == 2:
		m.settle()
		m.line().fill(0, m.cols, m.blank())
	case what > 2:
		m.distrust()
	case !m.certain():
	case what == 0:
		m.erase(m.col, m.cols)
	default:
		m.erase(0, m.col+1)
	}
}

func (m *model) eraseScreen(what int) {
	from, to := 0, m.rows
	switch what {
	case 0:
		from = m.row + 1
		m.eraseLine(0)
	case 1:
		to = m.row
		m.eraseLine(1)
	case 2:
		m.settle()
		m.clearings++
	case 3: // what has scrolled off
		return
	default:
		m.distrust()
		return
	}
	for _, l := range m.lines[from:to] {
		l.fill(0, m.cols, m.blank())
	}
}

// shift makes room for n cells at the cursor.
func (m *model) shift(n int) {
	l := m.line()
	n = min(n, m.cols-m.col)
	l.split(m.col, m.cols)
	if m.cols-n < m.cols && l[m.cols-n].kind == tail { // cut in two at the margin
		l[m.cols-n-1] = cell{}
	}
	copy(l[m.col+n:], l[m.col:m.cols-n])
	l.fill(m.col, m.col+n, m.blank())
}

// pull deletes n cells at the cursor.
func (m *model) pull(n int) {
	l := m.line()
	n = min(n, m.cols-m.col)
	l.split(m.col, m.col+n)
	copy(l[m.col:], l[m.col+n:])
	l.fill(m.cols-n, m.cols, m.blank())
}

func (m *model) editLines(n int, insert bool) {
	m.settle()
	switch {
	case !m.rowKnown():
		m.forget()
	case m.row < m.top || m.row > m.bottom:
		return
	case insert:
		m.scrollDown(m.row, m.bottom, n)
	default:
		m.scrollUp(m.row, m.bottom, n)
	}
	if m.col != 0 || m.colMax != 0 { // some return the carriage
		m.loseColumn()
	}
}

func (m *model) scroll(args []arg, up bool) {
	switch {
	case len(args) > 1:
		m.distrust() // mouse tracking of old
	case !m.rowKnown():
		m.forget()
	case up:
		m.scrollUp(m.top, m.bottom, number(args, 0, 1))
	default:
		m.scrollDown(m.top, m.bottom, number(args, 0, 1))
	}
}

// csiRest acts on the sequences that neither move nor edit.
func (m *model) csiRest(args []arg, final byte) {
	switch final {
	case 'r':
		top, bottom := number(args, 0, 1), min(number(args, 1, m.rows), m.rows)
		if top >= bottom {
			m.distrust()
			return
		}
		m.top, m.bottom = top-1, bottom-1
		m.toRow(1)
		m.column(1)
	case 's':
		m.save()
	case 'u':
		m.restore(m.saved[m.screen()])
	case 'g':
		m.customTabs = true
	case 'c', 'n', 'q', 'x':
	case 't':
		if k := number(args, 0, 0); k < 11 {
			m.distrust() // moves and sizes the window
		}
	default:
		m.distrust()
	}
}

// csiMid acts on sequences with an intermediate byte.
func (m *model) csiMid(prefix byte, args []arg, mid []byte, final byte) {
	switch {
	case string(mid) == " " && final == 'q' && prefix == 0: // the cursor's shape
	case string(mid) == "$" && final == 'p': // a question about a mode
	case string(mid) == "!" && final == 'p' && prefix == 0:
		m.softReset()
	default:
		m.distrust()
	}
}

// softReset is DECSTR. Terminals differ in what they reset: what is not as they
// start stays unknown.
func (m *model) softReset() {
	m.distrust()
	m.saved = [2]place{}
	m.broken = m.insert || m.origin || m.noWrap || !m.fullRegion()
}

// mode sets or resets an ANSI mode.
func (m *model) mode(n int, on bool) {
	switch n {
	case 4:
		m.insert = on
	case 2, 12:
	case 20:
		if on {
			m.broken = true
		}
	default:
		m.distrust()
	}
}

func (m *model) csiPrivate(args []arg, final byte) {
	switch final {
	case 'h', 'l':
		for _, a := range args {
			m.privateMode(a.or(0), final == 'h')
		}
	case 'c', 'n', 'u', 'm':
	default: // selective erasing, saved modes, what is to come
		m.distrust()
	}
}

func (m *model) privateMode(n int, on bool) {
	switch n {
	case 6:
		m.origin = on
		m.toRow(1)
		m.column(1)
	case 7:
		m.noWrap = !on
		m.stay()
	case 45, 1045:
		m.reverseWrap = on
	case 47, 1047, 1049:
		m.switchScreen(on, n)
	case 1048:
		if on {
			m.save()
		} else {
			m.restore(m.saved[m.screen()])
		}
	case 69:
		m.broken = m.broken || on // margins at the sides
	// Keys, colours of the whole screen, the cursor's look, the mouse, pasting,
	// output in one piece: nothing of it moves or draws.
	case 1, 4, 5, 8, 9, 12, 13, 25, 40, 66, 67, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1016, 1034, 1035, 1036, 1039, 1042, 1070, 2004, 2026, 2027, 2031, 2048:
	default:
		m.distrust()
	}
}
