package kept

import (
	"bytes"
	"slices"
	"strconv"
)

// maxModes bounds how many private modes are remembered; our choice, above what
// terminals have.
const maxModes = 64

// modes follows which private modes of the terminal (DECSET) are on. The zero value
// is a terminal that was just switched on.
type modes struct {
	scanner
	on  []int // in the order in which they were set
	off []int // those that are on by themselves and were reset
}

func (m *modes) clone() modes {
	return modes{scanner: m.scanner.clone(), on: slices.Clone(m.on), off: slices.Clone(m.off)}
}

// scan takes output.
func (m *modes) scan(b []byte) {
	for _, c := range b {
		if done, _ := m.step(c); done && !m.long {
			m.sequence(m.seq)
		}
	}
}

// sequence looks at one whole sequence.
func (m *modes) sequence(seq []byte) {
	body, ok := bytes.CutPrefix(seq, []byte("\x1b[?"))
	if bytes.Equal(seq, []byte("\x1bc")) || bytes.Equal(seq, []byte("\x1b[!p")) {
		m.on, m.off = nil, nil // reset
		return
	}
	if !ok || len(body) < 2 {
		return
	}
	last := body[len(body)-1]
	if last != 'h' && last != 'l' {
		return
	}
	for part := range bytes.SplitSeq(body[:len(body)-1], []byte(";")) {
		if n, err := strconv.Atoi(string(part)); err == nil && n > 0 && n < 1<<16 {
			m.set(n, last == 'h')
		}
	}
}

// presets are the modes that a terminal begins with: autowrap and a cursor that is
// seen.
var presets = [...]int{7, 25}

func (m *modes) set(n int, on bool) {
	list := &m.on
	if slices.Contains(presets[:], n) {
		list, on = &m.off, !on
	}
	*list = slices.DeleteFunc(*list, func(have int) bool { return have == n })
	if on && len(*list) < maxModes {
		*list = append(*list, n)
	}
}

// restore appends what brings a fresh terminal into these modes.
func (m *modes) restore(out []byte) []byte {
	for _, n := range m.on {
		out = append(strconv.AppendInt(append(out, "\x1b[?"...), int64(n), 10), 'h')
	}
	for _, n := range m.off {
		out = append(strconv.AppendInt(append(out, "\x1b[?"...), int64(n), 10), 'l')
	}
	return out
}

// alternate reports whether the second screen is on.
func (m *modes) alternate() bool {
	return slices.ContainsFunc(m.on, func(n int) bool { return n == 47 || n == 1047 || n == 1049 })
}
