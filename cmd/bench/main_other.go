//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "error: bench emulates its network with Linux namespaces")
	os.Exit(1)
}
