package proxies

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// unset takes away what the machine of the test has set.
func unset(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"} {
		t.Setenv(name, "")
	}
}

func choose(s Settings, addr string) (string, error) {
	u, err := s.Choose()(&http.Request{URL: &url.URL{Scheme: "https", Host: addr}})
	if u == nil || err != nil {
		return "", err
	}
	return u.String(), nil
}

const relay = "relay.example:5349"

func TestProxyOfTheEnvironment(t *testing.T) {
	unset(t)
	want := func(addr, want, from string) {
		t.Helper()
		s := Environment()
		if got, err := choose(s, addr); got != want || s.From != from || err != nil {
			t.Errorf("%s: %q by %q, %v, want %q by %q", addr, got, s.From, err, want, from)
		}
	}
	want(relay, "", "")
	t.Setenv("HTTP_PROXY", "http://plain.example:1") // of what is not HTTPS: nothing of ours
	want(relay, "", "")
	t.Setenv("all_proxy", "socks5://small.example:1080")
	want(relay, "socks5://small.example:1080", "all_proxy")
	t.Setenv("ALL_PROXY", "socks5h://all.example:1080")
	want(relay, "socks5h://all.example:1080", "ALL_PROXY")
	t.Setenv("https_proxy", "proxy.example:3128")
	want(relay, "http://proxy.example:3128", "https_proxy")
	t.Setenv("HTTPS_PROXY", "http://user:word@proxy.example:3128")
	want(relay, "http://user:word@proxy.example:3128", "HTTPS_PROXY")
	t.Setenv("NO_PROXY", "other.example,.corp.example,10.0.0.0/8")
	for _, addr := range []string{"other.example:443", "a.corp.example:443", "10.1.2.3:443", "127.0.0.1:443", "localhost:443"} {
		want(addr, "", "HTTPS_PROXY")
	}
	want(relay, "http://user:word@proxy.example:3128", "HTTPS_PROXY")
}

func TestPasswordOfTheProxyIsNotShown(t *testing.T) {
	unset(t)
	t.Setenv("ALL_PROXY", "http://user:secretword@proxy.example:3128")
	s := Environment()
	host, err := s.For(relay)
	if host != "proxy.example:3128" || err != nil {
		t.Errorf("%q, %v", host, err)
	}
	if text := fmt.Sprintf("%v %+v %s %s", s, []Settings{s}, s, host); strings.Contains(text, "secretword") {
		t.Errorf("a password shows in %q", text)
	}
	if host, err := s.For("127.0.0.1:1"); host != "" || err != nil {
		t.Errorf("loopback: %q, %v", host, err)
	}
}

// Whoever sets a proxy does not want connections past it, so a value that cannot be
// read stops them, by the variable's name alone.
func TestValueThatIsNoProxyIsAnError(t *testing.T) {
	unset(t)
	t.Setenv("NO_PROXY", "direct.example")
	for _, value := range []string{
		"://secretword", "http://", "http://user:secretword@", "http://user:secret word@proxy.example", "ftp://secretword.example", "http://[secretword", "http://proxy.example:secretword",
		"socks4://user:secretword@proxy.example:1080", "mailto:secretword", "%", "http:secretword", "\x00secretword", "file:///secretword", " ",
	} {
		t.Setenv("ALL_PROXY", strings.ReplaceAll(value, "\x00", "\x01"))
		s := Environment()
		for range 2 { // as the agent has it, and as its session processes get it
			for _, addr := range []string{relay, "192.0.2.1:443"} {
				_, err := choose(s, addr)
				if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "ALL_PROXY") {
					t.Errorf("%q: %v", value, err)
				}
			}
			if host, err := s.For(relay); host != "" || err == nil {
				t.Errorf("%q: through %q, %v", value, host, err)
			}
			for _, addr := range []string{"direct.example:443", "127.0.0.1:443"} {
				if got, err := choose(s, addr); got != "" || err != nil {
					t.Errorf("%q: %s goes through %q, %v", value, addr, got, err)
				}
			}
			raw, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(raw, &s); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func FuzzProxyValue(f *testing.F) {
	for _, value := range []string{"http://user:word@proxy.example:3128", "proxy.example:3128", "socks5://[::1]:1080", "://", "%zz", ""} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		u, err := Settings{URL: value, From: "ALL_PROXY"}.Choose()(&http.Request{URL: &url.URL{Scheme: "https", Host: relay}})
		switch {
		case value == "" && (u != nil || err != nil):
			t.Errorf("%v, %v without a proxy", u, err)
		case value != "" && (u == nil) == (err == nil):
			t.Errorf("%q: %v, %v: neither a proxy nor an error", value, u, err)
		case u != nil && u.Hostname() == "":
			t.Errorf("%q: a proxy without a host", value)
		}
	})
}
