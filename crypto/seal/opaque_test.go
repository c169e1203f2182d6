package seal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/handshake"
)

func TestA20SessionsNeverPrint(t *testing.T) {
	k, _ := keys(t)
	raw := k.Export()
	k, err := handshake.ImportKeys(raw)
	if err != nil {
		t.Fatal(err)
	}
	s := session(t, k, Operator)
	if _, err := s.StartRekey(); err != nil {
		t.Fatal(err)
	}
	block := raw[len(raw)-handshake.TrafficSize:]
	type box struct{ s *Session }
	for _, v := range []any{s, box{s}, &box{s}, []*Session{s}, []box{{s}}, map[string]*Session{"s": s}} {
		var texts [][]byte
		for _, flags := range []string{"", "+", "#"} {
			for _, verb := range "vTtbcdoOqxXUeEfFgGsp" {
				texts = append(texts, fmt.Appendf(nil, "%"+flags+string(verb), v))
			}
		}
		js, _ := json.Marshal(v)
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", v)
		for _, text := range append(texts, js, log.Bytes()) {
			for i := 0; i+8 <= len(block); i += 4 {
				part := block[i : i+8]
				decimal := strings.Trim(fmt.Sprint(part), "[]")
				for _, form := range []string{string(part), fmt.Sprintf("%x", part), fmt.Sprintf("%X", part), decimal, strings.ReplaceAll(decimal, " ", ", ")} {
					if bytes.Contains(text, []byte(form)) {
						t.Fatalf("a %T shows key bytes: %.200q", v, text)
					}
				}
			}
		}
	}
}
