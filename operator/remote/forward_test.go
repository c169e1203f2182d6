package remote

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/forward"
)

// Who reads "listening" connects: it is not said while the session may still be denied.
func TestForwardSaysNothingOfListeningBeforeASessionStands(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		o := &forwarding{io: &cli.IO{Out: &out}, host: "web"}
		o.JSON = asJSON
		set := forward.New(forward.Config{Report: o.report})
		defer set.Close()
		spec, err := forward.Parse(forward.Local, "0:localhost:80")
		if err != nil {
			t.Fatal(err)
		}
		if err := set.Add(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if out.Len() > 0 {
			t.Errorf("before a session: %q", out.String())
		}
		o.release()
		if got := out.String(); strings.Count(got, "listening") != 1 || !strings.Contains(got, "127.0.0.1:") && !strings.Contains(got, "[::1]:") {
			t.Errorf("after it: %q", got)
		}
		if err := set.Add(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); strings.Count(got, "listening") != 2 {
			t.Errorf("a later one: %q", got)
		}
	}
}

// Behind a jump host nothing is wrong with our server when a name is.
func TestTargetBehindAMachineIsNotTheServer(t *testing.T) {
	to := forward.Address{Host: "nosuch", Port: 22}
	for _, c := range []struct {
		err  error
		exit int
		want string
	}{
		{refusal.New(refusal.Unreachable, "connecting: no such name"), cli.ExitTransport, "error: unreachable: web did not connect to nosuch:22: connecting: no such name\nhint: the name is looked up, and the connection made, on web"},
		{refusal.New(refusal.PolicyDenied, "no rule"), cli.ExitDenied, "error: policy_denied: web did not connect to nosuch:22: no rule\nhint: which rule decided"},
	} {
		var talk bytes.Buffer
		if status := cli.Report(&talk, notConnected("web", to, c.err)); status != c.exit || !strings.HasPrefix(talk.String(), c.want) || strings.Contains(talk.String(), "server running") {
			t.Errorf("status %d, said %q, want %q", status, talk.String(), c.want)
		}
	}
}

func TestNoWaitDoesNotSendAnybodyToAWithdrawnRequest(t *testing.T) {
	var talk bytes.Buffer
	if status := cli.Report(&talk, notWaiting()); status != cli.ExitPending || strings.Contains(talk.String(), "requests ls") || !strings.Contains(talk.String(), "hint: the same without --nowait") {
		t.Errorf("status %d, said %q", status, talk.String())
	}
}

func TestTakenPortIsNamedWithAnotherOne(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	spec, err := forward.Parse(forward.Local, fmt.Sprintf("%d:localhost:80", port))
	if err != nil {
		t.Fatal(err)
	}
	set := forward.New(forward.Config{Report: func(forward.Event) {}})
	defer set.Close()
	var talk bytes.Buffer
	cli.Report(&talk, notListened(spec, set.Add(t.Context(), spec)))
	if want := fmt.Sprintf("hint: port %d is in use here; choose another, as %d:localhost:80\n", port, port+1); !strings.Contains(talk.String(), want) {
		t.Errorf("said %q, want %q", talk.String(), want)
	}
}

func TestSocketInTheWayIsNamedWithWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	spec, err := forward.Parse(forward.Local, path+":localhost:80")
	if err != nil {
		t.Fatal(err)
	}
	set := forward.New(forward.Config{Report: func(forward.Event) {}})
	defer set.Close()
	var talk bytes.Buffer
	cli.Report(&talk, notListened(spec, set.Add(t.Context(), spec)))
	if !strings.Contains(talk.String(), "any more: rm "+path+"\n") || !strings.Contains(talk.String(), "-o StreamLocalBindUnlink=yes\n") {
		t.Errorf("said %q", talk.String())
	}
}
