// Package client speaks to a rendezvous server: the API for operators, the
// control channel for agents.
//
// The server is not trusted. It is recognised by the pinned hash of its TLS key
// (TLSConfig), whatever it answers is read with limits, and no answer is believed
// further than the statements in it can be verified, which is the caller's part.
//
//	operator  New -> Login -> calls; every sensitive call is signed here (protocol 4.2)
//	agent     DialControl -> Receive, Send (protocol 2.11)
//
// The server is reached through the proxy that package proxies finds in the
// environment, as relays are: by CONNECT or SOCKS5, so it sees sealed bytes. A proxy
// that is itself reached by TLS is refused, because its key is not the pinned one.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/proxies"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/sparse"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Limits of one call; our choice.
const (
	DialTimeout   = 10 * time.Second // to a connected socket
	TLSTimeout    = 10 * time.Second // to a finished TLS handshake
	CallTimeout   = 30 * time.Second // one call, unless it waits for people
	MaxAnswer     = 16 << 20         // bytes of one answer: two rosters of the largest size and a policy
	MaxProblem    = 16 << 10         // bytes of an answer that is not 2xx
	idleTimeout   = 60 * time.Second // a kept connection without calls
	maxHeader     = 32 << 10         // bytes of an answer's header
	exporterLabel = wire.ExporterLabel
)

// Config says which server, and how it is recognised.
type Config struct {
	// URL is the server's address, "https://host" or "https://host:port",
	// nothing behind it. It comes from a join token, a team string or the roster.
	URL string
	// Pin is the SHA-256 of the server's SubjectPublicKeyInfo.
	Pin key.Hash
	// Access is the id of the server's access key. Logins, proofs and
	// registrations name it, so that they are worth nothing elsewhere.
	Access key.ID
	// Dial replaces the net.Dialer when not nil; "network" is "tcp".
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// host returns "host:port" as dialled, which is part of every proof.
func (c Config) host() (string, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return "", refusal.New(refusal.BadRequest, "server address %q: want https://host or https://host:port", c.URL)
	}
	if port := u.Port(); port != "" {
		return net.JoinHostPort(u.Hostname(), port), nil
	}
	return net.JoinHostPort(u.Hostname(), "443"), nil
}

// transport makes one with our limits. It speaks HTTP/1.1 alone, as servers do.
func (c Config) transport() *http.Transport {
	dial := c.Dial
	if dial == nil {
		// No TCP keep-alive: heartbeats do its work, and every probe wakes a phone line.
		dial = (&net.Dialer{Timeout: DialTimeout, KeepAlive: -1}).DialContext
	}
	conf := TLSConfig(c.Pin)
	conf.NextProtos = []string{"http/1.1"}
	t := &http.Transport{
		Proxy:                  proxies.Environment().Choose(),
		DialContext:            dial,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    TLSTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true, // an answer's size limit must hold for what we decode
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return t
}

// Client makes an operator's calls. It is safe for concurrent use.
type Client struct {
	base     string // "https://host:port", no slash behind
	audience string // what proofs are made out to
	access   key.ID
	http     *http.Client
}

// New checks cfg; nothing is dialled yet.
func New(cfg Config) (*Client, error) {
	host, err := cfg.host()
	if err != nil {
		return nil, err
	}
	return &Client{
		base:     "https://" + host,
		audience: Audience(cfg.Access, host),
		access:   cfg.Access,
		http:     &http.Client{Transport: cfg.transport(), CheckRedirect: noRedirects},
	}, nil
}

// Audience is the text in a proof's aud: which server, under which name
// (protocol 4.2). hostport always has its port.
func Audience(access key.ID, hostport string) string { return access.String() + "@" + hostport }

// noRedirects keeps tokens and proofs where they were meant to go.
func noRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Close drops idle connections. Calls under way go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call is one request before it is signed.
type call struct {
	method string
	target string // path and raw query exactly as sent
	body   any    // nil for none
	cred   *Credentials
	proof  *wire.Proof // context and session filled in; nil when the route wants none
}

// do makes one call and decodes the answer into reply, which may be nil.
func (c *Client) do(ctx context.Context, k call, reply any) error {
	resp, err := c.send(ctx, k)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decodeAnswer(resp.Body, reply)
}

// send makes one call and returns a 2xx answer whose body the caller reads with
// a limit and closes; every other status is an error.
func (c *Client) send(ctx context.Context, k call) (*http.Response, error) {
	body, err := encodeBody(k.body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, k.method, c.base+k.target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("making a call to %q: %v", k.target, err)
	}
	if err := c.sign(req, k, body); err != nil {
		return nil, err
	}
	return c.exchange(req)
}

func (c *Client) exchange(req *http.Request) (*http.Response, error) {
	req.Header.Set("Accept", "application/json")
	if req.Method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(req.Context(), c.base, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readProblem(resp)
}

func encodeBody(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding a call: %v", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// someElements is how many elements of lists in one answer or frame may be of any size;
// see package sparse. Our choice.
const someElements = 1024

// decodeAnswer is lenient towards unknown fields: a newer server may say more.
func decodeAnswer(r io.Reader, reply any) error {
	raw, err := io.ReadAll(io.LimitReader(r, MaxAnswer+1))
	switch {
	case err != nil:
		return refusal.New(refusal.Unreachable, "the server's answer broke off")
	case len(raw) > MaxAnswer:
		return refusal.New(refusal.TooLarge, "the server's answer has more than %d bytes", MaxAnswer)
	case reply == nil:
		return nil
	case !sparse.Lists(raw, someElements):
		return refusal.New(refusal.TooLarge, "the server's answer has more elements in its lists than its size can have")
	case json.Unmarshal(raw, reply) != nil:
		return refusal.New(refusal.ProtocolError, "the server's answer cannot be read")
	}
	return nil
}

// unreachable keeps a named refusal (the pin) and a cancelled context apart from
// a network that does not answer.
func unreachable(ctx context.Context, where string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("calling %q: %w", where, context.Cause(ctx))
	}
	if refusal.Of(err) != "" {
		return fmt.Errorf("calling %q: %w", where, err)
	}
	var alert tls.AlertError
	if errors.As(err, &alert) {
		return refusal.New(refusal.Unreachable, "calling %q: the TLS handshake was refused", where)
	}
	return refusal.New(refusal.Unreachable, "calling %q: %v", where, cause(err))
}

// cause drops net/http's own preface, which repeats method and address.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
