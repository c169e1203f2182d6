package reach

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Between the look at a path and the connection nobody exchanges it: whatever is connected
// to is what was looked at.
func TestP4ANamedSocketIsNotExchangedBetweenLookAndConnection(t *testing.T) {
	for _, at := range []string{"run/web.sock", "run"} {
		dir, named := sockets(t)
		name, link, aside := filepath.Join(dir, at), filepath.Join(dir, "link"), filepath.Join(dir, "aside")
		if err := os.Symlink(filepath.Join(dir, "priv", at[len("run"):]), link); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		over := make(chan struct{})
		wg.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if err := errors.Join(os.Rename(name, aside), os.Rename(link, name), os.Rename(name, link), os.Rename(aside, name)); err != nil {
					t.Error(err)
					return
				}
			}
		})
		got := map[string]int{}
		for range 3_000 {
			text, err := greeting(t, named)
			if err != nil {
				text = string(refusal.Of(err))
			}
			got[text]++
		}
		close(over)
		wg.Wait()
		for text := range got { // unreachable: there was nothing for a moment
			if text != "web" && text != string(refusal.PolicyDenied) && text != string(refusal.Unreachable) {
				t.Errorf("exchanging %s: %v", at, got)
			}
		}
		t.Logf("exchanging %s: %v", at, got)
	}
}

// A listener that a rule names is not led elsewhere either, where programs trust whoever
// listens.
func TestP4ANamedListenerIsNotLedToAnotherFolder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"/run", "/priv"} {
		if err := os.Mkdir(dir+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at := dir + "/run/op.sock"
	l, err := ListenSocket(t.Context(), at, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := moveTo(dir+"/run", dir+"/old", "priv"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/priv/op.sock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	_ = l.Close()
	if _, err := os.Lstat(dir + "/priv/op.sock"); err != nil {
		t.Errorf("closing took away what it had not made: %v", err)
	}
	if err := os.Remove(dir + "/priv/op.sock"); err != nil {
		t.Fatal(err)
	}
	if l, err := ListenSocket(t.Context(), at, true); refusal.Of(err) != refusal.PolicyDenied {
		t.Errorf("it listens: %v, %v", l, err)
	}
}
