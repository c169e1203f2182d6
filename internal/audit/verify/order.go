package verify

import (
	"slices"

	"github.com/tucdesk/tucdesk/internal/audit/finding"
)

// maxNumber bounds the numbers of a hostile export, so that sums of a report's findings
// stay numbers; our choice.
const maxNumber = 1 << 50

func bounded(n int64) int64 { return min(max(n, -maxNumber), maxNumber) }

// order follows numbers that count up by one, and remembers which were missed, so that
// one that comes late is told from one that comes twice. After a hole it goes on from
// where the numbers are: one missing entry is one finding.
type order struct {
	next  int64 // the number that comes next
	at    int64 // the entry that had the one before; -1 for none
	holes []hole
}

// hole is numbers from one to another that were missed, as finding said, which is 1 and
// its index.
type hole struct {
	from, to int64
	finding  int
}

func countFrom(n int64) order { return order{next: n, at: -1} }

// take takes the number of an entry. What is wrong with it is in the trace, which is
// zero when it is the next one; found is 1 and the index of the finding that would tell
// of it, or 0.
func (o *order) take(n, entry int64, found int) finding.Trace {
	if n < o.next {
		for i := range o.holes {
			if h := o.holes[i]; h.from <= n && n <= h.to {
				o.holes = slices.Replace(o.holes, i, i+1, without(h, n)...)
				o.holes = o.holes[:min(len(o.holes), MaxFindings)] // each that comes late can make one more
				return finding.Trace{Fills: h.finding}
			}
		}
		return finding.Trace{Again: true}
	}
	var t finding.Trace
	if missing := n - o.next; missing > 0 {
		t = finding.Trace{Missing: missing, After: o.at, First: o.next}
		if found > 0 { // so there are no more holes than findings
			o.holes = append(o.holes, hole{o.next, n - 1, found})
		}
	}
	o.next, o.at = n+1, entry
	return t
}

// without is what is left of a hole.
func without(h hole, n int64) (rest []hole) {
	if h.from < n {
		rest = append(rest, hole{h.from, n - 1, h.finding})
	}
	if n < h.to {
		rest = append(rest, hole{n + 1, h.to, h.finding})
	}
	return rest
}

// number checks the number of an entry's line, which nobody signed.
func (v *verifier) number(index int64, n *int64) {
	f := finding.Finding{Entry: index, Last: index, Code: finding.BadOrder, Detail: "the line's number is not the next one"}
	if n == nil {
		f.Detail = "the line has no number"
		v.numbers.next, v.numbers.at = v.numbers.next+1, index
		v.add(f)
		return
	}
	if f.Trace = v.numbers.take(bounded(*n), index, v.foundNext()); f.Trace != (finding.Trace{}) {
		v.add(f)
	}
}
