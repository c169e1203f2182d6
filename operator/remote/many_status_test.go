package remote

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/operator/fleet"
)

// A crashed program on one Windows machine is the worst of all, also where an int has
// 32 bits and its status is below 0.
func TestTheWorstStatusOfManyIsThatOfACrash(t *testing.T) {
	var talk bytes.Buffer
	crashed := outcome{Host: "win", Status: uint32(cli.Report(&talk, status(session.Exit{Status: 0xC0000100}, nil)))}
	m := &many{tio: &cli.IO{Out: &talk, Err: &talk}, form: fleet.Grouped}
	err := m.sum(t.Context(), []outcome{{Host: "a"}, crashed})
	if got := cli.Status(0); !errors.As(err, &got) || got != 0xC0000100 {
		t.Errorf("ended with %v", err)
	}
}
