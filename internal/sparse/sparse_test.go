package sparse

import (
	"strings"
	"testing"
)

func TestElementsOfAllListsCount(t *testing.T) {
	for text, want := range map[string]int{
		`{}`: 0, `{"a":1,"b":2}`: 0, `[1,2,3]`: 3, `{"a":[{},{},null],"b":[[],[0]]}`: 3 + 2 + 2 + 1 - 1,
		`{"a":"[1,2,3]","b":"\\\"[,"}`: 0, `["a,b","c"]`: 2, `]]],,,`: 0, ``: 0, `"\`: 0,
	} {
		if got := Elements([]byte(text)); got < want || got > want+2 { // an empty list counts as one
			t.Errorf("%s has %d elements, want %d", text, got, want)
		}
	}
}

// TestK2ShortElementsAreTooMany, whatever they say, at any depth.
func TestK2ShortElementsAreTooMany(t *testing.T) {
	for _, element := range []string{"{}", "null", "0", "[]", `""`, `{"a":[{}]}`} {
		text := `{"x":[` + strings.TrimSuffix(strings.Repeat(element+",", 100_000), ",") + `]}`
		if Lists([]byte(text), 1000) {
			t.Errorf("100,000 times %s pass", element)
		}
	}
	digest := `"` + strings.Repeat("A", 43) + `",`
	if !Lists([]byte(`[`+strings.Repeat(digest, 100_000)+`""]`), 1000) {
		t.Error("a long list of digests is refused")
	}
}
