// Package sparse finds JSON whose lists would take a multiple of its size in memory. An
// element of two bytes, whatever it says, takes a whole struct of who decodes it: 16 MiB
// of them took gigabytes (attack K2). It has to be asked before anything is decoded.
package sparse

// perElement is how many bytes an element of a list has at least, but for the first ones:
// a digest in base64 has 46 with its comma.
const perElement = 40

// Lists reports whether the lists of a text have no more elements than one of ours of that
// size can have: some, whose size does not matter, and others of ordinary size.
func Lists(data []byte, some int) bool { return Elements(data) <= some+len(data)/perElement }

// Elements counts what all arrays of a text hold together, or more where it is no JSON.
// It takes memory for the depth of the text only.
func Elements(data []byte) (n int) {
	var arrays []bool // of what is open: is it an array
	inString := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString:
			if c == '\\' {
				i++
			}
			inString = c != '"'
		case c == '"':
			inString = true
		case c == '[', c == '{':
			arrays = append(arrays, c == '[')
			if c == '[' {
				n++
			}
		case c == ']', c == '}':
			arrays = arrays[:max(len(arrays)-1, 0)]
		case c == ',' && len(arrays) > 0 && arrays[len(arrays)-1]:
			n++
		}
	}
	return n
}
