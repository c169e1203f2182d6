package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// smallFile is the size of each of many files.
const smallFile = 4 << 10

// copyTime is how long one copy may take; our choice. scp waits for a round trip
// several times for each file.
const copyTime = time.Hour

// copier copies a file or a folder at its seat to a path at the target.
type copier struct {
	name    string
	missing error
	seat    *netlab.Host
	command func(h *netlab.Host, from, to string) *exec.Cmd
}

func (r *run) oneFile() error {
	s := r.newStage()
	return s.copyingFiles(fast(0), s.bigFile)
}

func (r *run) manyFiles() error {
	s := r.newStage()
	return s.copyingFiles(fast(0), s.smallFiles)
}

func (r *run) oneFileLoopback() error {
	s := r.newMachine()
	return s.copyingFiles(netlab.WAN{}, s.bigFile)
}

func (r *run) manyFilesLoopback() error {
	s := r.newMachine()
	return s.copyingFiles(netlab.WAN{}, s.smallFiles)
}

// newMachine has all programs on one host.
func (r *run) newMachine() *stage {
	s := r.newInternet()
	s.target = s.inet.Host("machine")
	s.team = r.found(s.target, nil)
	s.team.join(s.target)
	return s
}

// copiers are OpenSSH's two, rsync over ssh as it is and with the promise of ours, that
// files are on the disk in the end, and ours. Without a link they sit on the target.
func (s *stage) copiers(w netlab.WAN) []copier {
	x := s.ssh("ssh")
	host := "root@" + s.target.IPv4().String()
	shell := strings.Join(append(append([]string{"ssh"}, x.login...), "-p", strconv.Itoa(sshPort)), " ")
	list := []copier{
		s.peer("scp", "scp", "openssh-client", x, func(program string, from, to string) (string, []string) {
			return "", append(append([]string{program, "-q", "-r"}, x.login...), "-P", strconv.Itoa(sshPort), from, host+":"+to)
		}),
		s.peer("sftp", "sftp", "openssh-client", x, func(program string, from, to string) (string, []string) {
			return fmt.Sprintf("put -R %s %s\n", from, to), append(append([]string{program, "-q", "-b", "-"}, x.login...), "-P", strconv.Itoa(sshPort), host)
		}),
		s.peer("rsync", "rsync", "rsync", x, func(program string, from, to string) (string, []string) {
			return "", []string{program, "-r", "-e", shell, from, host + ":" + to}
		}),
		s.peer("rsync --fsync", "rsync", "rsync", x, func(program string, from, to string) (string, []string) {
			return "", []string{program, "-r", "--fsync", "-e", shell, from, host + ":" + to}
		}),
		{name: "tucdesk cp", command: func(h *netlab.Host, from, to string) *exec.Cmd {
			return s.team.client(h, "cp", "-q", "-r", from, machineName+":"+to)
		}},
	}
	for i := range list {
		if list[i].seat = s.target; w != (netlab.WAN{}) {
			list[i].seat = s.seat(list[i].name, w)
		}
	}
	return list
}

// peer is a copier of somebody else's, the program tool; arguments gives its input and command line.
func (s *stage) peer(name, tool, pkg string, x subject, arguments func(program, from, to string) (string, []string)) copier {
	program, err := find(tool, pkg)
	return copier{name: name, missing: errors.Join(x.missing, err), command: func(h *netlab.Host, from, to string) *exec.Cmd {
		in, args := arguments(program, from, to)
		cmd := h.Command(s, args[0], args[1:]...)
		cmd.Env, cmd.Stdin = clean(), strings.NewReader(in)
		return cmd
	}}
}

// copyingFiles measures copiers in turn, from the start of the program to its end.
// Ours has everything on the disk then; the others leave that to the system.
func (s *stage) copyingFiles(w netlab.WAN, prepare func() (path string, files int, size int64)) error {
	from, files, size := prepare()
	list := s.copiers(w)
	took, failed := make([][]float64, len(list)), make([]error, len(list))
	for n := range s.cfg.Repeat {
		for i, c := range list {
			if failed[i] = errors.Join(failed[i], c.missing); failed[i] != nil {
				continue
			}
			if slices.Contains(s.cfg.Without, c.name) {
				failed[i] = errors.New("left out")
				continue
			}
			d, err := s.copyOnce(c, from, files, size)
			if failed[i] = err; err == nil {
				s.say("%d: %s %s s", n+1, c.name, number(d.Seconds()))
				took[i] = append(took[i], d.Seconds())
			}
			if s.Err() != nil {
				return s.Err()
			}
		}
	}
	for i, c := range list {
		what := fmt.Sprintf("time of %d MiB", size>>20)
		if files > 1 {
			what = fmt.Sprintf("time of %d files of %d KiB", files, size/int64(files)>>10)
		}
		s.add(c.name, what, "s", took[i], failed[i])
	}
	for i, c := range list {
		var rates []float64
		for _, t := range took[i] {
			rates = append(rates, float64(size)*8/1e6/t)
		}
		s.add(c.name, "rate", "Mbit/s", rates, failed[i])
	}
	return s.Err()
}

// copyOnce copies into an empty folder and looks whether everything is there.
func (s *stage) copyOnce(c copier, from string, files int, size int64) (time.Duration, error) {
	to := filepath.Join(s.dir, "to")
	if err := os.Mkdir(to, 0o755); err != nil {
		return 0, err
	}
	defer os.RemoveAll(to)
	// Ours waits for the whole file system, and so would wait for what the one before it
	// has left in memory, and for the end of removing that.
	if err := settle(to); err != nil {
		return 0, err
	}
	var said bytes.Buffer
	cmd := c.command(c.seat, from, to)
	cmd.Stderr, cmd.WaitDelay = &said, grace
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	watchdog := time.AfterFunc(copyTime, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	took := time.Since(start)
	if !watchdog.Stop() {
		return took, fmt.Errorf("not done within %v", copyTime)
	}
	if err != nil {
		return took, fmt.Errorf("%v: %s", err, firstLine(said.String()))
	}
	n, bytes, err := tally(to)
	if err == nil && (n != files || bytes != size) {
		err = fmt.Errorf("%d files of %d bytes arrived, not %d of %d", n, bytes, files, size)
	}
	return took, err
}

// settle waits until everything that was written to the file system of dir is on the disk.
func settle(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("waiting for the disk: %v", err)
	}
	return nil
}

// tally counts files and their bytes.
func tally(dir string) (files int, size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			files, size = files+1, size+info.Size()
		}
		return err
	})
	return files, size, err
}

// bigFile makes a file that nobody can make smaller, and leaves it in the page cache.
func (s *stage) bigFile() (string, int, int64) {
	path := filepath.Join(s.dir, "big")
	s.fill(path, s.cfg.File, rand.NewChaCha8([32]byte{1}))
	return path, 1, s.cfg.File
}

func (s *stage) smallFiles() (string, int, int64) {
	dir, source := filepath.Join(s.dir, "small"), rand.NewChaCha8([32]byte{2})
	for i := range s.cfg.Files {
		folder := filepath.Join(dir, strconv.Itoa(i/100))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			s.Fatalf("%v", err)
		}
		s.fill(filepath.Join(folder, strconv.Itoa(i)), smallFile, source)
	}
	return dir, s.cfg.Files, int64(s.cfg.Files) * smallFile
}

func (s *stage) fill(path string, size int64, source io.Reader) {
	f, err := os.Create(path)
	if err != nil {
		s.Fatalf("%v", err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := io.CopyN(w, source, size); err != nil {
		s.Fatalf("%v", err)
	}
	if err := w.Flush(); err != nil {
		s.Fatalf("%v", err)
	}
}
