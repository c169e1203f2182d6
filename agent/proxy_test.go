//go:build linux

package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
)

// TestProxyPasswordReachesNoProgram: the session process needs the proxy and gets it
// through the pair alone. Neither its arguments nor anybody's variables show it.
func TestProxyPasswordReachesNoProgram(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://user:secretword@proxy.invalid:3128")
	k := newTeam(t, openPolicy)
	k.startRelay()
	var said bytes.Buffer
	a := k.agent()
	a.log = slog.New(slog.NewTextHandler(&said, nil)) // before anything runs
	if a.proxies.URL == "" {
		t.Fatal("the agent does not know its proxy")
	}
	q := k.askFor(a, "ann", argv("sh", "-c", "echo $PPID; env; echo end; read x"))
	conn := q.dial()
	ch := must(conn.OpenSession(within(t)))
	if err := ch.Exec(within(t), q.argv()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n := 0
	until(t, "the environment", func() bool {
		m, _ := ch.Stdout().Read(buf[n:])
		n += m
		return strings.Contains(string(buf[:n]), "end\n")
	})
	var pid int
	if _, err := fmt.Sscan(string(buf[:n]), &pid); err != nil {
		t.Fatal(err)
	}
	seen := buf[:n]
	for _, name := range []string{"environ", "cmdline"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Logf("%s of the session process: %v", name, err) // as it should be without root
		}
		if name == "environ" && len(b) > 0 {
			t.Errorf("the session process has an environment: %q", b)
		}
		seen = append(seen, b...)
	}
	_ = ch.Stdin().Close()
	if _, err := ch.Wait(); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
	until(t, "the session to end", func() bool { return a.sessions.count() == 0 })
	a.running.Wait()
	if bytes.Contains(seen, []byte("secretword")) || strings.Contains(said.String(), "secretword") {
		t.Errorf("the password shows:\n%q\n%s", seen, said.String())
	}
}
