package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

func TestStatusOfARefusal(t *testing.T) {
	denied := refusal.New(refusal.PolicyDenied, "no")
	for want, err := range map[int]error{
		403: denied,
		404: refusal.New(refusal.NotFound, "no such thing"),
		401: fmt.Errorf("calling: %w", With(401, denied)),
		503: errors.New("a fault"),
		418: With(418, errors.New("a fault with a status")),
	} {
		if got := Status(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
	if With(401, nil) != nil {
		t.Error("nothing became an error")
	}
}

func TestK15FaultsAreNotTold(t *testing.T) {
	for err, want := range map[error]wire.Problem{
		errors.New("SELECT secret"):                                 {Code: refusal.Unavailable},
		With(401, refusal.New(refusal.KeyRevoked, "<gone> & over")): {Code: refusal.KeyRevoked, Detail: "<gone> & over"},
	} {
		w := httptest.NewRecorder()
		Guard(w.Header(), "id1")
		Write(w, "id1", err)
		var got wire.Problem
		if json.Unmarshal(w.Body.Bytes(), &got) != nil || got.Code != want.Code || got.RequestID != "id1" || got.ServerTime == 0 || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%v: %s", err, w.Body)
		}
		if want.Detail != "" && !strings.Contains(w.Body.String(), want.Detail) {
			t.Errorf("%v: %s", err, w.Body)
		}
		for _, h := range []string{"Cache-Control", "X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy"} {
			if w.Header().Get(h) == "" {
				t.Errorf("no %s", h)
			}
		}
	}
	w := httptest.NewRecorder()
	JSON(w, 200, nil)
	if strings.TrimSpace(w.Body.String()) != "{}" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%q", w.Body)
	}
}
