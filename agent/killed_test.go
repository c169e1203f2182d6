//go:build linux

package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tucdesk/tucdesk/internal/wire"
)

// actAsAgent opens the agent in dir and answers OPENs that come in on standard
// input, one per line.
func actAsAgent(dir string) {
	a, err := Open(dir, Config{})
	if err != nil {
		panic(err)
	}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		_, body := a.answer(context.Background(), wire.Frame{Type: wire.FrameOpen, Body: line})
		fmt.Println(string(must(json.Marshal(body))))
	}
}

func TestH2KilledAgentTakesItsSessionsAlong(t *testing.T) {
	t.Parallel()
	k := newTeam(t, openPolicy)
	k.startRelay()
	dir := k.join()
	a := k.open(dir)
	q := k.askFor(a, "ann", stubborn)
	stop(a)

	cmd := exec.Command(must(os.Executable()))
	cmd.Env = []string{killedEnv + "=" + dir}
	in, out := must(cmd.StdinPipe()), must(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Write(append(must(json.Marshal(q.offer)), '\n'))
	line := must(bufio.NewReader(out).ReadBytes('\n'))
	var accepted wire.AcceptSession
	if err := json.Unmarshal(line, &accepted); err != nil || len(accepted.Accept) == 0 {
		t.Fatalf("%s: %v", line, err)
	}
	q.agent = nil
	ch, pid := sleeper(&ask{team: k, request: q.request, hs: q.hs, operator: q.operator, agent: &Agent{cert: a.cert}, answered: accepted.Accept})
	parent := parentOf(t, pid)
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	until(t, "program and session process to die", func() bool { return !alive(pid) && !alive(parent) })
	if _, err := ch.Wait(); err == nil {
		t.Error("the operator learned nothing")
	}
	stop(k.open(dir)) // and the state is whole
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	b := must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)))
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return must(strconv.Atoi(f[1]))
}
