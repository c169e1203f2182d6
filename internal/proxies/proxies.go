// Package proxies says through which proxy a server or a relay is reached: what the
// environment names, read in one way for every connection that our programs make.
//
//	HTTPS_PROXY, https_proxy    the proxy: http, https or socks5
//	ALL_PROXY, all_proxy        the same, where there is no HTTPS_PROXY
//	NO_PROXY, no_proxy          who is reached without
//
// A value that is no URL is an error and not "no proxy": who set it does not want
// that connections go past it.
package proxies

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// Settings is what an environment says of proxies, also for a process of ours that
// gets no environment. It may hold a password: it goes through pipes, never into
// arguments, variables or logs.
type Settings struct {
	URL    string `json:"url"`    // of the proxy; "" is none
	From   string `json:"from"`   // the variable that names it, for errors and people
	Except string `json:"except"` // who is reached without it, in the form of NO_PROXY
}

// Environment reads the variables as they are at the time of this call.
func Environment() Settings {
	s := Settings{Except: httpproxy.FromEnvironment().NoProxy}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		if value := os.Getenv(name); value != "" {
			s.URL, s.From = value, name
			break
		}
	}
	return s
}

// String shows no address, since a password is a part of it.
func (s Settings) String() string {
	if s.URL == "" {
		return "no proxy"
	}
	return "a proxy"
}

// parse reads the proxy's address as other programs do: without a scheme it is
// HTTP's. Its error names the variable and shows nothing of the value, which may hold
// a password.
func (s Settings) parse() (*url.URL, error) {
	text := s.URL
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return nil, fmt.Errorf("the value of %s is not a proxy's address: want http://HOST:PORT or socks5://HOST:PORT", s.From)
	case !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme):
		return nil, fmt.Errorf("the value of %s names no kind of proxy that is known: want http, https or socks5", s.From)
	}
	return u, nil
}

// Choose returns a function for http.Transport.Proxy that does what s says. Loopback
// addresses never go through a proxy. An address of a proxy that cannot be read is an
// error for everything that would have gone through it.
func (s Settings) Choose() func(*http.Request) (*url.URL, error) {
	if s.URL == "" {
		return func(*http.Request) (*url.URL, error) { return nil, nil }
	}
	through := (&httpproxy.Config{HTTPSProxy: "http://proxy.invalid", NoProxy: s.Except}).ProxyFunc() // the exceptions alone
	u, bad := s.parse()
	return func(r *http.Request) (*url.URL, error) {
		if via, err := through(&url.URL{Scheme: "https", Host: r.URL.Host}); via == nil || err != nil {
			return nil, err
		}
		return u, bad
	}
}

// For returns host and port of the proxy on the way to addr, "host:port", or "" for
// none, without its password: for people.
func (s Settings) For(addr string) (string, error) {
	via, err := s.Choose()(&http.Request{URL: &url.URL{Scheme: "https", Host: addr}})
	if via == nil || err != nil {
		return "", err
	}
	return via.Host, nil
}
