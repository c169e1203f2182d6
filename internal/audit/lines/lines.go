// Package lines reads a file of lines that somebody else may have written: with a
// limit for each, and telling a whole line from a torn one.
package lines

import (
	"bufio"
	"fmt"
	"io"
)

// Next returns the next line of at most limit bytes without its newline; whole is
// false for what stands after the last newline, also when that is nothing.
func Next(r *bufio.Reader, limit int) (line []byte, whole bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > limit+1:
			return nil, false, fmt.Errorf("line of more than %d bytes", limit)
		case err == nil:
			return line[:len(line)-1], true, nil
		case err == io.EOF:
			return line, false, nil
		case err != bufio.ErrBufferFull:
			return nil, false, err
		}
	}
}
