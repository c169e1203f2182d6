package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/conf"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/relay"
	"github.com/tucdesk/tucdesk/relay/hop"
	"github.com/tucdesk/tucdesk/rendezvous"
)

// firstStart is what a server must be told once.
type firstStart struct {
	url, name, listen string
}

func (f *firstStart) flags(set *flag.FlagSet) {
	set.StringVar(&f.url, "url", "", "first start: `ADDRESS` of this server, https://HOST or https://HOST:PORT")
	set.StringVar(&f.name, "name", "", "first start: `NAME` of this server, a-z, 0-9, . and - (default the host of --url)")
	set.StringVar(&f.listen, "listen", "", "first start: local `HOST:PORT` to listen on (default :443, or the port of --url)")
}

// load reads the configuration; a missing file matches fs.ErrNotExist.
func load(at place) (rendezvous.Config, error) {
	cfg := rendezvous.Config{State: at.state}
	data, err := os.ReadFile(at.file())
	if errors.Is(err, fs.ErrNotExist) {
		return cfg, noServer(at, fmt.Errorf("reading the configuration: %w", err))
	}
	if err != nil {
		return cfg, fmt.Errorf("reading the configuration: %w", err)
	}
	if err := conf.Decode(data, &cfg, rendezvous.MaxConfig); err != nil {
		return cfg, wrongConfig(at, fmt.Errorf("%s: %v", at.file(), err))
	}
	if err := cfg.Check(); err != nil {
		return cfg, wrongConfig(at, err)
	}
	_, _, err = relayAddrs(cfg.WithDefaults())
	return cfg, wrongConfig(at, err)
}

// wrongConfig adds to err what to do after it was mended; nil stays nil.
func wrongConfig(at place, err error) error {
	if err == nil {
		return nil
	}
	return &cli.Error{Err: err, Exit: cli.ExitFailed, Hints: []string{
		fmt.Sprintf("mend that in %q; to try it without starting: tucdesk-server check, with the same --state and --config", at.file()),
		"every key there is: tucdesk-server check --help"}}
}

// noServer tells what may be wrong where nothing was found.
func noServer(at place, err error) error {
	return &cli.Error{Err: err, Hints: []string{
		"first start: tucdesk-server run --url https://HOST", fmt.Sprintf("otherwise check that %q is mounted, or name another folder with --state", at.state)}}
}

// checkURL reads what --url says before anything is made: clients keep the address
// for as long as there is a team.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.Path == "" && u.RawQuery == "" && u.Fragment == "" && !u.ForceQuery {
		if u.Port() == "" && !strings.HasSuffix(u.Host, ":") {
			return nil
		}
		if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil && port > 0 {
			return nil
		}
	}
	return &cli.Error{Err: fmt.Errorf("--url %q is no address of a server", text), Exit: cli.ExitUsage, Hints: []string{
		"https://HOST or https://HOST:PORT, with a port from 1 to 65535 and nothing behind it"}}
}

// loadOrCreate makes keys, and a configuration where there is none, only when it
// was told the server's address: a disk that is not mounted must not become a new
// server that every agent refuses.
func loadOrCreate(at place, first firstStart) (rendezvous.Config, error) {
	if first.url != "" {
		if err := checkURL(first.url); err != nil {
			return rendezvous.Config{}, err
		}
	}
	created, err := rendezvous.Created(at.state)
	if err != nil {
		return rendezvous.Config{}, err
	}
	cfg, err := load(at)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case created && first.url != "" && first.url != cfg.URL:
		return cfg, otherURL(at, cfg.URL)
	case created || err != nil && !missing:
		return cfg, err
	case first.url == "":
		return cfg, noServer(at, fmt.Errorf("no server in %q", at.state))
	case !missing && first.url != cfg.URL:
		return cfg, otherURL(at, cfg.URL)
	}
	if missing {
		cfg = first.config(at)
	}
	if err := rendezvous.Create(at.state, cfg); err != nil {
		return cfg, err
	}
	if !missing {
		return cfg, nil
	}
	return cfg, rendezvous.WriteConfig(at.file(), cfg)
}

// otherURL refuses an address that is not the one in the configuration: teams that were
// founded pin it.
func otherURL(at place, have string) error {
	return &cli.Error{Err: fmt.Errorf("--url is for the first start, and %q has the address %s", at.file(), have), Hints: []string{
		"leave --url out: tucdesk-server run", "a second server has a folder of its own: --state DIR"}}
}

func (f firstStart) config(at place) rendezvous.Config {
	cfg := rendezvous.Config{State: at.state, URL: f.url, Name: f.name, Listen: f.listen}
	u, err := url.Parse(f.url)
	if err != nil {
		return cfg // it was checked
	}
	if cfg.Name == "" {
		cfg.Name = u.Hostname()
	}
	if cfg.Listen == "" && u.Port() != "" { // else clients would knock where nobody listens
		cfg.Listen = ":" + u.Port()
	}
	return cfg
}

// run serves, with a relay beside it unless relays run elsewhere.
func run(ctx context.Context, io *cli.IO, at place, first firstStart) error {
	cfg, err := loadOrCreate(at, first)
	if err != nil {
		return err
	}
	cfg.Log = slog.New(slog.NewTextHandler(io.Err, nil))
	cfg = cfg.WithDefaults()
	group, ctx := errgroup.WithContext(ctx)
	if cfg.Endpoints = cfg.Relay.External; len(cfg.Endpoints) == 0 {
		r, err := startRelay(ctx, &cfg)
		if err != nil {
			return cli.Listening(err)
		}
		group.Go(func() error { return r.Run(ctx) })
	}
	announce(cfg)
	group.Go(func() error { return rendezvousBeside(ctx, io, cfg) })
	err = group.Wait() // the failure of one ends the other
	if err == nil {
		cfg.Log.Info("server stopped")
	}
	return err
}

func rendezvousBeside(ctx context.Context, io *cli.IO, cfg rendezvous.Config) error {
	s, err := rendezvous.Open(ctx, cfg)
	if err != nil {
		return cli.Listening(err)
	}
	if err := greet(ctx, io, s); err != nil {
		return errors.Join(noAnswer(err), s.Close())
	}
	return s.Run(ctx)
}

// about adds to err, by which command ended, what to do where it comes from a file in the
// state folder: one of another user, or one that is open to others.
func (p place) about(command string, err error) error {
	var told *cli.Error
	var network *net.OpError // ports and databases are denied as well
	denied := errors.Is(err, fs.ErrPermission) && !errors.As(err, &told) && !errors.As(err, &network)
	if !denied && refusal.Of(err) != refusal.BadFileMode {
		return err
	}
	if hint := cli.AsOwner(p.state, p.typed(command)); hint != "" {
		return &cli.Error{Err: err, Hints: []string{hint}}
	}
	if hint := cli.GiveBack(p.state); denied && hint != "" {
		return &cli.Error{Err: err, Hints: []string{hint}}
	}
	return aboutFile(err)
}

// typed is command as a person has to type it for this place.
func (p place) typed(command string) string {
	text := "tucdesk-server " + command
	if p.state != defaultState {
		text += " --state " + terminal.Quote([]byte(p.state))
	}
	if p.config != "" {
		text += " --config " + terminal.Quote([]byte(p.config))
	}
	return text
}

// aboutFile adds to err, of a file in the state folder that is open to others, what to
// do: none of them holds a key that could be revoked.
func aboutFile(err error) error {
	if bad := new(rendezvous.SecretError); errors.As(err, &bad) {
		return cli.RelaySecret(err, bad.File)
	}
	if refusal.Of(err) == refusal.BadFileMode {
		return &cli.Error{Err: err, Hints: []string{
			"if somebody else could read a key of this server: it opens no session and signs no roster, but whoever has it can pass for this server",
			"a team keeps its server's keys, so a new key is a new server, with an empty state folder, and a team founded anew",
		}}
	}
	return err
}

// announce logs where clients are sent, as "tucdesk netcheck" shows it to them: the
// WebSockets of the relay beside this server are on the server's own port, of which
// the relay's line knows nothing.
func announce(cfg rendezvous.Config) {
	for _, e := range cfg.Endpoints {
		at := []any{}
		for _, way := range [][2]string{{"udp", e.UDP}, {"tcp", e.TCP}, {"tls", e.TLS}, {"dtls", e.DTLS}, {"websocket", e.WebSocket}} {
			at = append(at, way[0], cmp.Or(way[1], "off"))
		}
		cfg.Log.Info("clients are told of a relay", at...)
	}
}

// startRelay starts the relay beside the server and tells the server about it. It
// has the server's TLS key, so that clients need to know one key only.
func startRelay(ctx context.Context, cfg *rendezvous.Config) (*relay.Server, error) {
	secret, err := cfg.OpenRelaySecret()
	if err != nil {
		return nil, err
	}
	listen, secure, err := relayAddrs(*cfg)
	if err != nil {
		return nil, err
	}
	cert, err := cfg.OpenCertificate()
	if err != nil {
		return nil, err
	}
	id, err := hop.Of(cert)
	if err != nil {
		return nil, err
	}
	r, err := relay.Start(ctx, relay.Config{UDP: listen, TCP: listen, TLS: secure, DTLS: secure, Identity: id, Secret: secret, Logger: cfg.Log})
	if err != nil {
		return nil, err
	}
	cfg.RelayWeb = r.WebSocket()
	cfg.Endpoints = []rendezvous.External{endpoint(*cfg, r, id)}
	return r, nil
}

// endpoint is where clients find the relay beside this server: under its public
// name, by the ports that it listens on, and by the server's own.
func endpoint(cfg rendezvous.Config, r *relay.Server, id *hop.Identity) rendezvous.External {
	host, port, _ := net.SplitHostPort(cfg.Relay.Public) // checked, or made from what was
	on := r.Addrs()
	if port == "0" {
		port = strconv.Itoa(int(on.UDP.Port()))
	}
	e := rendezvous.External{UDP: net.JoinHostPort(host, port), TCP: net.JoinHostPort(host, port), Key: id.Pin().String()}
	if on.TLS.IsValid() {
		e.TLS = net.JoinHostPort(host, strconv.Itoa(int(on.TLS.Port())))
		e.DTLS = net.JoinHostPort(host, strconv.Itoa(int(on.DTLS.Port())))
	}
	if u, err := url.Parse(cfg.URL); err == nil {
		e.WebSocket = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443"))
	}
	return e
}

// relayAddrs are where the relay beside the server listens, secure the zero address
// where it has no TLS and DTLS, and both where relays run elsewhere. cfg has its
// defaults. An error names the key.
func relayAddrs(cfg rendezvous.Config) (listen, secure netip.AddrPort, err error) {
	if len(cfg.Relay.External) > 0 {
		return listen, secure, nil
	}
	if listen, err = addrPort(cfg.Relay.Listen); err != nil {
		return listen, secure, fmt.Errorf("relay.listen: %v", err)
	}
	if cfg.Relay.SecureOff() {
		return listen, secure, nil
	}
	if secure, err = addrPort(cfg.Relay.Secure); err != nil {
		return listen, secure, fmt.Errorf("relay.secure: %v", err)
	}
	return listen, secure, nil
}

// addrPort reads "ip:port" or ":port", which is every address of both families. A name
// is refused: it may have several addresses, or others tomorrow.
func addrPort(s string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		at, err := netip.ParseAddrPort(net.JoinHostPort(cmp.Or(host, "::"), port))
		if err == nil {
			return at, nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%q is neither \"ip:port\" nor \":port\"", s)
}

// greet prints the setup string while there is no team, and nothing else to
// stdout, so that a script can take it.
func greet(ctx context.Context, io *cli.IO, s *rendezvous.Server) error {
	io.Say("serving on %s", s.Addr())
	founded, err := s.Founded(ctx)
	if err != nil || founded {
		return err
	}
	text, err := s.SetupString(ctx)
	if err != nil {
		return err
	}
	if f, ok := io.Out.(*os.File); ok && terminal.IsTerminal(f) {
		io.Say("no team yet; its owner founds one with this string, once, within a day:")
	} else { // with the string in a file, a colon would announce nothing
		io.Say("no team yet; its owner founds one with the setup string, once, within a day; it was written to standard output")
	}
	return io.Print("%s", text)
}

// noAnswer says what to do where err is the database's silence, which by its code would
// read as a server that somebody else cannot reach; other errors stay as they are.
func noAnswer(err error) error {
	if refusal.Of(err) != refusal.Unavailable {
		return err
	}
	return &cli.Error{Err: err, Exit: cli.ExitFailed, Hints: []string{"is the database running, and does \"database\" in the configuration lead to it?"}}
}

// setupCode opens the database beside a running server, not its port.
func setupCode(ctx context.Context, io *cli.IO, at place) error {
	cfg, err := load(at)
	if err != nil {
		return err
	}
	text, err := rendezvous.SetupString(ctx, cfg)
	if err != nil {
		return noAnswer(err)
	}
	return io.Print("%s", text)
}

// checked is the answer of check --json, where all is in order. The names stay; a field
// may be added.
type checked struct {
	Config string `json:"config"` // file
	State  string `json:"state"`  // folder
}

func check(io *cli.IO, at place, asJSON bool) error {
	cfg, err := load(at)
	if err != nil {
		return err
	}
	if err := rendezvous.CheckState(cfg); err != nil {
		return err
	}
	if asJSON {
		return io.PrintJSON(checked{at.file(), at.state})
	}
	io.Say("%s and the keys in %s are in order", at.file(), at.state)
	return nil
}
