package forward

import (
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestSpecsAreThoseOfOpenSSH(t *testing.T) {
	for text, want := range map[string]Spec{
		"L 8080:localhost:80":           {Local, Address{Port: 8080}, Address{Host: "localhost", Port: 80}},
		"L 127.0.0.2:8080:web:80":       {Local, Address{Host: "127.0.0.2", Port: 8080}, Address{Host: "web", Port: 80}},
		"L *:8080:web:80":               {Local, Address{Host: "*", Port: 8080}, Address{Host: "web", Port: 80}},
		"L :8080:web:80":                {Local, Address{Host: "*", Port: 8080}, Address{Host: "web", Port: 80}},
		"L [::1]:8080:[2001:db8::1]:80": {Local, Address{Host: "::1", Port: 8080}, Address{Host: "2001:db8::1", Port: 80}},
		"L 8080:/run/app.sock":          {Local, Address{Port: 8080}, Address{Socket: "/run/app.sock"}},
		"L *:8080:/run/app.sock":        {Local, Address{Host: "*", Port: 8080}, Address{Socket: "/run/app.sock"}},
		"L /tmp/a:/run/app.sock":        {Local, Address{Socket: "/tmp/a"}, Address{Socket: "/run/app.sock"}},
		"L /tmp/a:web:80":               {Local, Address{Socket: "/tmp/a"}, Address{Host: "web", Port: 80}},
		"L 0:web:80":                    {Local, Address{}, Address{Host: "web", Port: 80}},
		"R 0:localhost:80":              {Remote, Address{}, Address{Host: "localhost", Port: 80}},
		"R /tmp/r:localhost:80":         {Remote, Address{Socket: "/tmp/r"}, Address{Host: "localhost", Port: 80}},
		"R 9050":                        {Way: Remote, Listen: Address{Port: 9050}},
		"R *:9050":                      {Way: Remote, Listen: Address{Host: "*", Port: 9050}},
		"D /tmp/s":                      {Way: Dynamic, Listen: Address{Socket: "/tmp/s"}},
		"D 1080":                        {Way: Dynamic, Listen: Address{Port: 1080}},
		"D localhost:1080":              {Way: Dynamic, Listen: Address{Host: "localhost", Port: 1080}},
		"D [::1]:1080":                  {Way: Dynamic, Listen: Address{Host: "::1", Port: 1080}},
	} {
		got, err := Parse(Way(text[0]), text[2:])
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestSpecsThatAreNone(t *testing.T) {
	for _, text := range []string{
		"L ", "L 8080", "L 8080:80", "L web:80", "L 8080:web:", "L 8080::80", "L 8080:web:0", "L 65536:web:80", "L x:web:80", "L a:b:8080:web:80",
		"L ::1:8080:web:80", "L [::1:8080:web:80", "L [::1]8080:web:80", "L 8080:we b:80", "L -1:web:80", "L 8080:web:80:", "L /tmp/a:8080:web:80",
		"R ", "R web:x", "D ", "D x", "D 1:2:3", "D /tmp/s:80", "L 8080:web\n:80",
	} {
		if s, err := Parse(Way(text[0]), text[2:]); refusal.Of(err) != refusal.BadArgument {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
}

// Whoever types a wrong one reads what is wrong with it, and nothing of a letter that
// was not typed.
func TestWrongSpecsAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"L 80800:localhost:1":    `bad_argument: forward "80800:localhost:1": 80800 is no port: they go to 65535`,
		"L 8080:localhost:70000": `bad_argument: forward "8080:localhost:70000": 70000 is no port: they go to 65535`,
		"D 65536":                `bad_argument: forward "65536": 65536 is no port: they go to 65535`,
		"L x":                    `bad_argument: forward "x": want [bind_address:]port:host:hostport, as 8080:localhost:80`,
		"L 8080:web:x":           `bad_argument: forward "8080:web:x": the target is no host and port, as localhost:80`,
	} {
		if _, err := Parse(Way(text[0]), text[2:]); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// FuzzParse: what is taken, written again, is the same.
func FuzzParse(f *testing.F) {
	f.Add(byte('L'), "[::1]:8080:[2001:db8::1]:80")
	f.Add(byte('R'), "/tmp/r:/run/app.sock")
	f.Add(byte('D'), "*:1080")
	f.Fuzz(func(t *testing.T, way byte, text string) {
		way = "LRD"[way%3]
		s, err := Parse(Way(way), text)
		if err != nil {
			return
		}
		again, err := Parse(Way(way), s.String()[3:])
		if err != nil || again != s {
			t.Fatalf("%q: %+v, written as %q: %+v, %v", text, s, s, again, err)
		}
	})
}
