package screen

import "bytes"

// control acts on a control character.
func (m *model) control(b byte) {
	if m.broken {
		return
	}
	m.printed = false
	switch b {
	case '\b':
		m.backspace()
	case '\t':
		m.tab(1)
	case '\n', '\v', '\f':
		full := m.wrap
		m.wrap = false
		m.index()
		if full { // some still begin another line with the next letter
			m.loseColumn()
		}
	case '\r':
		m.carriageReturn()
	case 0x0e:
		m.shifted = true
	case 0x0f:
		m.shifted = false
	case sub:
		m.doubt() // some show a mark
	}
}

func (m *model) backspace() {
	switch {
	case m.wrap: // to the last letter or the one before it
		m.col, m.colMax, m.wrap = m.cols-2, m.cols-1, false
	case m.col == 0: // some go up into a line that was wrapped
		m.lose()
	default:
		m.col, m.colMax = m.col-1, m.colMax-1
	}
}

// tabWidth is what every terminal starts with.
const tabWidth = 8

func (m *model) tab(n int) {
	if m.customTabs || m.wrap || !m.columnKnown() {
		m.loseColumn()
		return
	}
	m.col = min((m.col/tabWidth+min(n, m.cols))*tabWidth, m.cols-1)
	m.colMax = m.col
}

func (m *model) backTab(n int) {
	if m.customTabs || m.wrap || !m.columnKnown() {
		m.loseColumn()
		return
	}
	m.col = max(0, ((m.col+tabWidth-1)/tabWidth-min(n, m.cols))*tabWidth)
	m.colMax = m.col
}

// escape acts on ESC and one byte.
func (m *model) escape(b byte) {
	if b == 'c' {
		m.reset()
		return
	}
	if m.broken {
		return
	}
	m.printed = false
	switch b {
	case '7':
		m.save()
	case '8':
		m.restore(m.saved[m.screen()])
	case 'D', 'E':
		m.settle()
		m.index()
		if b == 'E' {
			m.carriageReturn()
		}
	case 'M':
		m.settle()
		m.reverseIndex()
	case 'H':
		m.customTabs = true
	case '=', '>', '\\', 'Z':
	default: // single shifts, titles of old, what is to come
		m.distrust()
	}
}

// escapeMid acts on ESC, an intermediate and a final byte.
func (m *model) escapeMid(mid, b byte) {
	m.printed = false
	switch {
	case mid == '(':
		m.g0 = b
	case mid == ')':
		m.g1 = b
	case mid == '*' || mid == '+' || mid == '%' && b == 'G' || mid == ' ' && (b == 'F' || b == 'G'):
	case mid == '#': // lines of double width, or a screen full of E
		m.broken = true
	default:
		m.distrust()
	}
}

// reset is RIS: whatever was, this is a new terminal, erased.
func (m *model) reset() {
	cols, rows := m.cols, m.rows
	title, known := m.title, m.titleKnown
	clearings := m.clearings + 1
	*m = *newModel(cols, rows)
	if m.broken = cols <= 2 && rows == 1; m.broken {
		return
	}
	m.title, m.titleKnown, m.clearings = title, known, clearings
	m.slack = 0
	m.eraseBelow()
}

// screen is the index of the screen in use.
func (m *model) screen() int {
	if m.onAlt {
		return 1
	}
	return 0
}

func (m *model) save() {
	m.saved[m.screen()] = m.place
	m.saved[m.screen()].valid = true
}

// restore puts back a place saved on the screen in use.
func (m *model) restore(p place) {
	if !p.valid {
		m.distrust()
		return
	}
	slack := m.slack
	m.place = p
	if p.wrap { // some restore this, some do not
		m.loseColumn()
	}
	if p.slack != slack { // the lines have moved against the place
		m.forget()
		m.row, m.slack = 0, m.rows-1
	}
}

// switchScreen changes to the alternate screen or back, by the mode that asks.
func (m *model) switchScreen(on bool, mode int) {
	m.clearings++
	if on == m.onAlt { // some clear, some restore, some do nothing
		m.forget()
		m.distrust()
		return
	}
	m.onAlt = on
	if on {
		m.lines = m.alt
		m.forget()
		if mode == 1049 {
			m.entered = m.place
			m.entered.valid = true
			for _, l := range m.lines {
				l.fill(0, m.cols, m.blank())
			}
			return
		}
		m.entered = place{slack: m.slack}
		return
	}
	m.lines = m.main
	if mode == 1049 {
		m.slack = m.entered.slack
		m.restore(m.entered)
		return
	}
	if m.entered.slack != 0 || m.slack != 0 {
		m.forget()
	}
}

// str acts on a string sequence.
func (m *model) str(kind byte, p []byte, cut bool) {
	if m.broken {
		return
	}
	m.printed = false
	if kind != ']' {
		if kind == 'P' && !bytes.HasPrefix(p, []byte("$q")) && !bytes.HasPrefix(p, []byte("+q")) {
			m.distrust() // pictures, keys, and what terminals pass on to others
		}
		return
	}
	name, value, _ := bytes.Cut(p, []byte(";"))
	switch string(name) {
	case "0", "2":
		m.title, m.titleKnown = append(m.title[:0], value...), !cut
	case "8":
		i := bytes.IndexByte(value, ';')
		m.link = cut || i < 0 || i+1 < len(value)
	case "1337":
		if bytes.HasPrefix(value, []byte("File")) || bytes.HasPrefix(value, []byte("MultipartFile")) || cut {
			m.distrust()
		}
	case "1", "4", "7", "9", "10", "11", "12", "17", "19", "22", "52", "104", "110", "111", "112", "117", "119", "133", "633", "777", "99":
	default:
		m.distrust()
	}
}
