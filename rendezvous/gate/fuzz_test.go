package gate

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/wire"
)

// table has every kind of path: with and without a part that is named, and one that
// begins like another.
var table = []Route{
	{Method: http.MethodGet, Path: wire.PathHealth},
	{Method: http.MethodGet, Path: wire.PathAgents},
	{Method: http.MethodDelete, Path: wire.PathAgent},
	{Method: http.MethodGet, Path: wire.PathRequest},
	{Method: http.MethodPost, Path: wire.PathApprovals},
	{Method: http.MethodPost, Path: wire.PathRelay},
	{Method: http.MethodPost, Path: wire.PathRelayCheck},
}

func FuzzFindRoute(f *testing.F) {
	for _, r := range table {
		f.Add(r.Path)
	}
	f.Add("/v1//tokens")
	f.Fuzz(func(t *testing.T, path string) {
		for _, r := range table {
			found, vars, _ := find(table, r.Method, path)
			if found == nil {
				continue
			}
			filled := found.Path
			for name, value := range vars {
				if value == "" || strings.Contains(value, "/") {
					t.Fatalf("%q fills %s with %q", path, name, value)
				}
				filled = strings.Replace(filled, "{"+name+"}", value, 1)
			}
			if filled != path {
				t.Fatalf("%q went to %q", path, found.Path)
			}
		}
	})
}
