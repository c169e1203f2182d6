package files

import (
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/filecopy/receive"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// streams are the two ends of a channel.
func streams() (a, b *filecopy.Stream, cut io.Closer) {
	ar, aw := io.Pipe()
	br, bw := io.Pipe()
	return filecopy.NewStream(ar, bw), filecopy.NewStream(br, aw), closers{ar, aw, br, bw}
}

type closers []io.Closer

func (all closers) Close() error {
	for _, c := range all {
		_ = c.Close()
	}
	return nil
}

func quietCopy(recursive bool) *copying {
	c := &copying{recursive: recursive, io: &cli.IO{Out: io.Discard, Err: io.Discard}}
	c.show = newBar(io.Discard, &c.progress, false)
	return c
}

// passOn copies from a machine that says messages to one that is honest, and takes
// everything because it cannot know what was asked for.
func passOn(t *testing.T, c *copying, asked []string, dir string, messages ...filecopy.Message) error {
	t.Helper()
	from, evil, cutFrom := streams()
	to, honest, cutTo := streams()
	r, err := receive.Open(receive.Config{Path: dir, Flags: filecopy.Recursive, Look: true})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _, _ = r.Run(t.Context(), honest) })
	wg.Go(func() {
		for {
			if _, err := evil.Next(); err != nil {
				return
			}
		}
	})
	wg.Go(func() {
		for _, m := range append(messages, filecopy.End{}) {
			if evil.Say(m) != nil {
				return
			}
		}
	})
	b := between{c: c, from: from, to: to, source: group{host: "evil", user: "ann"}, target: place{host: "web"}, gate: filecopy.NewGate(asked, c.recursive)}
	_, err = b.run(cutFrom, cutTo)
	return err
}

func file(name, text string) filecopy.Small {
	return filecopy.Small{Mode: 0o644, Name: name, Hash: sha256.Sum256([]byte(text)), Data: []byte(text)}
}

// Between two machines the operator is the one who knows what was asked for: a source
// writes into no folder of the target that it did not send, and is named.
func TestI6BetweenTwoMachinesTheSourceReachesNoFolderThatIsThere(t *testing.T) {
	for name, c := range map[string]struct {
		recursive bool
		messages  []filecopy.Message
		code      refusal.Code
	}{
		"a file in a folder":    {false, []filecopy.Message{file("project/hook", "bad")}, refusal.ProtocolError},
		"an offer":              {false, []filecopy.Message{filecopy.Offer{ID: 1, Size: 4, Name: "project/hook"}}, refusal.ProtocolError},
		"a link":                {false, []filecopy.Message{filecopy.Link{Name: "project/l", Target: "hook"}}, refusal.ProtocolError},
		"a folder":              {false, []filecopy.Message{filecopy.Folder{Name: "project"}}, refusal.ProtocolError},
		"not asked for":         {false, []filecopy.Message{file("other", "bad")}, refusal.BadPath},
		"hidden":                {false, []filecopy.Message{file(".bashrc", "bad")}, refusal.BadPath},
		"without its folder":    {true, []filecopy.Message{file("project/hook", "bad")}, refusal.ProtocolError},
		"deeper, likewise":      {true, []filecopy.Message{filecopy.Folder{Name: "project", Mode: 0o755}, file("project/in/hook", "bad")}, refusal.ProtocolError},
		"what was asked for":    {false, []filecopy.Message{file("project", "bad")}, ""},
		"a folder, with its -r": {true, []filecopy.Message{filecopy.Folder{Name: "p", Mode: 0o755}, file("p/x", "fine")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			hook := filepath.Join(dir, "project", "hook")
			if err := os.MkdirAll(filepath.Dir(hook), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(hook, []byte("mine"), 0o644); err != nil {
				t.Fatal(err)
			}
			err := passOn(t, quietCopy(c.recursive), []string{"p*"}, dir, c.messages...)
			if refusal.Of(err) != c.code || c.code != "" && !strings.Contains(err.Error(), "ann@evil: ") {
				t.Errorf("the copy ended with %v", err)
			}
			if b, err := os.ReadFile(hook); err != nil || string(b) != "mine" {
				t.Errorf("the hook is %q, %v", b, err)
			}
		})
	}
}

// A machine thinks of problems faster than anybody reads them. The first are told, in
// the answer too, and the others counted.
func TestH4ProblemsWithoutEndFillNothing(t *testing.T) {
	for _, json := range []bool{false, true} {
		var out, talk strings.Builder
		c := quietCopy(false)
		c.JSON, c.io.Out, c.io.Err = json, &out, &talk
		var messages []filecopy.Message
		for i := range 5000 {
			messages = append(messages, filecopy.Problem{Name: strings.Repeat("n", 4000) + strconv.Itoa(i), Code: refusal.NotFound, Text: strings.Repeat("t", filecopy.MaxText)})
		}
		if err := passOn(t, c, []string{"x"}, t.TempDir(), messages...); err != nil {
			t.Fatal(err)
		}
		if n := len(c.result.Problems); n != maxProblems {
			t.Errorf("%d problems are kept", n)
		}
		where := "above"
		if json {
			where = "in the answer"
		}
		err := c.tell(nil)
		if err == nil || err.Error() != "not everything was copied: 5000 problems, the first 1000 named "+where {
			t.Errorf("it ended with %v", err)
		}
		switch lines := strings.Count(talk.String(), "\n"); {
		case json && (lines != 0 || !strings.Contains(out.String(), `"moreProblems":4000`) && !strings.Contains(out.String(), `"moreProblems": 4000`)):
			t.Errorf("%d lines, and in the answer %.200q", lines, out.String())
		case !json && (lines != maxProblems+1 || !strings.HasSuffix(talk.String(), "and 4000 more problems that are not shown\n")):
			t.Errorf("%d lines", lines)
		}
	}
}
