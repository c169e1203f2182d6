package cli

import (
	"bytes"
	"testing"
)

// Every answer as JSON says its version, and lists stay lists.
func TestJSONHasItsSchemaVersion(t *testing.T) {
	type host struct {
		Name string `json:"name"`
	}
	for want, v := range map[string]any{
		"{\n  \"schemaVersion\": 1,\n  \"name\": \"a<b\"\n}\n": host{"a<b"},
		"{\n  \"schemaVersion\": 1\n}\n":                       struct{}{},
		"{\n  \"schemaVersion\": 7\n}\n": struct {
			Schema int `json:"schemaVersion"`
		}{7},
		"[]\n": []host{},
		"[\n  {\n    \"schemaVersion\": 1,\n    \"name\": \"b\"\n  }\n]\n": []host{{"b"}},
		"[\n  3\n]\n": []int{3},
	} {
		var out bytes.Buffer
		if err := (&IO{Out: &out}).PrintJSON(v); err != nil || out.String() != want {
			t.Errorf("%v: %q, %v; want %q", v, out.String(), err, want)
		}
	}
}
