package rendezvous

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/rendezvous/gate"
)

// Whoever writes a client goes by the figures in the protocol, not by ours.
func TestProtocolHasTheRates(t *testing.T) {
	text := string(must(os.ReadFile(filepath.Join("..", "docs", "PROTOCOL.md"))))
	flat := strings.Join(strings.Fields(text), " ")
	for _, want := range []string{
		fmt.Sprintf("%g calls per second and operator key (%g at once), %g sessions (%g), a ping every %g s (%g)", rateOperator.PerSecond, rateOperator.Burst,
			rateSessions.PerSecond, rateSessions.Burst, 1/ratePings.PerSecond, ratePings.Burst),
		fmt.Sprintf("%g calls without a token per source network (%g)", rateSource.PerSecond, rateSource.Burst),
		fmt.Sprintf("a logout every %g s (%g) of its own", 1/rateLogouts.PerSecond, rateLogouts.Burst),
		fmt.Sprintf("%g per second of one token (%g) and %g of all tokens of a key (%g)", rateReads.PerSecond, rateReads.Burst, rateReaders.PerSecond, rateReaders.Burst),
		fmt.Sprintf("so are calls whose token or proof does not hold, %g per second (%g)", rateFailures.PerSecond, rateFailures.Burst),
		fmt.Sprintf("Proven bodies above %d KiB take %d MiB at once, %d MiB of one key", gate.LimitRequest>>10, gate.MaxProven>>20, gate.MaxProvenEach>>20),
		fmt.Sprintf("a network has %g such calls at once and one more every %g s, and %g offers of a roster per team, one more every %g s", rateLarge.Burst, 1/rateLarge.PerSecond,
			rateOffers.Burst, 1/rateOffers.PerSecond),
		fmt.Sprintf("(the server: %g and %g)", rateSessions.PerSecond, rateSessions.Burst),
		fmt.Sprintf("An agent key may register %g times at once and once in %g s, and has %g alarms about displaced channels, then one in %g min", rateArrivals.Burst, 1/rateArrivals.PerSecond,
			rateAlarms.Burst, 1/rateAlarms.PerSecond/60),
		fmt.Sprintf("Of one agent key the server takes %d MiB of entries at once and then %d KiB a second", int(rateEntries.Burst)>>20, int(rateEntries.PerSecond)>>10),
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("docs/PROTOCOL.md does not say %q", want)
		}
	}
}
