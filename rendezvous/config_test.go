package rendezvous

import (
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestURLNamesAPortThatCanBeReached(t *testing.T) {
	for url, want := range map[string]string{
		"https://rdv.example": "", "https://rdv.example:1": "", "https://rdv.example:65535": "", "https://[2001:db8::1]:8443": "",
		"https://rdv.example:0": "url: port", "https://rdv.example:00": "url: port", "https://rdv.example:65536": "url: port", "https://rdv.example:99999999999999999999": "url: port",
		"https://rdv.example:-1": "url: ", "https://rdv.example:https": "url: ",
	} {
		err := Config{Name: "main", URL: url}.Check()
		if (err == nil) != (want == "") || err != nil && (refusal.Of(err) != refusal.BadRequest || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}
