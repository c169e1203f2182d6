package wire

import (
	"encoding/json"
	"testing"
)

// A server that lies cannot write to an approver's terminal in the place of a state.
func TestJ1AStateThatIsNoneIsRefused(t *testing.T) {
	for _, state := range []RequestState{RequestPending, RequestApproved, RequestDenied, RequestExpired, RequestCancelled, RequestUsed} {
		raw, err := json.Marshal(RequestInfo{State: state})
		if err != nil {
			t.Fatal(err)
		}
		var got RequestInfo
		if err := json.Unmarshal(raw, &got); err != nil || got.State != state {
			t.Errorf("%s: %q, %v", state, got.State, err)
		}
	}
	for _, text := range []string{"", "Approved", "approved ", "used\u001b]0;x\a", "\u001b[2Japproved"} {
		raw, err := json.Marshal(map[string]string{"state": text})
		if err != nil {
			t.Fatal(err)
		}
		var got RequestInfo
		if err := json.Unmarshal(raw, &got); err == nil || got.State != "" {
			t.Errorf("%q was taken as a state", text)
		}
	}
}
