package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/conf"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/relay"
	"github.com/tucdesk/tucdesk/relay/hop"
)

// config is relay.toml: these comments are its manual.
type config struct {
	// Listen is the local address, "ip:port", for UDP and TCP. On a machine with
	// several addresses name the one that is in the server's configuration.
	Listen string `toml:"listen"`

	// Secret is the file shared with the rendezvous server (relay.secret in its
	// state folder), copied here, mode 0600.
	Secret string `toml:"secret"`

	// Secure is the local address, "ip:port", for DTLS over UDP and TLS over TCP;
	// WebSockets are served on TLS, at /relay. Empty leaves them off.
	Secure string `toml:"secure"`

	// Key is the file of the key behind Secure, as made by create-key.
	Key string `toml:"key"`
}

const manual = "what has to be in it: tucdesk-relay --help"

const secretHint = "copy relay.secret from the server's state folder to this machine, mode 0600, and name it in the configuration"

const maxConfig = 16 << 10 // bytes; our choice

func read(path string) (c config, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, &cli.Error{Err: fmt.Errorf("no configuration: %w", err), Hints: []string{
			manual, "one in another place: --config FILE"}}
	}
	if err != nil {
		return c, fmt.Errorf("reading the configuration: %w", err)
	}
	if err := conf.Decode(data, &c, maxConfig); err != nil {
		return c, &cli.Error{Err: fmt.Errorf("%s: %v", path, err), Hints: []string{manual}}
	}
	return c, nil
}

func load(path string) (relay.Config, error) {
	c, err := read(path)
	if err != nil {
		return relay.Config{}, err
	}
	listen, err := netip.ParseAddrPort(c.Listen)
	if err != nil {
		return relay.Config{}, &cli.Error{Err: fmt.Errorf("%s: listen: %q is not \"ip:port\"", path, c.Listen), Hints: []string{"as in: listen = \"192.0.2.20:3478\", with a port from 1 to 65535", manual}}
	}
	cfg := relay.Config{UDP: listen, TCP: listen}
	if c.Secret == "" {
		return cfg, &cli.Error{Err: fmt.Errorf("%s: secret: want the name of a file", path), Hints: []string{secretHint}}
	}
	if cfg.Secret, err = loadSecret(c.Secret); errors.Is(err, fs.ErrNotExist) {
		return cfg, &cli.Error{Err: err, Hints: []string{secretHint}}
	}
	if err != nil || c.Secure == "" {
		return cfg, cli.RelaySecret(err, c.Secret)
	}
	if c.Key == "" {
		return cfg, &cli.Error{Err: fmt.Errorf("%s: key: want the name of a file, since secure is set", path), Hints: []string{"then make it, once: tucdesk-relay create-key"}}
	}
	if cfg.TLS, err = netip.ParseAddrPort(c.Secure); err != nil {
		return cfg, &cli.Error{Err: fmt.Errorf("%s: secure: %q is not \"ip:port\"", path, c.Secure), Hints: []string{"as in: secure = \"192.0.2.20:5349\", with a port from 1 to 65535", manual}}
	}
	cfg.DTLS, cfg.WebSocket = cfg.TLS, true
	cfg.Identity, err = hop.Load(c.Key)
	return cfg, aboutKey(err)
}

// aboutKey adds to err, of the file that "key" names, what to do.
func aboutKey(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &cli.Error{Err: err, Hints: []string{"tucdesk-relay create-key makes one, at the place that \"key\" names"}}
	case errors.Is(err, fs.ErrExist):
		return &cli.Error{Err: err, Hints: []string{"the key is there already: tucdesk-relay pin", "to replace it remove the file, and put the new pin into the server's configuration"}}
	case refusal.Of(err) == refusal.BadFileMode: // it is no key that could be revoked
		return &cli.Error{Err: err, Hints: []string{"if somebody else could read it, remove the file; tucdesk-relay create-key makes another, whose pin goes into the server's configuration",
			"until then whoever has read it can pass for this relay, and still opens no session"}}
	}
	return err
}

// noKey says what to write into a configuration that names no key.
func noKey(path string) error {
	return &cli.Error{Err: fmt.Errorf("%s: key: want the name of a file", path), Hints: []string{"as in: key = \"/etc/tucdesk/relay.key\"", manual}}
}

// pinned is the answer of create-key and pin with --json. The names stay; a field may
// be added.
type pinned struct {
	Pin string `json:"pin"` // of the secure address
}

// printPin prints that of the key which get makes or reads at the place that the
// configuration names.
func printPin(io *cli.IO, path string, get func(key string) (*hop.Identity, error), asJSON bool) error {
	c, err := read(path)
	if err != nil {
		return err
	}
	if c.Key == "" {
		return noKey(path)
	}
	id, err := get(c.Key)
	switch {
	case err != nil:
		return aboutKey(err)
	case asJSON:
		return io.PrintJSON(pinned{id.Pin().String()})
	}
	return io.Print("%s", id.Pin())
}

func run(ctx context.Context, io *cli.IO, path string, inLab *lab) error {
	cfg, err := load(path)
	if err == nil {
		err = inLab.apply(&cfg)
	}
	if err != nil {
		return err
	}
	cfg.Logger = slog.New(slog.NewTextHandler(io.Err, nil))
	r, err := relay.Start(ctx, cfg)
	if err != nil {
		return inLab.advise(err)
	}
	at := r.Addrs()
	io.Say("relaying on %s", at.UDP)
	if cfg.Identity != nil {
		io.Say("and, with the key %v, on %s", cfg.Identity.Pin(), at.TLS)
	}
	if cfg.Lab != nil {
		io.Say("in lab mode: sockets of allocations reach %s; this is no relay for sessions", &inLab.peers)
	}
	ctx, stop := context.WithCancel(ctx)
	var reloader sync.WaitGroup
	reloader.Go(func() { reload(ctx, r, path, cfg.Logger) })
	defer reloader.Wait()
	defer stop()
	return r.Run(ctx)
}

// reload reads the secret again at every SIGHUP. What cannot be read changes
// nothing: a relay without its secret would refuse everybody.
func reload(ctx context.Context, r *relay.Server, path string, log *slog.Logger) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		cfg, err := load(path)
		switch {
		case err != nil:
			log.Warn("the secret is kept, for the new one cannot be read", "error", err)
		case r.Rotate(cfg.Secret):
			log.Info("the secret has been replaced; the one before it is still taken")
		default:
			log.Info("the secret is the one in use")
		}
	}
}
