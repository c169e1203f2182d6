package cli

import (
	"bytes"
	"strings"

	"github.com/spf13/cobra"
)

// withoutPackage replaces, at the end of the script for bash, how it finds the words
// that were typed. The script of cobra takes that from the package bash-completion and
// does nothing but print an error where it is not installed, as on most servers. Bash
// takes a line apart at = : and @ as well; what stands without a space between belongs
// together, since a machine is written user@host and a label name=value.
const withoutPackage = `
__PROGRAM_init_completion()
{
    COMPREPLY=()
    if declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    local i word next rest=$COMP_LINE
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        next=${rest#"${rest%%[![:space:]]*}"}
        if ((i > 0)) && [[ $next == "$rest" ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
        rest=${next#"$word"}
    done
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    prev=${words[cword > 0 ? cword - 1 : 0]}
}
`

// bashHelp stands for cobra's, which asks for that package.
const bashHelp = `Prints the script that completes commands, flags and machines in bash, with the package bash-completion or without.

In this shell:               source <(PROGRAM completion bash)
In every new one of yours:   PROGRAM completion bash > ~/.PROGRAM-completion, and in ~/.bashrc: . ~/.PROGRAM-completion
For all users, as root:      PROGRAM completion bash > /etc/bash_completion.d/PROGRAM, which needs the package`

// fixBash puts our script for bash in the place of cobra's. The tree has its output.
func fixBash(tree *cobra.Command) {
	tree.InitDefaultCompletionCmd()
	cmd, _, err := tree.Find([]string{"completion", "bash"})
	if err != nil || cmd.Name() != "bash" {
		panic("cli: internal error: there is no completion for bash")
	}
	cmd.Long = strings.ReplaceAll(bashHelp, "PROGRAM", tree.Name())
	cmd.Example = "  source <(" + tree.Name() + " completion bash)"
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		plain, err := cmd.Flags().GetBool("no-descriptions")
		if err != nil {
			return err
		}
		var script bytes.Buffer
		if err := tree.GenBashCompletionV2(&script, !plain); err != nil {
			return err
		}
		_, err = tree.OutOrStdout().Write([]byte(ourBash(tree.Name(), script.String())))
		return err
	}
}

// ourBash is cobra's script with @ as one more character that does not end a word.
func ourBash(program, script string) string {
	script = strings.ReplaceAll(script, "init_completion -n =: ", "init_completion -n =:@ ")
	last := "__" + program + `_handle_special_char "$cur" =` + "\n"
	script = strings.Replace(script, last, last+"    __"+program+`_handle_special_char "$cur" @`+"\n", 1)
	return script + strings.ReplaceAll(withoutPackage, "PROGRAM", program)
}
