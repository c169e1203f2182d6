package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Login proves possession of k and gets a JWT for it. The statement names the TLS
// connection on which it travels, so it is made only when that connection stands.
func (c *Client) Login(ctx context.Context, k key.Private[key.Operator], team wire.TeamID) (Credentials, wire.LoginReply, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	login := wire.Login{ID: wire.NewNonce(), IssuedAt: wire.At(time.Now()), Team: team, Audience: c.access}
	body := &lateBody{make: func(channel key.Hash) ([]byte, error) { return loginBody(k, login, channel) }}
	blank, err := body.make(key.Hash{})
	if err != nil {
		return Credentials{}, wire.LoginReply{}, err
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: body.gotConn})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+wire.PathLogin, body)
	if err != nil {
		return Credentials{}, wire.LoginReply{}, fmt.Errorf("logging in: %v", err)
	}
	req.ContentLength = int64(len(blank)) // every channel's body is this long; the server takes no body of unknown length
	resp, err := c.exchange(req)
	if err != nil {
		return Credentials{}, wire.LoginReply{}, err
	}
	defer resp.Body.Close()
	var reply wire.LoginReply
	if err := decodeAnswer(resp.Body, &reply); err != nil {
		return Credentials{}, wire.LoginReply{}, err
	}
	return Credentials{Key: k, Team: team, Token: reply.Token, Expires: reply.ExpiresAt.Time()}, reply, nil
}

// Logout makes the token of cred, and older ones of its key, worthless at the server.
func (c *Client) Logout(ctx context.Context, cred Credentials) error {
	return c.quick(ctx, call{method: http.MethodPost, target: wire.PathLogout, cred: &cred, proof: about(wire.ActLogout)}, nil)
}

func loginBody(k key.Private[key.Operator], login wire.Login, channel key.Hash) ([]byte, error) {
	login.Channel = channel
	signed, err := statement.Sign(k, login)
	if err != nil {
		return nil, err
	}
	return encodeBody(wire.LoginRequest{Login: signed})
}

// lateBody is a request body whose content depends on the connection that
// carries it. net/http reports the connection before it reads the body, and does
// not send a body of unknown content a second time over another connection.
type lateBody struct {
	make func(channel key.Hash) ([]byte, error)

	mu   sync.Mutex // guards the rest: net/http reads in a goroutine of its own
	conn *tls.Conn
	rest *bytes.Reader
}

func (b *lateBody) gotConn(info httptrace.GotConnInfo) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn, _ = info.Conn.(*tls.Conn)
}

// Read makes the body at the first call.
func (b *lateBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rest == nil {
		if b.conn == nil {
			return 0, refusal.New(refusal.WrongChannel, "the connection is not TLS")
		}
		state := b.conn.ConnectionState()
		channel, err := channelBinding(&state)
		if err != nil {
			return 0, err
		}
		raw, err := b.make(channel)
		if err != nil {
			return 0, err
		}
		b.rest = bytes.NewReader(raw)
	}
	return b.rest.Read(p)
}

// Close does nothing; the bytes are in memory.
func (b *lateBody) Close() error { return nil }

var _ io.ReadCloser = (*lateBody)(nil)
