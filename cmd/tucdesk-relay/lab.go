package main

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"strings"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/relay"
)

// lab is what the command line says about lab mode (protocol 6.1). It is on the
// command line and not in the configuration so that no relay comes up in it because
// a line was left in a file.
type lab struct {
	peers  networks
	public bool
}

func (l *lab) flags(f *flag.FlagSet) {
	f.Var(&l.peers, "allow-peer", "lab mode: open real relay sockets, to this `network` only; may be given again")
	f.BoolVar(&l.public, "lab-public", false, "lab mode on an address other than loopback too")
}

// apply puts cfg into lab mode where it was asked for.
func (l *lab) apply(cfg *relay.Config) error {
	if len(l.peers) == 0 {
		if l.public {
			return &cli.Error{Err: errors.New("--lab-public is for lab mode, which begins with --allow-peer"), Exit: cli.ExitUsage}
		}
		return nil
	}
	if cfg.UDP.Addr().IsUnspecified() {
		return &cli.Error{Err: fmt.Errorf("listen: lab mode opens its sockets on the address of \"listen\", and %v is none", cfg.UDP.Addr()),
			Hints: []string{"as in: listen = \"127.0.0.1:3478\""}}
	}
	cfg.Lab = &relay.Lab{AllowPeers: l.peers, RelayIP: cfg.UDP.Addr().Unmap(), PublicBind: l.public}
	return nil
}

// advise adds to an error of a relay in lab mode what lets it start.
func (l *lab) advise(err error) error {
	if errors.Is(err, relay.ErrPublicLab) {
		return &cli.Error{Err: err, Hints: []string{"listen on loopback, as in: listen = \"127.0.0.1:3478\"",
			"whoever has a credential then sends from this machine to what --allow-peer lists; if that is meant: --lab-public"}}
	}
	return cli.Listening(err)
}

// networks is a list of networks, one for each time that the flag was given.
type networks []netip.Prefix

// String is for package flag.
func (n *networks) String() string {
	var list []string
	for _, p := range *n {
		list = append(list, p.String())
	}
	return strings.Join(list, ",")
}

// Set adds a network. Bits behind its length are refused: 10.1.2.3/8 is more than
// whoever wrote it may have meant.
func (n *networks) Set(text string) error {
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() || p.Addr().Is4In6() {
		return errors.New("want a network such as 127.0.0.0/8 or fd00::/8")
	}
	*n = append(*n, p)
	return nil
}
