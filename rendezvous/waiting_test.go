package rendezvous

import (
	"sync"
	"testing"
)

// TestTimeLimits runs what waits for a limit of the server all at once, whatever
// the number of cores: one after the other they would be most of this package's
// time.
func TestTimeLimits(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for name, test := range map[string]func(*testing.T){
		"K1_slow_bodies":          slowBodiesKeepNobodyOut,
		"K1_slow_callers":         slowCallersAreClosed,
		"K2_K3_broken_frames":     brokenFramesEndTheChannel,
		"K1_silent_channel":       silentChannelIsClosed,
		"waiting_calls":           waitingCallsOutliveTheirBody,
		"E1_expiry":               requestExpiresUnapproved,
		"hidden_requests":         oneOperatorCannotHideRequests,
		"K2_bodies_and_headers":   bodiesAndHeadersAreBounded,
		"renewal_after_a_restart": bothEndsRenewAlsoAfterARestart,
		"two_nodes":               rosterOfOneNodeBindsTheOther,
		"K3_frames":               webSocketFrames,
		"frame_flood":             frameFloodIsSlowedDown,
		"K4":                      noHTTP2,
		"export":                  exportVerifiesOffline,
		"export_after_pruning":    exportVerifiesWhenRequestsAreForgotten,
		"cosigned_export":         exportIsCosignedByWhoIsThere,
	} {
		all.Go(func() { t.Run(name, test) })
	}
	all.Wait()
}
