// Command tucdesk-relay is a further relay beside the one in tucdesk-server. It
// forwards sealed datagrams between the two ends of a session and can open none.
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/relay/hop"
)

const defaultConfig = "/etc/tucdesk/relay.toml"

func root() *cli.Command {
	var path string
	var asJSON bool
	var inLab lab
	flags := func(f *flag.FlagSet) { f.StringVar(&path, "config", defaultConfig, "configuration `FILE`") }
	answers := func(f *flag.FlagSet) { flags(f); f.BoolVar(&asJSON, "json", false, cli.JSONUsage) }
	return &cli.Command{
		Use: "tucdesk-relay", Short: "Forward sealed datagrams between the two ends of a session",
		Long: "Runs a relay beside the one in tucdesk-server. The first two keys of the configuration file are needed:\n\n" +
			"  listen = \"192.0.2.20:3478\"              # local address for UDP and TCP\n" +
			"  secret = \"/etc/tucdesk/relay.secret\"    # copy of relay.secret in the server's state folder, mode 0600\n" +
			"  secure = \"192.0.2.20:5349\"              # local address for DTLS and TLS, with WebSockets on TLS\n" +
			"  key    = \"/etc/tucdesk/relay.key\"       # made by \"tucdesk-relay create-key\"; needed with secure\n\n" +
			"List the relay under [[relay.external]] in server.toml; the server then runs none of its own. On SIGHUP it reads the\n" +
			"secret again, and takes the one before it until the next time.\n\n" +
			"Lab mode, for interoperability tests with other TURN programs and not for production: with --allow-peer allocations are\n" +
			"not paired. Each opens a real socket on the address of \"listen\", which exchanges datagrams with the listed networks only.\n" +
			"It does not start on an address other than loopback without --lab-public.\n\n" +
			"Exit status: 0 when it was told to stop, 2 wrong command line, 1 anything else.",
		Example: "tucdesk-relay --config /etc/tucdesk/relay.toml\ntucdesk-relay --config lab.toml --allow-peer 127.0.0.0/8",
		Flags:   func(f *flag.FlagSet) { flags(f); inLab.flags(f) },
		Run:     func(ctx context.Context, io *cli.IO, _ []string) error { return run(ctx, io, path, &inLab) },
		Sub: []*cli.Command{
			{
				Use: "create-key", Short: "Make the key of the secure address, once",
				Long:    "Writes a new key to the file that the configuration names, mode 0600, and prints its pin. A key that exists is kept.",
				Example: "tucdesk-relay create-key --config /etc/tucdesk/relay.toml",
				Flags:   answers,
				Run: func(_ context.Context, io *cli.IO, _ []string) error {
					return printPin(io, path, hop.Create, asJSON)
				},
			},
			{
				Use: "pin", Short: "Print the pin of the secure address, for the server's configuration",
				Long:    "The pin is the SHA-256 of the key's SubjectPublicKeyInfo. Clients get it in their grants and accept no other key.",
				Example: "tucdesk-relay pin --config /etc/tucdesk/relay.toml",
				Flags:   answers,
				Run: func(_ context.Context, io *cli.IO, _ []string) error {
					return printPin(io, path, hop.Load, asJSON)
				},
			},
		},
	}
}

func main() {
	// Not cli.Main, which ends at SIGHUP too.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends the program the hard way
	os.Exit(cli.Run(ctx, &cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, root(), os.Args[1:]))
}
