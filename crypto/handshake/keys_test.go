package handshake

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
)

func finished(t testing.TB) (operator, agent *Keys, r *run) {
	t.Helper()
	r = newRun(t).accept(t)
	m3, _, ok, err := r.confirm()
	if err != nil {
		t.Fatal(err)
	}
	ak, err := r.agent.Confirm(m3)
	if err != nil {
		t.Fatal(err)
	}
	return ok, ak, r
}

func TestExportImport(t *testing.T) {
	ok, ak, _ := finished(t)
	exporter := ak.Exporter()
	raw := ak.Export()
	got, err := ImportKeys(raw)
	if err != nil || !equal(got, ok) || got.Exporter() != exporter {
		t.Fatalf("keys did not arrive: %v", err)
	}
	if ak.Export() != nil {
		t.Error("keys were exported twice")
	}
	if again := got.Export(); !bytes.Equal(again, raw) {
		t.Error("a second hand-over has other bytes")
	}
}

func TestImportRefusesOtherBytes(t *testing.T) {
	_, ak, _ := finished(t)
	raw := ak.Export()
	bad := [][]byte{append(slices.Clone(raw), 0), nil}
	for i := range raw {
		bad = append(bad, raw[:i])
	}
	for _, at := range []int{0, 1, 2, 3, 4, 5} {
		b := slices.Clone(raw)
		b[at] ^= 0x40
		bad = append(bad, b)
	}
	for _, at := range []int{6, 10} {
		b := slices.Clone(raw)
		clear(b[at : at+4])
		bad = append(bad, b)
	}
	for _, b := range bad {
		if _, err := ImportKeys(b); err == nil {
			t.Errorf("%d bytes were taken", len(b))
		}
	}
}

func TestTrafficKeysLeaveOnce(t *testing.T) {
	_, ak, _ := finished(t)
	block := &ak.secret.Get().block
	var took int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			err := ak.Take(func(b *[TrafficSize]byte) {
				mu.Lock()
				defer mu.Unlock()
				took++
				if *b == [TrafficSize]byte{} {
					t.Error("empty block")
				}
			})
			if err != nil && !errors.Is(err, ErrSpent) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if took != 1 || *block != [TrafficSize]byte{} {
		t.Errorf("keys were handed out %d times", took)
	}
}

func TestEraseLeavesOnlyWhatIsPublic(t *testing.T) {
	_, ak, _ := finished(t)
	m := ak.secret.Get()
	h4 := ak.H4()
	ak.Erase()
	ak.Erase()
	if *m != (material{}) || ak.Exporter() != [32]byte{} || ak.Export() != nil {
		t.Error("keys are still there")
	}
	if ak.H4() != h4 || h4.IsZero() {
		t.Error("h4 is gone")
	}
}

// TestA20NothingPrints holds secrets in every state and looks for them in every
// printer and encoder, also through structs that do not know what they hold.
func TestA20NothingPrints(t *testing.T) {
	r := newRun(t).accept(t)
	ok, ak, done := finished(t)
	forms := formsOf(
		r.agent.secrets.Get().ss, r.agent.secrets.Get().agent, r.agent.secrets.Get().operator,
		r.op.eph.x.Bytes(), r.op.eph.kem.Bytes(), ak.secret.Get().block[:], bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32),
	)
	type box struct{ v any }
	type operatorBox struct{ o *Operator }
	type agentBox struct{ a *Agent }
	type keysBox struct{ k *Keys }
	values := []any{
		r.op, r.agent, ok, ak, done.op, done.agent, box{r.op}, box{ak}, &box{r.agent}, operatorBox{r.op}, agentBox{r.agent}, keysBox{ak},
		&keysBox{ok}, []keysBox{{ak}}, map[string]*Keys{"k": ak}, []*Agent{r.agent}, r.op.cfg, &r.op.cfg, r.agentConfig(), []any{r.agentConfig()},
	}
	searched := map[string]bool{} // most values print the same nothing
	for _, v := range values {
		for name, text := range printed(v) {
			if searched[string(text)] {
				continue
			}
			searched[string(text)] = true
			if leaks(text, forms) {
				t.Errorf("%s of a %T shows a secret: %.200q", name, v, text)
			}
		}
	}
}

func printed(v any) map[string][]byte {
	out := map[string][]byte{"print": fmt.Append(nil, v)}
	for _, flags := range []string{"", "+", "#", " "} {
		for _, verb := range "vTtbcdoOqxXUeEfFgGsp" {
			f := "%" + flags + string(verb)
			out[f] = fmt.Appendf(nil, f, v)
		}
	}
	out["json"], _ = json.Marshal(v)
	out["xml"], _ = xml.Marshal(v)
	var g, text, js bytes.Buffer
	_ = gob.NewEncoder(&g).Encode(v)
	slog.New(slog.NewTextHandler(&text, nil)).Info("x", "k", v)
	slog.New(slog.NewJSONHandler(&js, nil)).Info("x", "k", v)
	out["gob"], out["slog text"], out["slog json"] = g.Bytes(), text.Bytes(), js.Bytes()
	return out
}

// formsOf lists 8 bytes of a secret at a time in the forms that printers use.
func formsOf(secrets ...[]byte) (forms [][]byte) {
	for _, secret := range secrets {
		for i := 0; i+8 <= len(secret); i += 4 {
			part := secret[i : i+8]
			decimal := strings.Trim(fmt.Sprint(part), "[]")
			for _, form := range []string{
				string(part), hex.EncodeToString(part), strings.ToUpper(hex.EncodeToString(part)), decimal,
				strings.ReplaceAll(decimal, " ", ","), strings.ReplaceAll(decimal, " ", ", "),
				strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", part), "[]byte{"), "}"),
				base64.RawStdEncoding.EncodeToString(part[:6]), // some i has the phase of the text
			} {
				forms = append(forms, []byte(form))
			}
		}
	}
	return forms
}

func leaks(text []byte, forms [][]byte) bool {
	return slices.ContainsFunc(forms, func(form []byte) bool { return bytes.Contains(text, form) })
}

func TestErrorsCarryNoSecrets(t *testing.T) {
	r := newRun(t).accept(t)
	bad := bytes.Clone(r.m2)
	forms := formsOf(r.agent.secrets.Get().ss, r.m2[acceptClear:])
	bad[len(bad)-1] ^= 1
	_, _, _, err := r.op.Confirm(bad, r.find)
	_, err2 := r.agent.Confirm(make([]byte, ConfirmSize))
	for _, e := range []error{err, err2} {
		if e == nil || leaks([]byte(e.Error()), forms) {
			t.Errorf("error %v", e)
		}
	}
}
