package rendezvous

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/identity"
)

// Create makes the state folder dir with new keys for the server that cfg
// describes. It never touches a folder that has a key already, and nothing else
// ever makes one: a server whose disk was not mounted must not come up as another.
func Create(dir string, cfg Config) error {
	if err := cfg.Check(); err != nil {
		return err
	}
	if err := keyfile.CreateDir(dir); err != nil {
		return err
	}
	if there, err := identity.Created(dir); there || err != nil {
		if err == nil {
			err = fmt.Errorf("creating a server in %q: it has keys already", dir)
		}
		return err
	}
	host, err := cfg.hostPort()
	if err != nil {
		return err
	}
	name, _, _ := net.SplitHostPort(host)
	if err := identity.Create(dir, cfg.Name, name); err != nil {
		return err
	}
	if cfg.Relay.Secret != "" {
		return nil // it exists elsewhere, shared with the external relays
	}
	return identity.CreateSecret(filepath.Join(dir, fileRelay))
}

// Created reports whether dir has any of a server's keys.
func Created(dir string) (bool, error) { return identity.Created(dir) }

// WriteConfig writes cfg to a new file at path, mode 0600.
func WriteConfig(path string, cfg Config) error {
	if err := cfg.Check(); err != nil {
		return err
	}
	return keyfile.WriteNew(path, cfg.text())
}

// text writes the configuration that a first start was given. Strings are quoted
// by Go's rules, which for printable ASCII are TOML's.
func (c Config) text() []byte {
	var b bytes.Buffer
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s = %s\n", key, strconv.QuoteToASCII(value))
		}
	}
	line("name", c.Name)
	line("url", c.URL)
	line("listen", c.Listen)
	line("database", c.Database)
	if c.Relay.Secret+c.Relay.Listen+c.Relay.Secure+c.Relay.Public != "" || c.Relay.Lifetime != 0 || len(c.Relay.External) > 0 {
		b.WriteString("\n[relay]\n")
		line("secret", c.Relay.Secret)
		line("listen", c.Relay.Listen)
		line("secure", c.Relay.Secure)
		line("public", c.Relay.Public)
		if c.Relay.Lifetime != 0 {
			fmt.Fprintf(&b, "lifetime = %d\n", c.Relay.Lifetime)
		}
	}
	for _, x := range c.Relay.External {
		b.WriteString("\n[[relay.external]]\n")
		line("udp", x.UDP)
		line("tcp", x.TCP)
		line("tls", x.TLS)
		line("dtls", x.DTLS)
		line("websocket", x.WebSocket)
		line("key", x.Key)
	}
	return b.Bytes()
}

// CheckState reports the first thing that would keep a server with this
// configuration from starting: a key that is missing or open to others. It
// changes nothing.
func CheckState(cfg Config) error {
	cfg = cfg.WithDefaults()
	if err := cfg.Check(); err != nil {
		return err
	}
	if _, err := identity.Load(cfg.State); err != nil {
		return err
	}
	_, err := identity.LoadSecret(cfg.Relay.Secret)
	return err
}

// SecretError is of the secret shared with the relays, in the file that it names.
type SecretError = identity.SecretError

// LoadRelaySecret reads the secret shared with the relays from the file path,
// mode 0600. Its error is a *SecretError.
func LoadRelaySecret(path string) (credential.Secret, error) { return identity.LoadSecret(path) }
