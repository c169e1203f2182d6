//go:build !linux

package agent

import (
	"fmt"
	"os"
)

func defaultSessionCommand() ([]string, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding our own program: %v", err)
	}
	return []string{exe, SessionArg}, nil
}
