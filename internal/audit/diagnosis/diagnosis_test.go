package diagnosis

import (
	"testing"

	"github.com/tucdesk/tucdesk/internal/audit/finding"
)

// TestOneFindingTellsOfTwoThings: a signer misses two entries, of which the numbers of the
// lines name one. What is still missing is said as well, though the finding stands with
// the first.
func TestOneFindingTellsOfTwoThings(t *testing.T) {
	order := finding.Finding{Entry: 4, Last: 4, Code: finding.BadOrder}
	order.Trace.First, order.Trace.Missing, order.Trace.After = 4, 1, 3
	gap := finding.Finding{Entry: 6, Last: 6, Code: finding.ChainGap}
	gap.Trace.Missing, gap.Trace.After = 2, 2
	list := []finding.Finding{order, gap}
	missing, explained := int64(0), 0
	for _, c := range Causes(list, 10, 0) {
		if c.Kind != WasDeleted || c.Findings == nil {
			t.Errorf("%s", c)
		}
		missing += c.count
		explained += len(c.Findings)
	}
	if missing != 2 || explained != len(list) {
		t.Errorf("%d entries are missing, %d of %d findings explained", missing, explained, len(list))
	}
}
