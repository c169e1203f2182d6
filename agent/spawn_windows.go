package agent

import (
	"io"
	"os/exec"

	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// spawn refuses: see package process.
func spawn([]string, process.Account) (*exec.Cmd, io.ReadWriteCloser, error) {
	return nil, nil, refusal.New(refusal.Unavailable, "sessions on Windows are not supported by this version")
}

func inheritedPair() (io.ReadWriteCloser, error) {
	return nil, refusal.New(refusal.Unavailable, "sessions on Windows are not supported by this version")
}
