package harden

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"
)

type holder struct {
	Opaque
	secret Hidden[[8]byte]
}

var secretBytes = [8]byte{0xde, 0xad, 0xbe, 0xef, 0xca, 0xfe, 0xf0, 0x0d}

func forms() []string {
	return []string{
		fmt.Sprintf("%x", secretBytes), fmt.Sprintf("%X", secretBytes), strings.Trim(fmt.Sprint(secretBytes), "[]"),
		strings.Trim(strings.ReplaceAll(fmt.Sprint(secretBytes), " ", ", "), "[]"), string(secretBytes[:]), "222,173",
	}
}

func mustNotShow(t *testing.T, what string, text []byte) {
	t.Helper()
	for _, f := range forms() {
		if bytes.Contains(text, []byte(f)) {
			t.Errorf("%s shows the secret: %q", what, text)
		}
	}
}

func TestA20OpaqueAndHidden(t *testing.T) {
	secret := secretBytes
	h := holder{secret: Hide(&secret)}
	type around struct{ h Hidden[[8]byte] }
	type aroundPointer struct{ h *Hidden[[8]byte] }
	hidden := Hide(&secret)
	for _, v := range []any{h, &h, []holder{h}, map[string]holder{"h": h}, struct{ H holder }{h}, around{hidden}, &around{hidden}, aroundPointer{&hidden}, hidden} {
		for _, flags := range []string{"", "+", "#", " "} {
			for _, verb := range "vTtbcdoOqxXUeEfFgGsp" {
				f := "%" + flags + string(verb)
				mustNotShow(t, f, fmt.Appendf(nil, f, v))
			}
		}
		js, _ := json.Marshal(v)
		mustNotShow(t, "json", js)
		x, _ := xml.Marshal(v)
		mustNotShow(t, "xml", x)
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		mustNotShow(t, "slog", log.Bytes())
	}
	if b, err := h.MarshalBinary(); err != nil || string(b) != placeholder {
		t.Errorf("binary encoding is %q, %v", b, err)
	}
	for _, got := range []string{h.String(), h.GoString(), h.LogValue().String()} {
		if got != placeholder {
			t.Errorf("printed %q", got)
		}
	}
}

func TestHiddenHoldsTheSameValue(t *testing.T) {
	secret := secretBytes
	h := Hide(&secret)
	if h.Get() != &secret {
		t.Error("another value came out")
	}
	if (Hidden[int]{}).Get() != nil {
		t.Error("a zero holder holds something")
	}
}

func TestDoRunsItsFunctionOnceAndNests(t *testing.T) {
	n := 0
	Do(func() { Do(func() { n++ }) })
	if n != 1 {
		t.Errorf("ran %d times", n)
	}
}

func TestCollectIsRateLimited(t *testing.T) {
	forced := func() uint32 {
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.NumForcedGC
	}
	before, begin := forced(), time.Now()
	for range 2000 {
		Collect()
	}
	if got, allowed := forced()-before, uint32(time.Since(begin)/collectEvery)+1; got > allowed {
		t.Errorf("%d forced collections in %v", got, time.Since(begin))
	}
}
