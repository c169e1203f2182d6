package netcheck

import (
	"fmt"
	"strings"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// print writes the report for a person.
func (r *report) print(io *cli.IO) error {
	io.Print("server  %s", r.Server)
	if text := r.proxies(); text != "" {
		io.Print("proxy   %s", text)
	}
	io.Print("IPv4    %s", r.IPv4)
	io.Print("IPv6    %s", r.IPv6)
	for _, f := range []struct {
		name string
		family
	}{{"IPv4", r.IPv4}, {"IPv6", r.IPv6}} {
		if f.Works {
			io.Print("NAT     %s: %s", f.name, f.Mapping.means())
		}
	}
	if w, ok := r.best(); ok {
		io.Print("nearest relay %d by %s, %g ms", w.Relay, w.Kind, w.RTTMillis)
	}
	if len(r.Ways) == 0 {
		return nil
	}
	return verb.Table(io, []any{"RELAY", "WAY", "ADDRESS", "RESULT", "ROUND TRIP", "SEEN AS"}, func(row func(...any)) {
		for _, w := range r.Ways {
			row(w.Relay, w.Kind, w.Address, w.result(), w.trip(), w.Mapped)
		}
	})
}

// proxies is one line on the proxy that is used, and what for; "" without one.
func (r *report) proxies() string {
	host, ways := r.Server.Proxy, 0
	for _, w := range r.Ways {
		if w.Proxy != "" {
			host = w.Proxy
			ways++
		}
	}
	if host == "" {
		return ""
	}
	server := "for the server and"
	if r.Server.Proxy == "" {
		server = "not for the server,"
	}
	return fmt.Sprintf("%s, named by %s, %s for %s to relays", host, r.Server.ProxyFrom, server, cli.Count(ways, "way"))
}

// String is one line.
func (s server) String() string {
	if !s.Reachable {
		return s.URL + ", not reachable"
	}
	clock := "clocks agree"
	if s.SkewSeconds != 0 {
		clock = fmt.Sprintf("this machine's clock is %d s ahead", s.SkewSeconds)
		if s.SkewSeconds < 0 {
			clock = fmt.Sprintf("this machine's clock is %d s behind", -s.SkewSeconds)
		}
	}
	return fmt.Sprintf("%s, %g ms, %s", s.URL, s.RTTMillis, clock)
}

// String is one line.
func (f family) String() string {
	own := "no address of this machine"
	if len(f.Own) > 0 {
		texts := make([]string, len(f.Own))
		for i, a := range f.Own {
			texts[i] = a.String()
		}
		own = "this machine has " + strings.Join(texts, ", ")
	}
	switch {
	case !f.Tried:
		return "not tried, no relay has an address; " + own
	case !f.Works:
		return "no relay answers over UDP; " + own
	}
	texts := make([]string, len(f.Mapped))
	for i, a := range f.Mapped {
		texts[i] = a.String()
	}
	return "works over UDP, seen as " + strings.Join(texts, ", ") + "; " + own
}

func (w way) result() string {
	if w.Works {
		return "works"
	}
	return "blocked at " + string(w.Leg) + ": " + strings.ReplaceAll(w.Error, "\n", "; ")
}

func (w way) trip() string {
	if !w.Works {
		return "-"
	}
	return fmt.Sprintf("%g ms", w.RTTMillis)
}
