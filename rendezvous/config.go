package rendezvous

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
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
	// Name is how the server calls itself: the setup string carries it into a
	// team's first roster, and it is the first part of the audit log's origin. 1 to
	// 63 of a-z, 0-9, "." and "-". A team keeps the one that it was founded with,
	// since logs are checked against it; another is for teams founded later.
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

	// RelayWeb serves the relay's WebSockets on this server's HTTPS port, at
	// /relay; nil where the relay runs elsewhere.
	RelayWeb http.Handler `toml:"-"`

	// Log receives the server's records; nil discards them. Records name ids
	// and machines, never people, tokens or content.
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

	// Listen is the local address of the relay in this process, UDP and TCP,
	// "ip:port" or ":port". Default ":3478".
	Listen string `toml:"listen"`

	// Secure is the local address of that relay for TLS and DTLS, "ip:port" or
	// ":port". Default: the host of Listen with port 5349; "off" is none. Clients
	// know it by this server's own TLS key.
	Secure string `toml:"secure"`

	// Public is "host:port" under which that relay is reached. Default: the host
	// of URL with the port of Listen. TLS and DTLS are under the same host.
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
	UDP       string `toml:"udp"`  // "host:port", like the next four
	TCP       string `toml:"tcp"`  //
	TLS       string `toml:"tls"`  // over TCP
	DTLS      string `toml:"dtls"` // over UDP
	WebSocket string `toml:"websocket"`
	// Key is what `tucdesk-relay pin` prints: 64 hex digits. TLS, DTLS and
	// WebSocket need it.
	Key string `toml:"key"`
}

func (x External) check() error {
	any := false
	for _, addr := range []string{x.UDP, x.TCP, x.TLS, x.DTLS, x.WebSocket} {
		if !emptyOrHostPort(addr) {
			return refusal.New(refusal.BadRequest, "%q is no \"host:port\"", addr)
		}
		any = any || addr != ""
	}
	switch _, err := key.ParseID(x.Key); {
	case !any:
		return refusal.New(refusal.BadRequest, "want udp = \"host:port\" or tcp, tls, dtls, websocket")
	case x.Key != "" && err != nil:
		return refusal.New(refusal.BadRequest, "key: want the 64 hex digits that tucdesk-relay pin prints")
	case x.Key == "" && x.TLS+x.DTLS+x.WebSocket != "":
		return refusal.New(refusal.BadRequest, "tls, dtls and websocket need the relay's key: tucdesk-relay pin prints it")
	}
	return nil
}

// endpoints are the relays as grants carry them.
func (c Config) endpoints() []wire.RelayEndpoint {
	list := make([]wire.RelayEndpoint, len(c.Endpoints))
	for i, e := range c.Endpoints {
		list[i] = e.endpoint()
	}
	return list
}

// endpoint is x as grants carry it; x was checked.
func (x External) endpoint() wire.RelayEndpoint {
	e := wire.RelayEndpoint{UDP: x.UDP, TCP: x.TCP, TLS: x.TLS, DTLS: x.DTLS, WebSocket: x.WebSocket}
	if x.Key != "" {
		e.Key, _ = key.ParseID(x.Key)
	}
	return e
}

// The files in the state folder beside the keys.
const (
	fileRelay    = "relay.secret"
	fileDatabase = "tucdesk.db"
)

const (
	defaultListen      = ":443"
	defaultRelayListen = ":3478"
	defaultSecurePort  = "5349" // RFC 8656, section 3.1
	secureOff          = "off"

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
	if c.Relay.Secure == "" {
		c.Relay.Secure = secureBeside(c.Relay.Listen)
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

// secureBeside is where the relay takes TLS unless told: a relay on a port that
// the system chooses has both so.
func secureBeside(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return secureOff
	}
	if port != "0" {
		port = defaultSecurePort
	}
	return net.JoinHostPort(host, port)
}

// SecureOff reports whether the relay in this process has no TLS and DTLS.
func (r Relay) SecureOff() bool { return r.Secure == secureOff }

// Check reports the first mistake in c, by the name of the key.
func (c Config) Check() error {
	if !policy.ValidAgentName(c.Name) {
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
		if err := x.check(); err != nil {
			return fmt.Errorf("relay.external %d: %w", i+1, err)
		}
	}
	for name, addr := range map[string]string{"listen": c.Listen, "relay.listen": c.Relay.Listen, "relay.public": c.Relay.Public} {
		if !emptyOrHostPort(addr) {
			return refusal.New(refusal.BadRequest, "%s: want \"host:port\"", name)
		}
	}
	if s := c.Relay.Secure; s != secureOff && !emptyOrHostPort(s) {
		return refusal.New(refusal.BadRequest, "relay.secure: want \"host:port\" or \"off\"")
	}
	return nil
}

// hostPort returns the host and port of URL, the port never empty.
func (c Config) hostPort() (string, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", refusal.New(refusal.BadRequest, "url: want https://host or https://host:port")
	}
	port := cmp.Or(u.Port(), "443")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 { // every proof would be made out to a port that nobody reaches
		return "", refusal.New(refusal.BadRequest, "url: port %q is none from 1 to 65535", port)
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
