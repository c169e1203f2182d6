// Package problem answers calls that are refused: the HTTP status for a refusal, the
// body that every answer but 2xx has, and the headers that keep answers out of
// browsers. What is not a refusal is a fault of ours, and is told to nobody (attack
// K15).
package problem

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// failure is a refusal that has its own HTTP status; others get Status.
type failure struct {
	status int
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// With fixes the status of err, which may be nil.
func With(status int, err error) error {
	if err == nil {
		return nil
	}
	return &failure{status, err}
}

// statuses are those of codes that do not simply mean "no" (403).
var statuses = map[refusal.Code]int{
	refusal.NotFound:      http.StatusNotFound,
	refusal.BadRequest:    http.StatusBadRequest,
	refusal.BadCursor:     http.StatusBadRequest,
	refusal.BadStatement:  http.StatusBadRequest,
	refusal.BadMessage:    http.StatusBadRequest,
	refusal.BadName:       http.StatusBadRequest,
	refusal.TooLarge:      http.StatusRequestEntityTooLarge,
	refusal.RateLimited:   http.StatusTooManyRequests,
	refusal.TooMany:       http.StatusTooManyRequests,
	refusal.AuditFull:     http.StatusServiceUnavailable,
	refusal.NotLoggedIn:   http.StatusUnauthorized,
	refusal.ProofRequired: http.StatusUnauthorized,
	refusal.ProofInvalid:  http.StatusUnauthorized,
	refusal.ProofMismatch: http.StatusUnauthorized,
	refusal.ProofTimeSkew: http.StatusUnauthorized,
	refusal.Replay:        http.StatusConflict,
	refusal.NameTaken:     http.StatusConflict,
	refusal.KeyInUse:      http.StatusConflict,
	refusal.Fork:          http.StatusConflict,
	refusal.Gap:           http.StatusConflict,
	refusal.Rollback:      http.StatusConflict,
	refusal.Offline:       http.StatusServiceUnavailable,
	refusal.Unreachable:   http.StatusGatewayTimeout,
	refusal.Unavailable:   http.StatusServiceUnavailable,
}

// Status is the HTTP status for err: the one that With fixed, or its code's.
func Status(err error) int {
	var f *failure
	if errors.As(err, &f) {
		return f.status
	}
	code := refusal.Of(err)
	if code == "" {
		return http.StatusServiceUnavailable
	}
	if s, ok := statuses[code]; ok {
		return s
	}
	return http.StatusForbidden
}

// Write answers with err. An error without a code is a fault of ours: the
// caller learns the request id and nothing of what broke (attack K15).
func Write(w http.ResponseWriter, id string, err error) {
	p := wire.Problem{Code: refusal.Unavailable, Detail: "the server could not do this now; try again", RequestID: id, ServerTime: wire.At(time.Now())}
	var r *refusal.Error
	if errors.As(err, &r) {
		p.Code, p.Detail = r.Code, r.Detail
	}
	JSON(w, Status(err), p)
}

// JSON answers with one value; nil is an empty object.
func JSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if v == nil {
		v = struct{}{}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the caller has gone: nothing is left to tell it
}

// Guard keep answers out of caches and of browsers' pages: nothing here is
// meant for a page, and no other site may ask (attack K14).
func Guard(h http.Header, id string) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Request-Id", id)
}

// Code names err on the wire: its refusal's code, or unavailable for what is our own
// fault.
func Code(err error) refusal.Code {
	if code := refusal.Of(err); code != "" {
		return code
	}
	return refusal.Unavailable
}
