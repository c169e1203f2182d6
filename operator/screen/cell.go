package screen

// kind says what we know of a cell. The zero kind is that we know nothing: it
// may not be drawn over.
type kind uint8

const (
	unknown kind = iota
	erased       // never written since it was erased with the default pen
	text         // one letter
	wide         // the first half of a letter of two cells
	tail         // the second half
)

type cell struct {
	r    rune
	pen  pen
	kind kind
}

// same reports whether two cells show the same letter. Colours are no part of
// it: shells that colour what one types would never confirm a prediction.
func (c cell) same(d cell) bool {
	if c.kind == unknown || d.kind == unknown {
		return false
	}
	return c.letter() == d.letter() && (c.kind == tail) == (d.kind == tail)
}

func (c cell) letter() rune {
	if c.kind == erased {
		return ' '
	}
	return c.r
}

// line is one row of cells. Its first cell's address is its identity while the
// screen scrolls.
type line []cell

func (l line) fill(from, to int, c cell) {
	if l = l[from:to]; len(l) == 0 {
		return
	}
	l[0] = c
	for n := 1; n < len(l); n *= 2 { // one line feed fills a line: this is what bulk output costs
		copy(l[n:], l[:n])
	}
}

// split forgets the halves of wide letters that a change at the border of
// [from, to) cuts off: terminals differ in what they leave of them.
func (l line) split(from, to int) {
	if from > 0 && from < len(l) && l[from].kind == tail {
		l[from-1] = cell{}
	}
	if to < len(l) && l[to].kind == tail {
		l[to] = cell{}
	}
}

func (l line) allErased() bool {
	for i := range l {
		if l[i].kind != erased {
			return false
		}
	}
	return true
}

func (l line) known(from, to int) bool {
	for _, c := range l[from:to] {
		if c.kind == unknown {
			return false
		}
	}
	return true
}
