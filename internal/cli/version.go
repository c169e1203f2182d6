package cli

import (
	"context"
	"flag"
	"fmt"
	"runtime/debug"
	"strings"
)

// version is set by the link step of a release:
//
//	go build -ldflags "-X github.com/tucdesk/tucdesk/internal/cli.version=1.2.3" ./cmd/...
var version string

// unversioned is what a build calls itself that knows no better. It is older than
// every release, so a team that asks for a minimum version refuses it.
const unversioned = "0.0.0-dev"

// Version returns the version of the running program, without "v": of the
// release, else what the go command recorded about the commit.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || !strings.HasPrefix(info.Main.Version, "v") { // "(devel)" in a checkout without commits
		return unversioned
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}

// versionCommand is part of every program.
func versionCommand(program string) *Command {
	var asJSON bool
	return &Command{
		Use: "version", Short: "Print this program's version", Example: program + " version\n" + program + " version --json",
		Flags: func(f *flag.FlagSet) {
			f.BoolVar(&asJSON, "json", false, "print the answer as JSON, in a form that stays stable")
		},
		Run: func(_ context.Context, io *IO, _ []string) error {
			if asJSON {
				return io.PrintJSON(struct {
					Program string `json:"program"`
					Version string `json:"version"`
				}{program, Version()})
			}
			_, err := fmt.Fprintln(io.Out, program, Version())
			return err
		},
	}
}
