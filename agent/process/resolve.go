package process

import (
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// File is a program's file after all symbolic links, and on Windows junctions.
type File struct {
	Path   string // absolute
	Device uint64
	Inode  uint64 // 0 on systems without inodes, and for a login shell, which is not compared
}

// Resolve finds the file that argv0 stands for: by the fixed search path when it has no slash,
// else from dir. It never looks at an environment. What is not there is refused
// with CommandNotFound, what is there and no executable file with NotExecutable.
// Whoever asks may see more files than the one who is told of it: see what the
// policy says of him first.
func Resolve(argv0, dir string) (File, error) {
	if argv0 == "" || strings.ContainsRune(argv0, 0) {
		return File{}, refusal.New(refusal.BadArgument, "the program's name is empty or holds a zero byte")
	}
	var refused error = refusal.New(refusal.CommandNotFound, "no such program on this host")
	for _, candidate := range candidates(argv0, dir) {
		f, err := find(candidate)
		if err == nil {
			return f, nil
		}
		if refusal.Of(err) != "" {
			refused = err
		}
	}
	return File{}, refused
}

func notExecutable() error {
	return refusal.New(refusal.NotExecutable, "there is such a file on this host, and it is not executable")
}
