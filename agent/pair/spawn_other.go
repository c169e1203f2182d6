//go:build !linux

package pair

import (
	"fmt"
	"os"
)

// Self returns a path by which to execute this program.
func Self() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding our own program: %v", err)
	}
	return exe, nil
}
