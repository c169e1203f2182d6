package rendezvous

import (
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
)

// MaxConfig is the size limit of a configuration file in bytes; our choice.
const MaxConfig = 64 << 10

// ConfigFile is the name of the configuration in the state folder, where the
// program looks for it unless it is told another place.
const ConfigFile = "server.toml"

// Config is what a server must be told. It is the content of server.toml: these
// comments are its manual, and a key that is not here is an error.
type Config struct {
	// Name is how the server calls itself, in the roster and as the first part
	// of the audit log's origin. 1 to 63 of a-z, 0-9, "." and "-". It cannot be
	// changed later: logs are checked against it.
	Name string `toml:"name"`

	// URL is the address under which operators and agents reach the server,
	// "https://host" or "https://host:port" and nothing behind it. Every proof
	// is made out to this host and port, so there is exactly one.
	URL string `toml:"url"`

	// Listen is the local address of API and control channel, "host:port" or
	// ":port". Default ":443". TLS ends in this process: the channel bindings
	// of logins and registrations do not survive a proxy that terminates TLS.
	Listen string `toml:"listen"`

	// Database is "sqlite:PATH" or a "postgres://" address. Default: the file
	// tucdesk.db in the state folder. Keep a PostgreSQL password out of this
	// file: the address takes "passfile=PATH".
	Database string `toml:"database"`

	// Relay says which relays sessions use.
	Relay Relay `toml:"relay"`

	// State is the folder of keys and database, mode 0700. It is given on the
	// command line, not in the file that lies in it.
	State string `toml:"-"`

	// Listener is used instead of Listen when not nil. The server closes it.
	Listener net.Listener `toml:"-"`

	// Endpoints are the relays that grants name, in order of preference, at
	// most wire.MaxRelayEndpoints. Whoever starts the relay fills them in;
	// without any, no session can be opened.
	Endpoints []External `toml:"-"`

	// Log receives the server's records; nil discards them. Records name ids,
	// never people, tokens or content.
	Log *slog.Logger `toml:"-"`
}

// Relay is the [relay] table of the configuration.
type Relay struct {
	// External lists relays that run elsewhere, in order of preference. With at
	// least one, this process runs no relay of its own.
	External []External `toml:"external"`

	// Secret is the file with the secret that the server shares with its
	// relays, mode 0600. Default: relay.secret in the state folder. For external
	// relays, copy it to each of them.
	Secret string `toml:"secret"`

	// Listen is the local address of the relay in this process, UDP and TCP.
	// Default ":3478".
	Listen string `toml:"listen"`

	// Public is "host:port" under which that relay is reached. Default: the host
	// of URL with the port of Listen.
	Public string `toml:"public"`

	// Lifetime is how many seconds a relay credential lives, 60 to 3600. Default
	// 3600. Sessions that last longer renew theirs in time, so this is how long
	// one goes on over the relay without this server, and how long a stolen one
	// is worth something.
	Lifetime int `toml:"lifetime"`

	// LifetimeForTest, if not 0, is used instead of Lifetime, without its limits.
	LifetimeForTest time.Duration `toml:"-"`
}

// lifetime of a credential; r has its defaults filled in.
func (r Relay) lifetime() time.Duration {
	if r.LifetimeForTest > 0 {
		return r.LifetimeForTest
	}
	return time.Duration(r.Lifetime) * time.Second
}

// External is one relay that runs elsewhere. At least one address is set.
type External struct {
	UDP string `toml:"udp"` // "host:port"
	TCP string `toml:"tcp"` // "host:port"
}

// The files in the state folder.
const (
	fileAccess   = "access.key"
	fileGrant    = "grant.key"
	fileAudit    = "audit.key"
	fileTLSKey   = "tls.key"
	fileTLSCert  = "tls.crt"
	fileRelay    = "relay.secret"
	fileDatabase = "tucdesk.db"
)

const (
	defaultListen      = ":443"
	defaultRelayListen = ":3478"

	// minLifetime leaves time for several attempts to renew a credential; our
	// choice. The upper bound is protocol 6.2's.
	minLifetime = 60 * time.Second
)

// WithDefaults returns c with every empty field that has a default filled in.
func (c Config) WithDefaults() Config {
	if c.Listen == "" {
		c.Listen = defaultListen
	}
	if c.Database == "" {
		c.Database = "sqlite:" + filepath.Join(c.State, fileDatabase)
	}
	if c.Relay.Secret == "" {
		c.Relay.Secret = filepath.Join(c.State, fileRelay)
	}
	if c.Relay.Listen == "" {
		c.Relay.Listen = defaultRelayListen
	}
	if c.Relay.Lifetime == 0 {
		c.Relay.Lifetime = int(credential.MaxLifetime / time.Second)
	}
	if host, err := c.hostPort(); err == nil && c.Relay.Public == "" {
		name, _, _ := net.SplitHostPort(host)
		if _, port, err := net.SplitHostPort(c.Relay.Listen); err == nil {
			c.Relay.Public = net.JoinHostPort(name, port)
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Check reports the first mistake in c, by the name of the key.
func (c Config) Check() error {
	if !validName(c.Name) {
		return refusal.New(refusal.BadName, "name: want 1 to 63 of a-z, 0-9, \".\" and \"-\", the first a letter or digit")
	}
	if _, err := c.hostPort(); err != nil {
		return err
	}
	if len(c.Relay.External) > wire.MaxRelayEndpoints {
		return refusal.New(refusal.TooMany, "relay.external: at most %d relays", wire.MaxRelayEndpoints)
	}
	if l := c.Relay.Lifetime; l != 0 && (l < int(minLifetime/time.Second) || l > int(credential.MaxLifetime/time.Second)) {
		return refusal.New(refusal.BadRequest, "relay.lifetime: want %d to %d seconds", minLifetime/time.Second, credential.MaxLifetime/time.Second)
	}
	for i, x := range c.Relay.External {
		if x.UDP == "" && x.TCP == "" || !emptyOrHostPort(x.UDP) || !emptyOrHostPort(x.TCP) {
			return refusal.New(refusal.BadRequest, "relay.external %d: want udp = \"host:port\" or tcp = \"host:port\"", i+1)
		}
	}
	for key, addr := range map[string]string{"listen": c.Listen, "relay.listen": c.Relay.Listen, "relay.public": c.Relay.Public} {
		if !emptyOrHostPort(addr) {
			return refusal.New(refusal.BadRequest, "%s: want \"host:port\"", key)
		}
	}
	return nil
}

// hostPort returns the host and port of URL, the port never empty.
func (c Config) hostPort() (string, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", refusal.New(refusal.BadRequest, "url: want https://host or https://host:port")
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

func emptyOrHostPort(s string) bool {
	if s == "" {
		return true
	}
	_, port, err := net.SplitHostPort(s)
	return err == nil && port != ""
}

func validName(s string) bool {
	if len(s) < 1 || len(s) > 63 || strings.ContainsAny(s[:1], ".-") {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return false
		}
	}
	return true
}
