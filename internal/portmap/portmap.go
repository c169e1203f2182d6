// Package portmap asks the router of a home or an office to forward a UDP port to
// this machine, so that the other end of a session can reach it directly although a
// NAT hides its ports.
//
// # Who is asked, and what an answer is worth
//
// The gateway of the IPv4 default route is asked, and nobody else: PCP (RFC 6887)
// first, then what it replaced, NAT-PMP (RFC 6886), a datagram each way, then UPnP
// (WANIPConnection), whose discovery anybody in the network may answer. Nothing of
// that is authenticated. So an answer
// is a hint where the other end may try to reach us, which it checks inside the
// seal before data goes there, and which has the budget of any address that a peer
// names (package path). Whoever forges it can take away a direct path that would
// not exist without him either.
//
// What listens on the port takes sealed datagrams and drops everything else; it
// belongs to the process of one session, which is also the process that asks: the
// parsers here run without rights.
//
//	answer of PCP         1,100 bytes at most
//	answer of NAT-PMP     16 bytes at most
//	answer to a search    maxReply bytes, from the gateway's address alone
//	description, SOAP     maxBody bytes, from the gateway's address alone
//
// A mapping is asked for so many minutes at a time, renewed, and given back in the
// end; what a killed process leaves behind ends by itself. A router that only knows
// mappings for ever gets none.
package portmap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// Times; our choice.
const (
	// lease is how long a mapping is asked for; half of it is between renewals.
	lease = 10 * time.Minute
	// leaseLeast and leaseMost bound what we believe of an answer.
	leaseLeast = time.Minute
	leaseMost  = time.Hour
	// askAgain is between two tries where there is no mapping.
	askAgain = 5 * time.Minute
	// askSoon is between two tries to renew one.
	askSoon = 30 * time.Second
	// lookEvery is between two looks whether a router that can say so has forgotten
	// what it agreed to.
	lookEvery = time.Minute
	// searchLimit bounds one try, farewellLimit giving a mapping back.
	searchLimit   = 3 * time.Second
	farewellLimit = 500 * time.Millisecond
)

// Gateway is the router that is asked.
type Gateway struct {
	Addr   netip.Addr // IPv4
	Source netip.Addr // ours in its network, to which it is to forward
}

// Config of Run.
type Config struct {
	// Port is the local UDP port over IPv4, not 0.
	Port uint16
	// Changed is told where the port can be reached from outside, and the zero
	// AddrPort when it cannot any more. It is called by Run and does not block.
	Changed func(netip.AddrPort)
	// Gateway names the router; nil asks the system for its default route.
	Gateway func() (Gateway, error)
	// Logger gets what was found out; nil discards it.
	Logger *slog.Logger
}

// Run keeps a mapping until ctx ends, and gives it back then. It never fails for
// good: where no router forwards anything, it asks again from time to time. A value
// in again makes it ask at once: after the network has changed.
func Run(ctx context.Context, cfg Config, again <-chan struct{}) {
	if cfg.Gateway == nil {
		cfg.Gateway = defaultGateway
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	k := keeper{cfg: cfg}
	defer k.giveBack()
	for due := time.Now().Add(k.renew(ctx)); ; {
		t := time.NewTimer(k.pause(due))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-again:
			t.Stop()
		case <-t.C:
			if time.Now().Before(due) && k.stands(ctx) {
				continue
			}
		}
		due = time.Now().Add(k.renew(ctx))
	}
}

// pause is how long nothing is asked, at most until due.
func (k *keeper) pause(due time.Time) time.Duration {
	if k.held.stands == nil {
		return time.Until(due)
	}
	return min(time.Until(due), lookEvery)
}

// stands is true unless the router says otherwise.
func (k *keeper) stands(ctx context.Context) bool {
	if k.held.stands == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, searchLimit)
	defer cancel()
	return k.held.stands(ctx)
}

// mapping is one that a router has agreed to.
type mapping struct {
	external netip.AddrPort
	life     time.Duration
	// release gives it back.
	release func(context.Context) error
	// stands asks whether the router remembers it; nil where that cannot be asked.
	stands func(context.Context) bool
}

// protocol is one way to ask: pcp.ask, natPMP or uPnP. wish is the outer port of the mapping
// that is to be renewed, 0 if there is none. When it fails that mapping still
// stands, and none has been added as far as can be seen to.
type protocol func(ctx context.Context, g Gateway, port, wish uint16) (mapping, error)

// keeper is the state of Run.
type keeper struct {
	cfg  Config
	at   Gateway
	pcp  pcp
	ask  protocol  // that has worked; nil before
	held mapping   // external is zero when there is none
	end  time.Time // when held ends unless it is renewed
}

// renew gets a mapping, or the one we have for longer, and says when to come back.
// What the router has agreed to stands until its time is over, so an answer that
// is lost takes nothing away; it is asked again soon.
func (k *keeper) renew(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, searchLimit)
	defer cancel()
	before := k.held.external
	err := k.find()
	if err == nil {
		err = k.try(ctx)
	}
	if err != nil {
		k.cfg.Logger.Debug("no router forwards a port", "error", err)
		if !time.Now().Before(k.end) {
			k.held = mapping{}
		}
	}
	if k.held.external != before {
		k.cfg.Changed(k.held.external)
	}
	switch {
	case err == nil:
		return k.held.life / 2
	case k.held.release != nil:
		return min(askSoon, time.Until(k.end))
	}
	return askAgain
}

// find looks who the router is. What another one has agreed to is of no use here,
// and ends by itself.
func (k *keeper) find() error {
	g, err := k.cfg.Gateway()
	if err != nil {
		return err
	}
	if g != k.at {
		k.at, k.pcp, k.ask, k.held = g, pcp{}, nil, mapping{}
	}
	return g.check()
}

// try asks by the protocol that has worked, or by each.
func (k *keeper) try(ctx context.Context) error {
	list := []protocol{k.pcp.ask, natPMP, uPnP}
	if k.ask != nil {
		list = []protocol{k.ask}
	}
	var failed []error
	for _, ask := range list {
		m, err := ask(ctx, k.at, k.cfg.Port, k.held.external.Port())
		if err == nil {
			err = m.check()
		}
		if err == nil {
			m.life = min(max(m.life, leaseLeast), leaseMost)
			k.ask, k.held, k.end = ask, m, time.Now().Add(m.life)
			return nil
		}
		failed = append(failed, err)
	}
	if k.held.release == nil {
		k.ask = nil
	}
	return errors.Join(failed...)
}

// check refuses gateways for which there is nothing to do: one that is no host, and
// one behind which our address is everybody's.
func (g Gateway) check() error {
	switch {
	case !g.Addr.Is4() || g.Addr.IsUnspecified() || g.Addr.IsMulticast():
		return fmt.Errorf("the default route leads to no router with an address of version 4")
	case !g.Source.Is4() || !g.Source.IsPrivate() && !g.Source.IsLoopback() && !isShared(g.Source):
		return fmt.Errorf("our own address needs no mapping")
	}
	return nil
}

// isShared is 100.64.0.0/10, which providers number customers from (RFC 6598).
func isShared(a netip.Addr) bool {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10).Contains(a)
}

// check refuses what nobody could send to.
func (m mapping) check() error {
	a := m.external.Addr()
	if !a.Is4() || m.external.Port() == 0 || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return fmt.Errorf("the router says it forwards %v", m.external)
	}
	return nil
}

func (k *keeper) giveBack() {
	if k.held.release == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewellLimit)
	defer cancel()
	if err := k.held.release(ctx); err != nil {
		k.cfg.Logger.Debug("giving a mapping back", "error", err)
	}
}
