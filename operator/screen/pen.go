package screen

import "strconv"

// color is a colour as the program asked for it: its kind in the upper byte. 31
// and 38;5;1 stay different, since terminals brighten only the first with bold.
type color uint32

const (
	basicColor   color = 1 << 24 // 30 to 37 and 90 to 97: index 0 to 15
	indexedColor color = 2 << 24 // 38;5;n
	trueColor    color = 3 << 24 // 38;2;r;g;b
	colorKind    color = 0xff << 24
)

// Attributes of a pen, in the order of their SGR numbers.
const (
	bold uint16 = 1 << iota
	faint
	italic
	blink
	blinkFast
	reverse
	conceal
	strike
	overline
)

// pen is how letters are drawn. The zero pen is what SGR 0 sets.
type pen struct {
	attrs     uint16
	underline uint8 // 0 none, 1 to 5 the styles of SGR 4:n
	fg, bg    color
	under     color // of the underline
}

// switches are the SGR numbers that set and clear attributes.
var switches = [56]struct{ set, clear uint16 }{
	1: {bold, 0}, 2: {faint, 0}, 3: {italic, 0}, 5: {blink, 0}, 6: {blinkFast, 0}, 7: {reverse, 0}, 8: {conceal, 0}, 9: {strike, 0}, 53: {overline, 0},
	22: {0, bold | faint}, 23: {0, italic}, 25: {0, blink | blinkFast}, 27: {0, reverse}, 28: {0, conceal}, 29: {0, strike}, 55: {0, overline},
}

// sgr applies one SGR sequence. It reports false where we cannot say what the
// terminal makes of it; the pen is then unknown until the next SGR 0.
func (p *pen) sgr(args []arg) (known bool, reset bool) {
	if len(args) == 0 {
		*p = pen{}
		return true, true
	}
	known = true
	for len(args) > 0 {
		n := 1
		for n < len(args) && args[n].sub {
			n++
		}
		used := 1
		switch v := args[0].or(0); {
		case v == 0 && n == 1:
			*p = pen{}
			known, reset = true, true
		case v == 38 || v == 48 || v == 58:
			var ok bool
			if used, ok = p.sgrColor(args, n); !ok {
				known = false
			}
		case v == 4 && n == 2 && args[1].or(1) <= 5:
			p.underline, used = uint8(args[1].or(1)), 2
		case n > 1:
			known, used = false, n
		default:
			known = p.sgrOne(v) && known
		}
		args = args[used:]
	}
	return known, reset
}

// sgrOne applies a number that stands alone.
func (p *pen) sgrOne(v int) bool {
	if v < len(switches) && switches[v].set|switches[v].clear != 0 {
		p.attrs = p.attrs&^switches[v].clear | switches[v].set
		return true
	}
	switch {
	case v == 4:
		p.underline = 1
	case v == 24:
		p.underline = 0
	case v == 39:
		p.fg = 0
	case v == 49:
		p.bg = 0
	case v == 59:
		p.under = 0
	case v >= 30 && v <= 37:
		p.fg = basicColor | color(v-30)
	case v >= 40 && v <= 47:
		p.bg = basicColor | color(v-40)
	case v >= 90 && v <= 97:
		p.fg = basicColor | color(v-90+8)
	case v >= 100 && v <= 107:
		p.bg = basicColor | color(v-100+8)
	default: // 21 is a double underline here and no bold there; fonts; what is to come
		return false
	}
	return true
}

// sgrColor reads 38, 48 or 58 in both forms. The first n of args belong together
// by colons.
func (p *pen) sgrColor(args []arg, n int) (used int, ok bool) {
	target := &p.under
	switch args[0].or(0) {
	case 38:
		target = &p.fg
	case 48:
		target = &p.bg
	}
	rest, colons := args[1:], n > 1
	if colons {
		rest = args[1:n]
	} else if target == &p.under {
		return len(args), false // terminals without it read the parts as attributes
	}
	switch {
	case len(rest) >= 2 && rest[0].or(0) == 5 && rest[1].or(0) <= 255:
		*target, used = indexedColor|color(rest[1].or(0)), 3
	case len(rest) >= 4 && rest[0].or(0) == 2:
		rgb, skip := rest[1:4], 4
		if colons && len(rest) >= 5 { // a colour space comes before the parts
			rgb, skip = rest[2:5], 5
		}
		for _, part := range rgb {
			if part.or(0) > 255 {
				return len(args), false
			}
		}
		*target, used = trueColor|color(rgb[0].or(0)<<16|rgb[1].or(0)<<8|rgb[2].or(0)), skip+1
	default:
		return len(args), false
	}
	if colons {
		used = n
	}
	return used, true
}

// attrNumbers are the SGR numbers of the attribute bits, from the lowest.
var attrNumbers = [...]int{1, 2, 3, 5, 6, 7, 8, 9, 53}

// appendTo writes the sequence that sets exactly this pen, whatever was set.
func (p pen) appendTo(out []byte) []byte {
	out = append(out, "\x1b[0"...)
	for i, n := range attrNumbers {
		if p.attrs&(1<<i) != 0 {
			out = appendNumber(append(out, ';'), n)
		}
	}
	switch p.underline {
	case 0:
	case 1:
		out = append(out, ";4"...)
	default:
		out = appendNumber(append(out, ";4:"...), int(p.underline))
	}
	out = p.fg.appendTo(out, 30)
	out = p.bg.appendTo(out, 40)
	switch v := int(p.under &^ colorKind); p.under & colorKind {
	case indexedColor:
		out = appendNumber(append(out, ";58:5:"...), v)
	case trueColor:
		out = appendNumber(append(out, ";58:2::"...), v>>16)
		out = appendNumber(append(out, ':'), v>>8&255)
		out = appendNumber(append(out, ':'), v&255)
	}
	return append(out, 'm')
}

func (c color) appendTo(out []byte, base int) []byte {
	v := int(c &^ colorKind)
	switch c & colorKind {
	case basicColor:
		if v >= 8 {
			base, v = base+60, v-8
		}
		return appendNumber(append(out, ';'), base+v)
	case indexedColor:
		out = appendNumber(append(out, ';'), base+8)
		return appendNumber(append(out, ";5;"...), v)
	case trueColor:
		out = appendNumber(append(out, ';'), base+8)
		out = appendNumber(append(out, ";2;"...), v>>16)
		out = appendNumber(append(out, ';'), v>>8&255)
		return appendNumber(append(out, ';'), v&255)
	}
	return out
}

func appendNumber(out []byte, n int) []byte { return strconv.AppendInt(out, int64(n), 10) }
