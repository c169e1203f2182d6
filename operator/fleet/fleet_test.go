package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

var machines = []Machine{
	{"db", []string{"env=prod", "role=db"}},
	{"web1", []string{"env=prod", "role=web"}},
	{"web2", []string{"env=dev", "role=web"}},
}

func TestMachinesThatAreMeant(t *testing.T) {
	for words, want := range map[string]string{
		"web1":                 "web1",
		"web2,web1":            "web1 web2",
		"web1 db web1":         "db web1",
		"env=prod":             "db web1",
		"env=prod,role=web":    "web1",
		"role=db env=dev":      "db web2",
		"deploy@role=web":      "deploy@web1 deploy@web2",
		"web1 root@web1":       "web1 root@web1",
		"web1.tucdesk env=dev": "web1 web2",
		"a@b@web1":             "a@b@web1",
	} {
		s, err := Parse(strings.Fields(words))
		if err != nil {
			t.Errorf("%s: %v", words, err)
			continue
		}
		got, err := s.Pick(machines)
		var names []string
		for _, g := range got {
			names = append(names, g.String())
		}
		if err != nil || strings.Join(names, " ") != want {
			t.Errorf("%s: %q, %v; want %q", words, names, err, want)
		}
	}
	if all, err := All().Pick(machines); err != nil || len(all) != 3 {
		t.Errorf("all: %v, %v", all, err)
	}
	if _, err := All().Pick(nil); refusal.Of(err) != refusal.NotFound {
		t.Errorf("none: %v", err)
	}
}

func TestWordsThatMeanNoMachine(t *testing.T) {
	for words, code := range map[string]refusal.Code{
		"": refusal.BadArgument, "web1,": refusal.BadArgument, "web1,env=prod": refusal.BadArgument, "root@": refusal.BadArgument,
		"web3": refusal.NotFound, "web1 web3": refusal.NotFound, "env=test": refusal.NotFound, "env=prod,env=dev": refusal.NotFound,
	} {
		s, err := Parse([]string{words})
		if list := strings.Fields(words); err == nil && len(list) > 1 {
			s, err = Parse(list)
		}
		if err == nil {
			_, err = s.Pick(machines)
		}
		if refusal.Of(err) != code {
			t.Errorf("%q: %v, want %s", words, err, code)
		}
		if absent := new(Absent); errors.As(err, &absent) != strings.HasSuffix(words, "web3") {
			t.Errorf("%q: a name that is absent: %+v", words, absent)
		}
	}
	for words, one := range map[string]bool{"web1": true, "me@web9": true, "web1,web2": false, "env=prod": false, "web1 web2": false} {
		s, err := Parse(strings.Fields(words))
		if _, ok := s.One(); err != nil || ok != one {
			t.Errorf("%q is one: %v, %v", words, ok, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("deploy@env=prod,role=web")
	f.Add("a,b")
	f.Fuzz(func(t *testing.T, word string) {
		s, err := Parse([]string{word})
		if err != nil {
			return
		}
		if _, err := s.Pick(machines); err != nil && refusal.Of(err) != refusal.NotFound {
			t.Errorf("%q: %v", word, err)
		}
	})
}

func printTo(t *testing.T, form Form, folder string) (*Output, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	var out, err bytes.Buffer
	o, bad := NewOutput(form, &out, &err, folder)
	if bad != nil {
		t.Fatal(bad)
	}
	t.Cleanup(o.Close)
	return o, &out, &err
}

func TestLinesOfManyMachinesStayWhole(t *testing.T) {
	o, out, errs := printTo(t, Prefixed, "")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := o.Open(fmt.Sprintf("host%d", i))
			if err != nil {
				t.Error(err)
				return
			}
			for range 100 {
				_, _ = io.WriteString(s.Out, "one ")
				_, _ = io.WriteString(s.Out, "line\nand")
				_, _ = io.WriteString(s.Out, " another\r\n")
			}
			_, _ = io.WriteString(s.Err, "no end")
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	counts := map[string]int{}
	for line := range strings.Lines(out.String() + errs.String()) {
		_, text, _ := strings.Cut(line, ": ")
		counts[text]++
	}
	if len(counts) != 3 || counts["one line\n"] != 800 || counts["and another\n"] != 800 || counts["no end\n"] != 8 {
		t.Errorf("lines: %v", counts)
	}
}

func TestJ1NoMachineWritesOverTheLinesOfAnother(t *testing.T) {
	evil := "\x1b[1A\x1b[2Kdb: fine\rdb: fine\x07 \u202e \u009b2J\tC:\\x\nb\n"
	for _, form := range []Form{Prefixed, Grouped} {
		o, out, errs := printTo(t, form, "")
		s, err := o.Open("web")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(s.Out, evil)
		_, _ = io.WriteString(s.Err, evil)
		if form == Prefixed {
			_, _ = io.WriteString(s.Talk, evil)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{out.String(), errs.String()} {
			if !strings.Contains(text, `\x1b[1A\x1b[2Kdb: fine\rdb: fine\x07 \u202e \u009b2J`+"\tC:\\x\n") {
				t.Errorf("form %d: %q", form, text)
			}
			for line := range strings.Lines(text) {
				if form == Prefixed && !strings.HasPrefix(line, "web: ") {
					t.Errorf("a line of nobody: %q", line)
				}
			}
		}
	}
}

func TestFilesAndJSONHaveEveryByte(t *testing.T) {
	const said = "\x1b[1mbold\x1b[0m\nhalf"
	dir := filepath.Join(t.TempDir(), "logs")
	o, out, _ := printTo(t, Prefixed, dir)
	s, err := o.Open("me/../x@web")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(s.Out, said)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "me_.._x@web.stdout")); err != nil || string(text) != said || out.Len() > 0 {
		t.Errorf("the file has %q, %v; printed %q", text, err, out.String())
	}
	o, out, _ = printTo(t, JSON, "")
	if s, err = o.Open("web"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(s.Out, said)
	_, _ = s.Err.Write([]byte("\xff\n"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		var l struct {
			Type, Host, Text, Base64 string
			Partial                  bool
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s %q %s %v", l.Type, l.Host, l.Text, l.Base64, l.Partial))
	}
	want := []string{`stderr web "" /w== false`, `stdout web "half"  true`, `stdout web "\x1b[1mbold\x1b[0m"  false`}
	for _, w := range want {
		if !strings.Contains(strings.Join(got, "\n"), w) {
			t.Errorf("no %s in\n%s", w, strings.Join(got, "\n"))
		}
	}
}

func TestLongLinesComeInParts(t *testing.T) {
	o, out, _ := printTo(t, Prefixed, "")
	s, err := o.Open("web")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		_, _ = s.Out.Write(bytes.Repeat([]byte("x"), maxLine/2))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "web: "); n != 3 || strings.Count(out.String(), "x") != maxLine/2*5 {
		t.Errorf("%d parts, %d bytes", n, out.Len())
	}
}

func TestOneMachineAsEveryVerbTakesIt(t *testing.T) {
	for word, want := range map[string]Target{
		"web": {"", "web"}, "web.tucdesk": {"", "web"}, "@agent@web": {"", "web"}, "@web": {"", "web"}, "ann@web.tucdesk": {"ann", "web"}, "a@b@web": {"a@b", "web"}, "ann@": {"ann", ""}, "": {},
	} {
		got := ParseTarget(word)
		if got != want {
			t.Errorf("%q is %+v, want %+v", word, got, want)
		}
		s, err := Parse([]string{word})
		if one, ok := s.One(); want.Name != "" && (err != nil || !ok || one != want) {
			t.Errorf("%q is %+v in a list, %v", word, one, err)
		}
	}
}
