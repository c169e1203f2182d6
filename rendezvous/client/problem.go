package client

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Problem is a call that the server refused. errors.As finds the *refusal.Error
// in it, so refusal.Of works; who needs the hints asks for *Problem.
type Problem struct {
	Refusal    *refusal.Error
	Status     int       // HTTP status
	RequestID  string    // for whoever reads the server's log
	ServerTime time.Time // for proof_time_skew and its like; zero when not sent
}

func (p *Problem) Error() string {
	if p.RequestID == "" {
		return p.Refusal.Error()
	}
	return p.Refusal.Error() + " (request " + p.RequestID + ")"
}

// Unwrap returns the refusal.
func (p *Problem) Unwrap() error { return p.Refusal }

// The server's own words are shown to people, so their length is limited and
// nothing in them can steer a terminal.
const (
	maxDetail    = 1024 // bytes
	maxRequestID = 64   // bytes
)

func readProblem(resp *http.Response) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, MaxProblem))
	var p wire.Problem
	if err != nil || json.Unmarshal(raw, &p) != nil || !p.Code.Valid() {
		return &Problem{Status: resp.StatusCode,
			Refusal: refusal.New(refusal.ProtocolError, "status %d without a reason", resp.StatusCode)}
	}
	out := &Problem{
		Refusal:   &refusal.Error{Code: p.Code, Detail: harmless(p.Detail, maxDetail)},
		Status:    resp.StatusCode,
		RequestID: harmless(p.RequestID, maxRequestID),
	}
	if p.ServerTime > 0 {
		out.ServerTime = p.ServerTime.Time()
	}
	return out
}

// harmless cuts s and replaces whatever is not a printable character.
func harmless(s string, max int) string {
	if len(s) > max {
		s = s[:max]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
