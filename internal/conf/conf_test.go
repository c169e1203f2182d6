package conf

import (
	"strings"
	"testing"
)

type sample struct {
	Name  string `toml:"name"`
	Limit int    `toml:"limit"`
	Inner struct {
		List [][]string `toml:"list"`
		Deep *struct {
			On bool `toml:"on"`
		} `toml:"deep"`
	} `toml:"inner"`
	Rows []struct {
		ID string `toml:"id"`
	} `toml:"row"`
}

func TestDecode(t *testing.T) {
	s := sample{Limit: 7}
	text := `
name = "a # no comment [[[[[[[[["   # a comment [[[[[[[[[
inner.list = [["a", 'b['], ["""
[[[[[[[[[ \" """]]
inner.deep.on = true
[[row]]
id = "1"
[[row]]
"id" = '''
[[[[[[[[['''
`
	if err := Decode([]byte(text), &s, 1000); err != nil {
		t.Fatal(err)
	}
	if s.Limit != 7 || !s.Inner.Deep.On || len(s.Rows) != 2 || s.Inner.List[1][0] != `[[[[[[[[[ " ` {
		t.Errorf("%+v", s)
	}
}

func TestMistakesNameLineAndKey(t *testing.T) {
	for text, want := range map[string]string{
		"\nnmae = 'x'":                       "line 2: nmae: unknown key, did you mean name?",
		"a = 1\n\nb = 2":                     "line 1: a: unknown key; line 3: b: unknown key",
		"[inner]\nlst = []":                  "line 2: inner.lst: unknown key, did you mean list?",
		"inner = { lst = [] }":               "line 1: lst: unknown key, did you mean list?",
		"[[row]]\nid='1'\n[[row]]\nname='2'": "line 4: row.name: unknown key",
		"[other]\nx = 1":                     "line 1: other: unknown key",
		"limit = 'x'":                        "line 1: limit: ",
		"limit = 99999999999999999999":       "line 1",
		"name = 1":                           "line 1: name: ",
		"\n\nname":                           "line 3",
		"name = 'a'\nname = 'b'":             "line 2",
		"name = \"\\q\"":                     "line 1",
		"name = 'a\xff'":                     "line 1",
		strings.Repeat("[", 100):             "line 1: nested deeper",
		"x = 'a' \n y = " + strings.Repeat("[\n", MaxDepth) + "[": "line 10: nested deeper",
		strings.Repeat("a.", MaxDepth) + "b = 1":                  "a key of more than 8 parts",
	} {
		err := Decode([]byte(text), &sample{}, 1000)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func TestUnknownKeysAreAnsweredWithTheNearestOfTheirTable(t *testing.T) {
	for text, want := range map[string]string{
		"inner.dep.on = true":                "line 1: inner.dep.on: unknown key, did you mean deep?",
		"iner.deep.on = true":                "line 1: iner.deep.on: unknown key, did you mean inner?",
		"[inner.deep]\nno = true":            "line 2: inner.deep.no: unknown key, did you mean on?",
		"[[row]]\ndi = '1'":                  "line 2: row.di: unknown key, did you mean id?",
		"[inner]\nlimi = 1":                  "line 2: inner.limi: unknown key; the keys there are list, deep", // what another table has
		"nmae = 1\n[[rows]]":                 "line 1: nmae: unknown key, did you mean name?; line 2: rows: unknown key, did you mean row?",
		"ny = 1":                             "line 1: ny: unknown key",
		"inner = { deep = { onn = true } }":  "line 1: onn: unknown key, did you mean on?",
		"row = [{ iid = '1' }, { id = '2'}]": "line 1: iid: unknown key, did you mean id?",
	} {
		if err := Decode([]byte(text), &sample{}, 1000); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// The library would take these for "name".
func TestKeysThatOnlyLookTheSame(t *testing.T) {
	for _, text := range []string{
		"Name = 'x'", "NAME = 'x'", "\"na\\u006De\" = 'x'\nName='y'", "inner = { Deep = { on = true } }", "inner.list = []\n[Inner]", "[[Row]]",
		"row = [{ ID = '1' }]", "\"\" = 1", "\"name \" = 1", "\"inner.deep\" = 1", "[\"\u017fample\"]",
	} {
		err := Decode([]byte(text), &sample{}, 1000)
		if err == nil || !strings.Contains(err.Error(), "lower-case") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSizeLimitIsExact(t *testing.T) {
	text := []byte("name = 'x'")
	if err := Decode(text, &sample{}, len(text)); err != nil {
		t.Error(err)
	}
	if err := Decode(text, &sample{}, len(text)-1); err == nil || !strings.Contains(err.Error(), "the limit is 9") {
		t.Error(err)
	}
}

func TestManyUnknownKeysAreCounted(t *testing.T) {
	var b strings.Builder
	for i := range 30 {
		b.WriteString("x" + strings.Repeat("y", i) + " = 1\n")
	}
	err := Decode([]byte(b.String()), &sample{}, 1000)
	if err == nil || strings.Count(err.Error(), ";") != maxReported || !strings.HasSuffix(err.Error(), "and 20 more") {
		t.Error(err)
	}
}

// An unterminated string must not hide brackets that the parser then follows.
func TestNestingHiddenBehindStrings(t *testing.T) {
	deep := strings.Repeat("[", 1<<20)
	for _, text := range []string{
		"a = \"\n" + deep, "a = '\n" + deep, "a = '''\n" + deep, "a = \"\\\n\"" + deep, "a = \"\"" + deep, "a = ''''''" + deep,
		"a = \"\"\"\\\"\"\"\"" + deep, "a = '''''" + deep, "a = \"\"\"\"\"" + deep, "#\r" + deep, "a = '\\'" + deep, "a = \"\"\"a\"\"\"\"\"" + deep,
	} {
		if err := Decode([]byte(text), &sample{}, 2<<20); err == nil {
			t.Errorf("%.20q was taken", text)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("name = 'x'\nlimit = 1\n[inner]\nlist = [['a']]\n[[row]]\nid = \"2\""))
	f.Add([]byte("a = \"\"\"\\\"\"\"\"[[[[[[[[["))
	f.Add([]byte("inner = { list = [], deep = { on = true } }"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, b sample
		errA, errB := Decode(data, &a, 4096), Decode(data, &b, 4096)
		if (errA == nil) != (errB == nil) {
			t.Errorf("%v, then %v", errA, errB)
		}
		if errA == nil && len(data) > 4096 {
			t.Error("longer than the limit")
		}
	})
}
