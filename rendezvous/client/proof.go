package client

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// sign puts the token and, where the route wants one, the proof into req. The
// proof is made for exactly these bytes, this token, this server and this minute
// (protocol 4.2).
func (c *Client) sign(req *http.Request, k call, body []byte) error {
	if k.cred == nil {
		return nil
	}
	if k.cred.Token == "" {
		return refusal.New(refusal.NotLoggedIn, "no session; log in first")
	}
	req.Header.Set("Authorization", "Bearer "+k.cred.Token)
	if k.proof == nil {
		return nil
	}
	p := *k.proof
	p.ID = wire.NewNonce()
	p.IssuedAt = wire.At(time.Now())
	p.Audience = c.audience
	p.Method = k.method
	p.Target = k.target
	p.Body = sha256.Sum256(body)
	p.Token = sha256.Sum256([]byte(k.cred.Token))
	p.Context.Team = k.cred.Team
	signed, err := statement.Sign(k.cred.Key, p)
	if err != nil {
		return err
	}
	req.Header.Set(wire.ProofHeader, base64.RawURLEncoding.EncodeToString(signed))
	return nil
}
