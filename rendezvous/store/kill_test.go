package store

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// writerEnv turns the test binary into a writer that prints each id once the
// database acknowledged it, until somebody kills it.
const writerEnv = "TUCDESK_STORE_TEST_WRITER"

func writeUntilKilled(dsn string) {
	s, err := Open(context.Background(), dsn)
	for err == nil {
		id := wire.NewNonce()
		if err = s.UseOnce(context.Background(), "writer", id, now); err == nil {
			_, err = fmt.Println(hex.EncodeToString(id[:]))
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func TestAcknowledgedSurvivesKill(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		open(t, dsn) // tables exist, and another process has the database open
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), writerEnv+"="+dsn)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var ids []string
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if ids = append(ids, lines.Text()); len(ids) == 50 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed, as it should be
		if len(ids) < 50 {
			t.Fatalf("writer acknowledged only %d", len(ids))
		}
		s := open(t, dsn)
		for _, text := range ids {
			var id wire.Nonce
			if len(text) != 32 {
				continue // cut off by the kill
			}
			if err := id.UnmarshalText([]byte(text)); err != nil {
				t.Fatal(err)
			}
			want(t, s.UseOnce(t.Context(), "writer", id, now), refusal.Replay)
		}
	})
}
