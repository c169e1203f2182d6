//go:build unix

package process

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// eachLine calls f with each line of one of the system's files, of at most limit bytes
// and 64 KiB a line. A file that is not there has none. On an error f has not seen all
// of them: what a file keeps out, an account that has expired or one without a login
// shell, may have stood in the rest.
func eachLine(path string, limit int64, f func(string)) error {
	r, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err // it names the file
	}
	defer r.Close()
	rest := &io.LimitedReader{R: r, N: limit + 1}
	scan := bufio.NewScanner(rest)
	for scan.Scan() {
		f(scan.Text())
	}
	if err := scan.Err(); err != nil {
		return fmt.Errorf("reading %q: %v", path, err)
	}
	if rest.N == 0 {
		return fmt.Errorf("reading %q: it is larger than %d bytes", path, limit)
	}
	return nil
}
