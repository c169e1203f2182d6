package files

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/filecopy/receive"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// A machine says "no such file", and which: that, this end has to know.
func TestMissingFolderIsNamedWithWhatToDo(t *testing.T) {
	gone := filecopy.Refused{Code: refusal.NotFound, Text: "no such file or directory"}
	for _, c := range []struct {
		user string
		m    filecopy.Message
		r    filecopy.Refused
		want string
	}{
		{"", filecopy.Put{Path: "/no/dir/"}, gone, "error: not_found: there is no folder /no/dir/ on web\nhint: make it first: tucdesk exec web -- mkdir -p /no/dir/\n"},
		{"", filecopy.Put{Path: "/no/dir/x"}, gone, "error: not_found: there is no folder /no/dir on web\nhint: make it first: tucdesk exec web -- mkdir -p /no/dir\n"},
		{"", filecopy.Put{Path: "/no/dir", Flags: filecopy.Into}, gone, "error: not_found: there is no folder /no/dir on web\n"},
		{"ann", filecopy.Put{Path: "a dir/"}, gone, "error: not_found: there is no folder 'a dir/' on web\nhint: make it first: tucdesk exec ann@web -- mkdir -p 'a dir/'\n"},
		{"", filecopy.Put{Path: `C:\nope\f`}, gone, "error: not_found: there is no folder C:\\\\nope on web\nhint: a path that is not absolute"},
		{"", filecopy.Put{Path: `C:/nope\d/`}, gone, "error: not_found: there is no folder C:/nope\\\\d/ on web\nhint: a path that is not absolute"},
		{"", filecopy.Put{Path: "/etc/x/"}, filecopy.Refused{Code: refusal.BadFile, Text: "the target is no folder"}, "error: bad_file: web:/etc/x/: the target is no folder\nhint: "},
		{"", filecopy.Get{Paths: []string{"/a", "b"}}, filecopy.Refused{Code: refusal.PolicyDenied, Text: "no rule"}, "error: policy_denied: web:/a and 1 other: no rule\nhint: "},
		{"", filecopy.Get{Paths: []string{"/a"}}, gone, "error: not_found: web:/a: no such file or directory\nhint: "},
	} {
		var talk bytes.Buffer
		if cli.Report(&talk, notBegun("web", c.user, c.m, c.r)); !strings.HasPrefix(talk.String(), c.want) {
			t.Errorf("%+v: said %q, want %q", c.m, talk.String(), c.want)
		}
	}
}

// A path on a machine is cut as that machine cuts it.
func TestMissingFolderThere(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "f": ".", "/f": "/", "a/b": "a", "/srv/d/": "/srv/d/", `/srv/a\b`: "/srv",
		`C:\nope\f`: `C:\nope`, `C:\f`: `C:\`, `C:\nope\`: `C:\nope\`, "c:/nope/f": "c:/nope", "C:f": "C:", `nope\d/f`: `nope\d`, `\f`: `\`,
	} {
		if got := missing(place{host: "web", path: name}); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestMissingFolderHereIsNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	for path, missing := range map[string]string{dir + string(os.PathSeparator): dir, filepath.Join(dir, "x"): dir} {
		_, err := receive.Open(receive.Config{Path: path})
		code, why := filecopy.Reason(err)
		var talk bytes.Buffer
		cli.Report(&talk, notTaken(place{path: path}, 0, code, why))
		if text := talk.String(); !strings.HasPrefix(text, "error: not_found: there is no folder ") || !strings.Contains(text, filepath.Base(missing)) || !strings.Contains(text, "hint: make it first") {
			t.Errorf("%s: said %q", path, text)
		}
	}
}

// Nothing makes data of a device: there is no hint that leads nowhere.
func TestCopyThatLeftOutOnlyDevicesHasNoHints(t *testing.T) {
	var talk bytes.Buffer
	status := cli.Report(&talk, leftOut([]problem{{"pts/0", refusal.BadFile, filecopy.NotData}, {"pts/1", refusal.BadFile, filecopy.NotData}}, 0, false))
	if want := "error: not everything was copied: 2 problems, named above\n"; status != cli.ExitFailed || talk.String() != want {
		t.Errorf("status %d, said\n%swant\n%s", status, talk.String(), want)
	}
}

// What to do is said for each kind of reason, once, and not for a hundred entries.
func TestCopyThatIsNotWholeSaysWhatToDo(t *testing.T) {
	var all []problem
	for range 100 {
		all = append(all, problem{"a", refusal.BadFile, "it is a folder"}, problem{"b", refusal.NotFound, "no such file"}, problem{"c", "newer_code", ""})
	}
	var talk bytes.Buffer
	status := cli.Report(&talk, leftOut(all, 0, false))
	want := "error: not everything was copied: 300 problems, named above\n" +
		"hint: bad_file: files, folders and links are copied; a folder needs -r\n" +
		"hint: not_found: is the path right? on a machine, one that is not absolute begins in the user's home\n" +
		"hint: then run the same command again: what is there already is not sent again\n"
	if status != cli.ExitFailed || talk.String() != want {
		t.Errorf("status %d, said\n%swant\n%s", status, talk.String(), want)
	}
}

// What a copy leaves out on this machine has nothing to do with the policy.
func TestLinkThatIsLeftOutIsNoMatterOfThePolicy(t *testing.T) {
	err := filecopy.CheckLink("site/link", "/etc/hostname")
	code, why := filecopy.Reason(err)
	var talk bytes.Buffer
	cli.Report(&talk, leftOut([]problem{{"site/link", code, why}}, 0, true))
	if text := talk.String(); strings.Contains(text, "policy") || !strings.Contains(text, "1 problem, named in the answer\n") || !strings.Contains(text, "hint: bad_path: a link is copied where it stays inside the folder") {
		t.Errorf("said %q", text)
	}
}
