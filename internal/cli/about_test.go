package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// A hint can be copied as it stands where the machine's name is known.
func TestHintsHaveTheNameOfTheMachine(t *testing.T) {
	denied := refusal.New(refusal.PolicyDenied, "no")
	for err, want := range map[error]string{
		About("web", denied): "tucdesk policy explain web shell",
		About("web", &Error{Err: denied, Hints: []string{"tucdesk attach work HOST"}}): "tucdesk attach work web\n",
		About("", denied): "tucdesk policy explain HOST shell",
		denied:            "tucdesk policy explain HOST shell",
	} {
		var talk strings.Builder
		if status := Report(&talk, err); status != ExitDenied || !strings.Contains(talk.String(), want) || refusal.Of(err) != refusal.PolicyDenied {
			t.Errorf("status %d, said %q, want %q", status, talk.String(), want)
		}
	}
	if About("web", nil) != nil || !errors.As(About("web", Status(3)), new(Status)) {
		t.Error("no error, or a status, became something else")
	}
}
