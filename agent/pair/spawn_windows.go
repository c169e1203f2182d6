package pair

import (
	"io"
	"os"
	"os/exec"

	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Spawn refuses: see package process.
func Spawn([]string, process.Account, ...*os.File) (*exec.Cmd, io.ReadWriteCloser, error) {
	return nil, nil, refusal.New(refusal.Unavailable, "sessions on Windows are not supported by this version")
}

// SpawnLogin refuses likewise.
func SpawnLogin(string, []string, process.Account, ...*os.File) (*exec.Cmd, io.ReadWriteCloser, error) {
	return Spawn(nil, process.Account{})
}

// SpawnConfined refuses likewise.
func SpawnConfined([]string, process.Account) (*exec.Cmd, io.ReadWriteCloser, error) {
	return Spawn(nil, process.Account{})
}

// Inherited refuses likewise.
func Inherited() (io.ReadWriteCloser, error) {
	return nil, refusal.New(refusal.Unavailable, "sessions on Windows are not supported by this version")
}

// Given returns nil: nothing is given here.
func Given() *os.File { return nil }
