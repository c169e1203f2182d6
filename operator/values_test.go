package operator

import (
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
)

// A number or time that means nothing is refused: whoever typed it meant something else.
func TestValuesOfFlagsThatMeanNothingAreRefused(t *testing.T) {
	for line, said := range map[string]string{
		"ping -c 0 web":               "want a number from 1",
		"ping -c -1 web":              "want a number from 1",
		"ping --count=many web":       "want a number from 1",
		"ping --timeout 0s web":       "want a time above 0",
		"ping --timeout -1s web":      "want a time above 0",
		"ping --timeout 3 web":        "want a time above 0",
		"exec --persist -1s web -- x": "want a time above 0",
		"exec --persist 0s web -- x":  "want a time above 0",
		"ping ann@web":                "hint: tucdesk ping web\n",
	} {
		if status, out, talk := tucdesk(t, strings.Fields(line)...); status != cli.ExitUsage || out != "" || !strings.Contains(talk, said) || !strings.Contains(talk, "\nhint: tucdesk ") {
			t.Errorf("%q: status %d, printed %q, said %q", line, status, out, talk)
		}
	}
}
