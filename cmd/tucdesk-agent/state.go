package main

import (
	"flag"

	"github.com/tucdesk/tucdesk/agent"
)

// stateFlag is the flag that every command has.
func stateFlag(dir *string) func(*flag.FlagSet) {
	return func(f *flag.FlagSet) {
		f.StringVar(dir, "state", "", "folder of the agent's `DIR` (default: /var/lib/tucdesk-agent for root, ~/.local/state/tucdesk-agent else)")
	}
}

func stateDir(chosen string) (string, error) {
	if chosen != "" {
		return chosen, nil
	}
	return agent.DefaultDir()
}
