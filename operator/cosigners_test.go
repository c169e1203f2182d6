package operator

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/cli"
)

// The sentence reads as one for any number.
func TestCosignersAreCountedInWords(t *testing.T) {
	for n, want := range []string{"nobody", "1 machine or person", "2 machines and people"} {
		var out bytes.Buffer
		printReport(&cli.IO{Out: &out}, verify.Report{Cosigners: n, Checkpoints: 77}, false)
		if !strings.Contains(out.String(), "the newest checkpoint is cosigned by "+want+"; cosigned by anybody: 0 of 77 checkpoints\n") {
			t.Errorf("%d: %q", n, out.String())
		}
		o := auditVerify{cosigners: 3}
		if err := o.judge(verify.Report{Cosigners: n, Hosts: 5}); err == nil || err.Error() != "the newest checkpoint is cosigned by "+want+", not by 3" {
			t.Errorf("%d of 3: %v", n, err)
		}
	}
}
