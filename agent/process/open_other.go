//go:build unix && !linux

package process

import (
	"fmt"
	"os"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// openProgram compares the file with the judged one. This system cannot execute
// an open file, so a window of a moment stays between comparing and executing.
func openProgram(f File) (path string, release func(), err error) {
	release = func() {}
	if f.Inode == 0 {
		return f.Path, release, nil
	}
	info, err := os.Lstat(f.Path)
	if err != nil {
		return "", nil, fmt.Errorf("opening %q: %w", f.Path, err)
	}
	if now, ok := fileOf(f.Path, info); !ok || now != f {
		return "", nil, refusal.New(refusal.CommandNotFound, "it is not the file any more that the request was judged by")
	}
	return f.Path, release, nil
}
