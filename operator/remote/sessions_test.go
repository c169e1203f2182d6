package remote

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/teamtest"
)

// Who reads "no kept shells" leaves; a shell on a machine that was not asked, because
// approval never came or its name was mistyped, would run on unknown.
func TestOnlyAnswersOfAllMachinesSayThatThereAreNoShells(t *testing.T) {
	gone := refusal.New(refusal.NotFound, "no machine %q", "wbe")
	for name, c := range map[string]struct {
		answers   map[string]error // by machine; nil answers
		shells    []keptShell      // of each that answers
		json      bool
		out, talk string
		err       error
	}{
		"none":                {map[string]error{"web": nil}, nil, false, "", "no kept shells\n", nil},
		"none as JSON":        {map[string]error{"web": nil}, nil, true, `"shells": []`, "", nil},
		"never left one":      {nil, nil, false, "", "no kept shells\n", nil},
		"mistyped":            {map[string]error{"wbe": gone}, nil, false, "", "wbe did not say", gone},
		"mistyped, JSON":      {map[string]error{"wbe": gone}, nil, true, "", "wbe did not say", gone},
		"Ctrl-C":              {map[string]error{"web": context.Canceled}, nil, false, "", "web did not say", context.Canceled},
		"one of two":          {map[string]error{"db": nil, "wbe": gone}, nil, false, "", "wbe did not say", gone},
		"rows of one of two":  {map[string]error{"db": nil, "wbe": gone}, []keptShell{{Name: "build"}}, false, "build", "wbe did not say", gone},
		"no JSON of half two": {map[string]error{"db": nil, "wbe": gone}, []keptShell{{Name: "build"}}, true, "", "wbe did not say", gone},
	} {
		var out, talk bytes.Buffer
		var places []place
		for host := range c.answers {
			places = append(places, place{Host: host})
		}
		o, tio := sessionOptions{}, &cli.IO{Out: &out, Err: &talk}
		o.JSON = c.json
		list, err := askAll(tio, places, func(p place) ([]keptShell, error) {
			if err := c.answers[p.Host]; err != nil {
				return nil, err
			}
			return c.shells, nil
		})
		if printed := o.printShells(tio, list, err == nil); printed != nil {
			t.Errorf("%s: %v", name, printed)
		}
		if !errors.Is(err, c.err) || !strings.Contains(out.String(), c.out) || (c.out == "") != (out.Len() == 0) {
			t.Errorf("%s: %v, stdout %q", name, err, out.String())
		}
		if !strings.Contains(talk.String(), c.talk) || err != nil && strings.Contains(talk.String(), "no kept shells") {
			t.Errorf("%s: said %q", name, talk.String())
		}
	}
}

// An attach of a timer's job, whose input is at its end, would take the shell from the
// person who works in it. It is refused before the server or the machine is asked.
func TestAttachWithoutATerminalTakesNothingOver(t *testing.T) {
	m := teamtest.NewTeam(t)
	for _, input := range []string{"", "exit\n"} {
		var out, talk bytes.Buffer
		tio := &cli.IO{In: teamtest.Pipe(t, input), Out: &out, Err: &talk}
		status := cli.Run(t.Context(), tio, AttachCommand(), []string{"--state", m.Home.Dir, "build", "web"})
		if status != cli.ExitUsage || !strings.Contains(talk.String(), "wants a terminal") {
			t.Errorf("input %q: status %d, said %q", input, status, talk.String())
		}
	}
}
