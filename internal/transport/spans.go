package transport

import "slices"

// spans is a set of numbers: ascending spans that neither meet nor overlap.
type spans []span

// find is the index of the first span that ends at lo or later.
func (s spans) find(lo uint64) int {
	if n := len(s); n == 0 || s[n-1].hi < lo {
		return n // the usual case: something new
	}
	i, _ := slices.BinarySearchFunc(s, lo, func(x span, lo uint64) int {
		if x.hi < lo {
			return -1
		}
		return 1
	})
	return i
}

// add puts x into the set.
func (s *spans) add(x span) {
	if x.lo >= x.hi {
		return
	}
	i := s.find(x.lo)
	j := i
	for ; j < len(*s) && (*s)[j].lo <= x.hi; j++ {
		x.lo, x.hi = min(x.lo, (*s)[j].lo), max(x.hi, (*s)[j].hi)
	}
	if i == j {
		*s = slices.Insert(*s, i, x)
		return
	}
	(*s)[i] = x
	*s = slices.Delete(*s, i+1, j)
}

// remove takes x out of the set.
func (s *spans) remove(x span) {
	if x.lo >= x.hi {
		return
	}
	for i := s.find(x.lo); i < len(*s) && (*s)[i].lo < x.hi; {
		old := (*s)[i]
		left, right := span{old.lo, min(old.hi, x.lo)}, span{max(old.lo, x.hi), old.hi}
		rest := append(make(spans, 0, 2), left, right)
		rest = slices.DeleteFunc(rest, func(y span) bool { return y.lo >= y.hi })
		*s = slices.Replace(*s, i, i+1, rest...)
		i += len(rest)
	}
}

// has reports whether v is in the set.
func (s spans) has(v uint64) bool {
	i := s.find(v + 1)
	return i < len(s) && s[i].lo <= v
}

// before drops everything below v.
func (s *spans) before(v uint64) {
	n := 0
	for n < len(*s) && (*s)[n].hi <= v {
		n++
	}
	*s = slices.Delete(*s, 0, n)
	if len(*s) > 0 && (*s)[0].lo < v {
		(*s)[0].lo = v
	}
}
