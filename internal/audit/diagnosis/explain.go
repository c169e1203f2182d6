package diagnosis

import (
	"cmp"
	"slices"

	"github.com/tucdesk/tucdesk/internal/audit/finding"
)

// diagnosis looks for causes, the surest evidence first.
type diagnosis struct {
	list    []finding.Finding
	size    int64
	covered int64
	taken   []bool // findings that a cause has
	causes  []*Cause
}

// add makes a cause of one finding.
func (d *diagnosis) add(i int, c Cause) *Cause {
	c.left, c.Findings = c.count, []int{}
	d.causes = append(d.causes, &c)
	d.attach(i, &c)
	return &c
}

// attach gives a finding to a cause, unless another has it.
func (d *diagnosis) attach(i int, c *Cause) {
	if !d.taken[i] {
		d.taken[i] = true
		c.Findings = append(c.Findings, i)
	}
}

// first is the first cause that matches, nil without one.
func (d *diagnosis) first(match func(*Cause) bool) *Cause {
	if i := slices.IndexFunc(d.causes, match); i >= 0 {
		return d.causes[i]
	}
	return nil
}

// any reports whether a finding matches.
func (d *diagnosis) any(match func(finding.Finding) bool) bool {
	return slices.ContainsFunc(d.list, match)
}

// heads looks at what the head lacks: of what cannot be judged without it nothing else
// can be said.
func (d *diagnosis) heads() {
	for i, f := range d.list {
		if !f.Trace.Head {
			continue
		}
		c := d.add(i, Cause{Kind: Kind(f.Code), Entry: f.Entry, Last: f.Last, Detail: f.Detail, head: true, at: f.Entry, until: f.Last})
		for j, g := range d.list {
			if g.Trace.Without == i+1 {
				d.attach(j, c)
			}
		}
	}
}

// fillers are the findings about entries that were missed by finding i and came later,
// with the last place of one.
func (d *diagnosis) fillers(i int) (list []int, last int64) {
	for j, f := range d.list {
		if f.Trace.Fills == i+1 {
			list, last = append(list, j), max(last, f.Entry)
		}
	}
	return list, last
}

// numbers looks at the numbers of the lines, which say exactly where something is
// missing and are not signed: they count only beside what is.
func (d *diagnosis) numbers() {
	lost := d.any(func(f finding.Finding) bool {
		return f.Code == finding.ChainGap || f.Code == finding.HeadMissing || f.Trace.Short > 0
	})
	moved := d.any(func(f finding.Finding) bool {
		return f.Code == finding.ChainGap || f.Code == finding.ChainFork || f.Code == finding.RootMismatch || f.Code == finding.NotCovered
	})
	for i, f := range d.list {
		if f.Code != finding.BadOrder || f.Trace.Missing == 0 {
			continue
		}
		fillers, last := d.fillers(i)
		if len(fillers) > 0 && moved {
			d.reordered(i, fillers, last)
		}
		if n := f.Trace.Missing - int64(len(fillers)); n > 0 && lost {
			d.add(i, Cause{Kind: WasDeleted, Entry: f.Trace.First, Last: f.Trace.First + f.Trace.Missing - 1, count: n,
				Detail: plural(n) + " missing here by the numbers of the lines", at: f.Entry, until: f.Entry})
		}
	}
}

// reordered says that those who were missed at finding i stand further down.
func (d *diagnosis) reordered(i int, fillers []int, last int64) {
	at := d.list[i].Trace.After + 1
	c := d.first(func(c *Cause) bool { return c.Kind == WasReordered && c.at <= last && at <= c.until })
	if c == nil {
		c = d.add(i, Cause{Kind: WasReordered, Entry: at, Last: last, Detail: "these are not in the order in which they were written", at: at, until: last})
	}
	d.attach(i, c)
	for _, j := range fillers {
		d.attach(j, c)
	}
}

// signers looks at the chains of the signers, each of whose entries names the one
// before.
func (d *diagnosis) signers() {
	for i, f := range d.list {
		if f.Code != finding.ChainGap {
			continue
		}
		fillers, last := d.fillers(i)
		if len(fillers) > 0 {
			d.reordered(i, fillers, last)
		}
		n := d.edited(i, f, f.Trace.Missing-int64(len(fillers)))
		for _, c := range d.causes {
			if n > 0 && c.Kind == WasDeleted && c.left > 0 && f.Trace.After < c.at && c.at <= f.Entry {
				known := min(n, c.left)
				n, c.left = n-known, c.left-known
				d.attach(i, c)
			}
		}
		if n > 0 {
			d.add(i, Cause{Kind: WasDeleted, Entry: f.Trace.After + 1, Last: f.Entry + n - 1, count: n,
				Detail: plural(n) + " of one signer missing here", at: f.Trace.After + 1, until: f.Entry}).left = 0
		}
	}
}

// edited looks for entries that a signer misses among those that nobody signed, and
// returns how many it still misses.
func (d *diagnosis) edited(gap int, f finding.Finding, missing int64) int64 {
	for i, u := range d.list {
		if missing > 0 && u.Trace.Unreadable && !d.taken[i] && f.Trace.After < u.Entry && u.Entry < f.Entry {
			c := d.edit(i)
			c.left = 0
			d.attach(gap, c)
			missing--
		}
	}
	return missing
}

func (d *diagnosis) edit(i int) *Cause {
	at := d.list[i].Entry
	return d.add(i, Cause{Kind: WasEdited, Entry: at, Last: at, Detail: "this is not what was signed", at: at, until: at, count: 1})
}

// twice looks at entries whose signer's number was there before.
func (d *diagnosis) twice() {
	for i, f := range d.list {
		if f.Code != finding.ChainFork || d.taken[i] {
			continue
		}
		copied := f.Trace.Again && d.any(func(g finding.Finding) bool { return g.Code == finding.DuplicateID && g.Entry == f.Entry })
		if f.Trace.Own {
			d.add(i, Cause{Kind: MachineForked, Entry: f.Entry, Last: f.Last, Detail: f.Detail, at: f.Entry, until: f.Entry})
		} else if copied {
			d.add(i, Cause{Kind: WasInserted, Entry: f.Entry, Last: f.Entry, Detail: "a copy of an entry that is in its place as well", at: f.Entry, until: f.Entry, count: 1})
		} else {
			d.add(i, Cause{Kind: WasForked, Entry: f.Entry, Last: f.Last, Detail: f.Detail, at: f.Entry, until: f.Entry})
		}
	}
}

// unreadable decides about what nobody signed and nobody misses: it was put in if there
// is more than there should be, and else it was the last entry of its signer.
func (d *diagnosis) unreadable() {
	surplus, promised := int64(0), false
	for _, f := range d.list {
		if f.Trace.Short != 0 && f.Trace.By != finding.ByMemory {
			surplus, promised = -f.Trace.Short, true
		}
	}
	for _, c := range d.causes {
		surplus += c.took()
	}
	open := !promised && d.any(func(f finding.Finding) bool { return f.Code == finding.NotCovered })
	for i, f := range d.list {
		if !f.Trace.Unreadable || d.taken[i] {
			continue
		}
		if surplus > 0 || open && f.Code == finding.BadSigner {
			d.add(i, Cause{Kind: WasInserted, Entry: f.Entry, Last: f.Entry, Detail: "nobody of the team signed this", at: f.Entry, until: f.Entry, count: 1})
			surplus--
		} else {
			d.edit(i)
		}
	}
}

// sizes compares how many entries were promised with what is explained so far.
func (d *diagnosis) sizes() {
	for i, f := range d.list {
		if f.Trace.Short == 0 {
			continue
		}
		at := f.Entry
		if f.Trace.Short < 0 {
			at++ // such a finding names the entry before
		}
		n := f.Trace.Short
		for _, c := range d.causes {
			if c.at <= at {
				n -= c.took()
			}
		}
		d.promise(i, f, at, n)
	}
	for i, f := range d.list {
		if f.Code == finding.Truncated && f.Trace.By == 0 { // there is no last line
			if c := d.first(func(c *Cause) bool { return c.Kind == WasTruncated }); c != nil {
				d.attach(i, c)
			} else {
				d.add(i, Cause{Kind: WasTruncated, Entry: f.Entry, Last: f.Last, Detail: f.Detail, at: f.Entry, until: f.Last})
			}
		}
	}
}

// promise explains one promise that n entries more, or fewer, were before at than we know
// of.
func (d *diagnosis) promise(i int, f finding.Finding, at, n int64) {
	moved := d.first(func(c *Cause) bool { return c.Kind == WasReordered && c.at <= at && at <= c.until })
	switch {
	case n == 0:
		if c := d.first(func(c *Cause) bool { return c.took() != 0 && c.at <= at }); c != nil {
			d.attach(i, c)
		}
	case moved != nil:
		d.attach(i, moved)
	case f.Trace.By == finding.ByCheckpoint && d.any(func(g finding.Finding) bool {
		return g.Code == finding.RootMismatch && g.Trace.By == finding.ByCheckpoint && g.Last >= at
	}):
		// As many as there should be are there later: see roots.
	case n > 0 && f.Trace.By == finding.ByCheckpoint && d.covered <= at:
		d.add(i, Cause{Kind: WasDeleted, Entry: d.covered, Last: at + n - 1, count: n,
			Detail: plural(n) + " missing here by the checkpoint behind", at: d.covered, until: at})
	case n > 0 && f.Trace.By != finding.ByCheckpoint:
		d.add(i, Cause{Kind: WasTruncated, Entry: d.size, Last: d.size + n - 1, count: n, Detail: plural(n) + " missing at the end", at: d.size, until: d.size})
	case n < 0 && f.Trace.By == finding.ByCheckpoint && d.covered < at:
		d.add(i, Cause{Kind: WasInserted, Entry: d.covered, Last: at - 1, count: -n,
			Detail: plural(-n) + " more here than the checkpoint behind has", at: d.covered, until: at - 1})
	}
}

// roots looks at checkpoints of as many entries, and of others.
func (d *diagnosis) roots() {
	for _, by := range []finding.Promise{finding.ByCheckpoint, finding.ByMemory} {
		for i, f := range d.list {
			if f.Code != finding.RootMismatch || f.Trace.By != by {
				continue
			}
			switch c := d.first(func(c *Cause) bool { return c.structural() && c.at <= f.Last+1 && f.Entry <= c.until }); {
			case c != nil:
				d.attach(i, c)
			case by == finding.ByMemory:
				d.add(i, Cause{Kind: WasForked, Entry: f.Entry, Last: f.Last, Detail: f.Detail, at: f.Entry, until: f.Last})
			case d.first(func(c *Cause) bool { return c.head && c.at >= 0 && c.at <= f.Last && f.Entry <= c.until }) != nil:
				d.add(i, Cause{Kind: Kind(f.Code), Entry: f.Entry, Last: f.Last, Detail: f.Detail, at: f.Entry, until: f.Last}) // one of those that cannot be checked, or not
			case d.covered <= f.Last:
				d.add(i, Cause{Kind: WasReordered, Entry: f.Entry, Last: f.Last, at: f.Entry, until: f.Last,
					Detail: "all of these are signed and no signer misses one: they changed places, or the server signed two logs"})
			}
		}
	}
}

// rest gives what is left to the cause that it follows from, or makes it one.
func (d *diagnosis) rest() {
	for i, f := range d.list {
		if d.taken[i] {
			continue
		}
		if c := d.first(func(c *Cause) bool { return follows(f, c) }); c != nil {
			d.attach(i, c)
			continue
		}
		kind := Kind(f.Code)
		if f.Code == finding.HeadMissing {
			kind = WasDeleted
		}
		d.add(i, Cause{Kind: kind, Entry: f.Entry, Last: f.Last, Detail: f.Detail, at: f.Entry, until: f.Last})
	}
}

// follows reports that a finding is what is to be expected after a cause.
func follows(f finding.Finding, c *Cause) bool {
	if !c.structural() {
		repeats := f.Code == finding.BadOrder || f.Code == finding.BadTile // each once, whatever the first one is about
		return repeats && c.Kind == Kind(f.Code)
	}
	switch f.Code {
	case finding.NotCovered, finding.BadTile:
		return true
	case finding.BadOrder, finding.BadSession:
		return c.at <= f.Entry
	case finding.HeadMissing:
		return c.left > 0 && (c.took() > 0 || c.Kind == WasEdited) || c.Kind == WasTruncated
	case finding.BadTime:
		return c.at-1 <= f.Entry && f.Entry <= c.until+1
	case finding.ApprovalMissing, finding.ApprovalInvalid: // what was put in stands between the approvals and their entry
		return c.covers(f.Entry) || c.Kind == WasInserted && c.covers(f.Entry-1)
	case finding.BadCheckpoint, finding.BadCosignature, finding.BadHost, finding.Outdated:
		return false
	}
	return c.covers(f.Entry)
}

// sorted puts what the head lacks first, then what was done to the log, in its order.
func (d *diagnosis) sorted() []Cause {
	slices.SortStableFunc(d.causes, func(a, b *Cause) int {
		if a.head != b.head {
			if a.head {
				return -1
			}
			return 1
		}
		if a.structural() != b.structural() {
			if a.structural() {
				return -1
			}
			return 1
		}
		if !a.structural() {
			return 0
		}
		return cmp.Compare(uint64(a.at), uint64(b.at)) // -1, no entry, comes last
	})
	list := make([]Cause, 0, len(d.causes))
	for _, c := range d.causes {
		slices.Sort(c.Findings)
		list = append(list, *c)
	}
	return list
}
