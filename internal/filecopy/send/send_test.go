package send

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, name string, size int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
}

// against runs a real sender against a receiver that a test plays.
func against(t *testing.T, cfg Config, play func(*filecopy.Stream)) error {
	t.Helper()
	ar, aw := io.Pipe()
	br, bw := io.Pipe()
	cfg.Hangup = func() {
		for _, c := range []io.Closer{ar, aw, br, bw} {
			_ = c.Close()
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		play(filecopy.NewStream(ar, bw))
		_ = bw.Close()
		_, _ = io.Copy(io.Discard, ar)
	})
	_, err := Run(context.Background(), filecopy.NewStream(br, aw), cfg)
	cfg.Hangup()
	wg.Wait()
	return err
}

// until reads up to a message of the same type.
func until[M filecopy.Message](s *filecopy.Stream) (m M) {
	for {
		next, err := s.Next()
		if err != nil {
			return m
		}
		if m, ok := next.(M); ok {
			return m
		}
	}
}

func TestHostileReceiversEndTheCopyAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "big"), 3<<20)
	cfg := Config{Paths: []string{filepath.Join(dir, "big")}}
	whole := make([]byte, filecopy.MaxHashes*filecopy.HashSize)
	ways := map[string]func(*filecopy.Stream){
		"silence":           func(*filecopy.Stream) {},
		"a sender's words":  func(s *filecopy.Stream) { _ = s.Say(filecopy.End{}) },
		"finished too soon": func(s *filecopy.Stream) { _ = s.Say(filecopy.Finished{}) },
		"refused":           func(s *filecopy.Stream) { _ = s.Say(filecopy.Refused{Code: refusal.NoSpace}) },
		"hashes of another": func(s *filecopy.Stream) {
			_ = s.Say(filecopy.Want{ID: 1, More: true, Hashes: whole})
			_ = s.Say(filecopy.Want{ID: 2})
		},
		"hashes without end": func(s *filecopy.Stream) {
			for s.Say(filecopy.Want{ID: 1, More: true, Hashes: whole}) == nil {
			}
		},
	}
	for name, play := range ways {
		t.Run(name, func(t *testing.T) {
			if err := against(t, cfg, func(s *filecopy.Stream) { until[filecopy.Offer](s); play(s) }); err == nil {
				t.Error("the copy is fine")
			}
		})
	}
}

// More hashes than a file has blocks, wants of nothing, and answers that come twice
// are of no use to anybody and do no harm.
func TestUselessAnswersAreHarmless(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "big"), 3<<20)
	err := against(t, Config{Paths: []string{filepath.Join(dir, "big")}}, func(s *filecopy.Stream) {
		o := until[filecopy.Offer](s)
		_ = s.Say(filecopy.Want{ID: 99})
		_ = s.Say(filecopy.Want{ID: o.ID, Hashes: make([]byte, 10*filecopy.HashSize)})
		if c := until[filecopy.Close](s); c.Size != 3<<20 {
			t.Errorf("%d bytes were sent", c.Size)
		}
		_ = s.Say(filecopy.Want{ID: o.ID})
		_ = s.Say(filecopy.Decline{ID: o.ID})
		until[filecopy.End](s)
		_ = s.Say(filecopy.Finished{})
	})
	if err != nil {
		t.Error(err)
	}
}

// A file that the receiver gives up in its middle is not sent to its end.
func TestDeclinedFilesEndEarly(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "big")
	write(t, name, 64<<20)
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < 64<<20; at += 4096 { // zeros would travel as one number
		_, _ = f.WriteAt([]byte{1}, at)
	}
	_ = f.Close()
	seen := 0
	err = against(t, Config{Paths: []string{name}}, func(s *filecopy.Stream) {
		o := until[filecopy.Offer](s)
		_ = s.Say(filecopy.Want{ID: o.ID})
		for {
			m, err := s.Next()
			if err != nil {
				return
			}
			switch m.(type) {
			case filecopy.Data:
				if seen++; seen == 3 {
					_ = s.Say(filecopy.Decline{ID: o.ID})
					_ = s.Say(filecopy.Problem{Name: "big", Code: refusal.NoSpace}) // the pipe takes it when the one before has been heard
				}
			case filecopy.Close:
				t.Error("it was sent to its end")
			case filecopy.End:
				_ = s.Say(filecopy.Finished{})
			}
		}
	})
	if err != nil || seen > 100 {
		t.Errorf("%d pieces, %v", seen, err)
	}
}

func TestPathsOfAMachineBeginAtHome(t *testing.T) {
	for p, want := range map[string]string{"": "/home/a", "~": "/home/a", "~/x": "/home/a/x", "x/y": "/home/a/x/y", "/etc": "/etc", "x/": "/home/a/x/", "../b": "/home/b"} {
		if got := filepath.ToSlash(Absolute(p, "/home/a")); got != want {
			t.Errorf("%q is %q, want %q", p, got, want)
		}
	}
}

// Patterns show no names of folders that the policy does not open.
func TestI3PatternsStayInTheFoldersOfThePolicy(t *testing.T) {
	outer := t.TempDir()
	open := filepath.Join(outer, "open")
	for _, f := range []string{"open/a.log", "open/b.log", "open/b[1]", "closed/secret.log"} {
		write(t, filepath.Join(outer, f), 1)
	}
	if err := os.Symlink(filepath.Join(outer, "closed"), filepath.Join(open, "out")); err != nil {
		t.Skip(err)
	}
	for pattern, want := range map[string]string{"*.log": "a.log b.log", "b[1]": "b[1]", "none*": "none*", "out/*": "out/*", "../closed/*": "../closed/*", "../*/*.log": "a.log b.log"} {
		got, err := Expand([]string{pattern}, open, filecopy.Folders{open})
		if err != nil {
			t.Error(err)
			continue
		}
		for i := range got {
			got[i], _ = filepath.Rel(open, got[i])
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q is %q, want %q", pattern, s, want)
		}
		if n, _ := Measure(context.Background(), []string{filepath.Join(open, "out")}, filecopy.Folders{open}); n != 0 {
			t.Errorf("%d files outside are counted", n)
		}
	}
	if _, err := Expand([]string{"[a"}, open, nil); refusal.Of(err) != refusal.BadPath {
		t.Error(err)
	}
}

// "*" is what it is in a shell; the operator takes no hidden file for it either.
func TestI6PatternsDoNotMatchHiddenFiles(t *testing.T) {
	home := t.TempDir()
	for _, f := range []string{"a", ".b", ".c"} {
		write(t, filepath.Join(home, f), 1)
	}
	for pattern, want := range map[string]string{"*": "a", "?b": "?b", ".*": ".b .c", ".b": ".b"} {
		got, err := Expand([]string{pattern}, home, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			got[i], _ = filepath.Rel(home, got[i])
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q is %q, want %q", pattern, s, want)
		}
	}
}
