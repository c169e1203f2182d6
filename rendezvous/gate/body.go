package gate

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
)

// takeBody reads the body into c. A stranger's has to come quickly, and a large
// one, which costs memory before anything is known of its sender, takes one of few
// places until the call is over. Small bodies need no place, so whoever sends large
// ones slowly keeps nobody from setting up a team or offering a roster (attack K1).
func (g *Gate) takeBody(c *Call) (release func(), err error) {
	release = func() {}
	if c.Route.Auth == Anybody && c.HTTP.ContentLength > LimitStranger {
		if !g.Larges.Allow(rate.Source(c.HTTP.RemoteAddr), c.Now) {
			return nil, refusal.New(refusal.RateLimited, "too many large calls from this network; wait a moment")
		}
		if release, err = g.largePlace(); err != nil {
			return nil, err
		}
	}
	if c.Route.Auth == Anybody && c.HTTP.ContentLength > 0 {
		length := min(c.HTTP.ContentLength, wire.MaxBody)
		err = c.control.SetReadDeadline(c.Now.Add(StrangerWithin + time.Duration(length)*time.Second/strangerPace))
	}
	if err == nil {
		err = readBody(c)
	}
	if err == nil { // what follows may take as long as its own limit says; net/http would end it with the body's
		err = c.control.SetReadDeadline(time.Time{})
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

func (g *Gate) largePlace() (release func(), err error) {
	select {
	case g.Large <- struct{}{}:
		return func() { <-g.Large }, nil
	default:
		return nil, refusal.New(refusal.RateLimited, "other large calls are under way; wait a moment")
	}
}

// readBody takes a body whose length was announced. The chunked form is refused
// altogether, which leaves no two readings of where a body ends (attack D6); so
// are encodings, which unpack to more than was counted.
func readBody(c *Call) error {
	r, limit := c.HTTP, int64(c.Route.Limit)
	if r.ContentLength < 0 || len(r.TransferEncoding) > 0 {
		c.W.Header().Set("Connection", "close")
		return refusal.New(refusal.BadRequest, "send the body's length, and the body in one piece")
	}
	if r.ContentLength > limit {
		return refusal.New(refusal.TooLarge, "a body of at most %d bytes", limit)
	}
	if r.Header.Get("Content-Encoding") != "" {
		return problem.With(http.StatusUnsupportedMediaType, refusal.New(refusal.BadRequest, "bodies are taken as they are, without an encoding"))
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.W, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return refusal.New(refusal.TooLarge, "a body of at most %d bytes", limit)
	case err != nil:
		return refusal.New(refusal.BadRequest, "the body broke off")
	case len(body) > 0 && r.Header.Get("Content-Type") != "application/json":
		return problem.With(http.StatusUnsupportedMediaType, refusal.New(refusal.BadRequest, "want Content-Type application/json"))
	}
	c.Body = body
	return nil
}
