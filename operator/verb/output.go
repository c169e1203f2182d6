package verb

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/terminal"
)

// OrDefault is s, or otherwise when s is empty.
func OrDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// List makes an empty list [] in JSON: who reads it must not meet null.
func List[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// Shown is text that was escaped already.
type Shown string

// Table prints aligned columns; every cell that is not shown is escaped, since
// names and texts come from other machines.
func Table(io *cli.IO, head []any, fill func(row func(...any))) error {
	w := tabwriter.NewWriter(io.Out, 0, 8, 2, ' ', 0)
	row := func(cells ...any) {
		texts := make([]string, len(cells))
		for i, c := range cells {
			if s, ok := c.(Shown); ok {
				texts[i] = string(s)
			} else {
				texts[i] = terminal.Escape(fmt.Sprint(c))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(texts, "\t"), "\t"))
	}
	row(head...)
	fill(row)
	return w.Flush()
}
