package rendezvous

import "github.com/tucdesk/tucdesk/internal/rate"

// Rates; our choice, never written to. An operator who scripts all day stays below
// its own; one who floods is refused and takes nothing from others (attack B18).
//
// Sessions: a loop of commands opens 8 to 20 in a second, and Ansible or "exec" by
// label one on each of some hundred machines at once; ssh's callers never try twice,
// so whoever works must not meet the limit. One session took 6 ms on a busy machine,
// the client's and the agent's part with it (BenchmarkB18OpenedSession), so a key at
// its rate takes at most an eighth of a core. A machine has limits of its own
// (agent/judge), and what waits for approval is counted apart. Calls are three times
// as many: a session may ask for the roster and for the end of an approval as well.
//
// A key is charged for what it has signed, and a network for what only shows a token
// (attacks C12, B18). What does not hold costs up to two signatures and a look into the
// database, less than the handshake of the connection that it comes by.
var (
	rateOperator = rate.Rate{PerSecond: 60, Burst: 600}      // calls with a proof, and logins, per operator key
	rateLogouts  = rate.Rate{PerSecond: 0.2, Burst: 20}      // logouts per operator key
	rateReads    = rate.Rate{PerSecond: 60, Burst: 600}      // calls without a proof per token and source network
	rateReaders  = rate.Rate{PerSecond: 240, Burst: 2400}    // calls without a proof per operator key and source network
	rateFailures = rate.Rate{PerSecond: 200, Burst: 2000}    // calls whose token or proof does not hold per source network
	rateSessions = rate.Rate{PerSecond: 20, Burst: 200}      // sessions opened per operator key
	ratePings    = rate.Rate{PerSecond: 0.5, Burst: 20}      // pings per operator key
	rateSource   = rate.Rate{PerSecond: 5, Burst: 60}        // logins, set-ups and channels per source network
	rateLarge    = rate.Rate{PerSecond: 0.1, Burst: 3}       // large bodies without a token per source network
	rateOffers   = rate.Rate{PerSecond: 0.1, Burst: 10}      // rosters without a login per source network and team
	rateArrivals = rate.Rate{PerSecond: 0.1, Burst: 20}      // registrations per agent key
	rateAlarms   = rate.Rate{PerSecond: 1.0 / 600, Burst: 5} // audit entries for displaced channels per agent key
	rateDenied   = rate.Rate{PerSecond: 1, Burst: 200}       // audit entries for denied sessions per operator key
	rateRefused  = rate.Rate{PerSecond: 0.2, Burst: 20}      // audit entries for refusals per operator key

	// rateEntries is in bytes of an agent's own log entries, per agent key: twice what it
	// keeps for us at once, and for good more than twenty entries a second.
	rateEntries = rate.Rate{PerSecond: 32 << 10, Burst: 64 << 20}
)
