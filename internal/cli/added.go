package cli

import "github.com/spf13/cobra"

// fixHelp makes the commands that cobra adds, help and completion, refuse wrong words
// as ours do: they print a help for them and succeed, and a script that completes
// nothing would be written for "completion basj". fixBash comes before it.
func fixHelp(tree *cobra.Command) {
	tree.InitDefaultHelpCmd()
	for _, cmd := range tree.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Run, cmd.RunE = nil, func(_ *cobra.Command, words []string) error { return helpFor(tree, words) }
		case "completion":
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.Args, cmd.SuggestionsMinimumDistance = countArgs(&Command{Sub: []*Command{{}}}), suggestWithin
			for _, shell := range cmd.Commands() {
				shell.Args = countArgs(&Command{})
			}
		}
	}
}

// helpFor prints the help of the command that words name.
func helpFor(tree *cobra.Command, words []string) error {
	at := tree
	for i, word := range words {
		next, _, err := at.Find([]string{word})
		if err != nil || next == at {
			return countArgs(&Command{Sub: []*Command{{}}})(at, words[i:])
		}
		at = next
	}
	at.InitDefaultHelpFlag()
	return at.Help()
}
