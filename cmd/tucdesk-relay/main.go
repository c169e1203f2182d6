// Command tucdesk-relay is a further relay beside the one in tucdesk-server. It
// forwards sealed datagrams between the two ends of a session and can open none.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/conf"
	"github.com/tucdesk/tucdesk/relay"
)

// config is relay.toml: these comments are its manual.
type config struct {
	// Listen is the local address, "ip:port", for UDP and TCP. On a machine with
	// several addresses name the one that is in the server's configuration.
	Listen string `toml:"listen"`

	// Secret is the file shared with the rendezvous server (relay.secret in its
	// state folder), copied here, mode 0600.
	Secret string `toml:"secret"`
}

const (
	defaultConfig = "/etc/tucdesk/relay.toml"
	maxConfig     = 16 << 10 // bytes; our choice
)

func load(path string) (relay.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return relay.Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	var c config
	if err := conf.Decode(data, &c, maxConfig); err != nil {
		return relay.Config{}, fmt.Errorf("%s: %v", path, err)
	}
	listen, err := netip.ParseAddrPort(c.Listen)
	if err != nil {
		return relay.Config{}, fmt.Errorf("%s: listen: want \"ip:port\"", path)
	}
	secret, err := loadSecret(c.Secret)
	return relay.Config{UDP: listen, TCP: listen, Secret: secret}, err
}

func run(ctx context.Context, io *cli.IO, path string) error {
	cfg, err := load(path)
	if err != nil {
		return err
	}
	cfg.Logger = slog.New(slog.NewTextHandler(io.Err, nil))
	r, err := relay.Start(ctx, cfg)
	if err != nil {
		return err
	}
	udp, _ := r.Addr()
	io.Say("relaying on %s", udp)
	return r.Run(ctx)
}

func main() {
	var path string
	os.Exit(cli.Main(context.Background(), &cli.Command{
		Use: "tucdesk-relay", Short: "forward sealed datagrams between the two ends of a session",
		Long: "Runs a relay beside the one in tucdesk-server. The configuration file has two keys, both needed:\n\n" +
			"  listen = \"192.0.2.20:3478\"              # local address for UDP and TCP\n" +
			"  secret = \"/etc/tucdesk/relay.secret\"    # copy of relay.secret in the server's state folder, mode 0600\n\n" +
			"List the relay under [[relay.external]] in server.toml; the server then runs none of its own.",
		Example: "tucdesk-relay --config /etc/tucdesk/relay.toml",
		Flags:   func(f *flag.FlagSet) { f.StringVar(&path, "config", defaultConfig, "configuration file") },
		Run:     func(ctx context.Context, io *cli.IO, _ []string) error { return run(ctx, io, path) },
	}, os.Args[1:]))
}
