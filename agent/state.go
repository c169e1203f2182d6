package agent

import (
	"fmt"
	"os"
	"path/filepath"
)

// The files of the state folder that are this package's own; see its comment.
const (
	statusFile = "status.json"
)

// DefaultDir returns the state folder that the programs use unless told
// otherwise: /var/lib/tucdesk-agent for root, the user's own data folder else.
func DefaultDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/tucdesk-agent", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tucdesk-agent"), nil
	}
	if dir, err := os.UserConfigDir(); err == nil && os.PathSeparator == '\\' {
		return filepath.Join(dir, "tucdesk-agent"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the state folder: %v", err)
	}
	return filepath.Join(home, ".local", "state", "tucdesk-agent"), nil
}
