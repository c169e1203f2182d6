package gate

import (
	"bytes"
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
)

// takeBody reads the body into c, which takes memory until the call is over: of the few
// places for strangers, or of the room of the key that has proven the call.
func (g *Gate) takeBody(c *Call) (release func(), err error) {
	switch {
	case c.HTTP.ContentLength == 0:
		return func() {}, nil
	case c.Route.Auth == Anybody:
		release, err = g.strangersPlace(c)
	default: // no route takes a body for a token alone: checkAnnounced
		release, err = g.room(c)
	}
	if err != nil {
		return nil, err
	}
	if err = readBody(c); err == nil { // what follows may take as long as its own limit says; net/http would end it with the body's
		err = c.control.SetReadDeadline(time.Time{})
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// strangersPlace lets a stranger's body in. It has to come quickly, and a large one,
// which costs memory before anything is known of its sender, takes one of few places.
// Small bodies need no place, so whoever sends large ones slowly keeps nobody from
// setting up a team or offering a roster (attack K1).
func (g *Gate) strangersPlace(c *Call) (release func(), err error) {
	release = func() {}
	if c.HTTP.ContentLength > LimitStranger {
		if !g.Larges.Allow(rate.Source(c.HTTP.RemoteAddr), c.Now) {
			return nil, refusal.New(refusal.RateLimited, "too many large calls from this network; wait a moment")
		}
		if release, err = g.largePlace(); err != nil {
			return nil, err
		}
	}
	length := min(c.HTTP.ContentLength, wire.MaxBody)
	err = c.control.SetReadDeadline(c.Now.Add(StrangerWithin + time.Duration(length)*time.Second/strangerPace))
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// room takes as many bytes as a proven body has announced: members with keys must not
// fill the memory either, by sending slowly what is taken at once (attack K2).
func (g *Gate) room(c *Call) (release func(), err error) {
	of := g.Bodies
	if c.HTTP.ContentLength > LimitRequest {
		of = g.Rosters
	}
	release, ok := of.Enter(c.Who.Operator, c.HTTP.ContentLength)
	if !ok {
		return nil, refusal.New(refusal.RateLimited, "other large calls are under way; wait a moment")
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

// checkAnnounced refuses by what the head says of the body, before anything is looked
// up or read for it. The chunked form is refused altogether, which leaves no two readings
// of where a body ends (attack D6); so are encodings, which unpack to more than was
// counted.
func checkAnnounced(c *Call) error {
	r, limit := c.HTTP, int64(c.Route.Limit)
	switch {
	case r.ContentLength < 0 || len(r.TransferEncoding) > 0:
		c.W.Header().Set("Connection", "close")
		return refusal.New(refusal.BadRequest, "send the body's length, and the body in one piece")
	case r.ContentLength > limit:
		return refusal.New(refusal.TooLarge, "a body of at most %d bytes", limit)
	case r.Header.Get("Content-Encoding") != "":
		return problem.With(http.StatusUnsupportedMediaType, refusal.New(refusal.BadRequest, "bodies are taken as they are, without an encoding"))
	case r.ContentLength > 0 && r.Header.Get("Content-Type") != "application/json":
		return problem.With(http.StatusUnsupportedMediaType, refusal.New(refusal.BadRequest, "want Content-Type application/json"))
	}
	return nil
}

// readBody reads as many bytes as were announced. Those of a proven body are taken at
// once, which is what room has counted; a stranger's as they come.
func readBody(c *Call) error {
	var b bytes.Buffer
	if c.Route.Auth != Anybody {
		b.Grow(int(c.HTTP.ContentLength) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(c.HTTP.Body); err != nil {
		return refusal.New(refusal.BadRequest, "the body broke off")
	}
	c.Body = b.Bytes()
	return nil
}
