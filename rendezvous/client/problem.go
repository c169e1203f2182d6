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

// Error gives the refusal in words, and the number under which the server has it in
// its log.
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
		Refusal:   &refusal.Error{Code: p.Code, Detail: Harmless(p.Detail, maxDetail)},
		Status:    resp.StatusCode,
		RequestID: Harmless(p.RequestID, maxRequestID),
	}
	if p.ServerTime > 0 {
		out.ServerTime = p.ServerTime.Time()
	}
	return out
}

// Harmless cuts somebody else's words to max bytes and takes out whatever could steer
// a terminal.
func Harmless(s string, max int) string {
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
