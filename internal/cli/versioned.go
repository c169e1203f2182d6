package cli

import (
	"bytes"
	"encoding/json"
)

// schemaVersion is that of every answer as JSON which says no other itself. A field may be
// added to it, none changes or goes.
const schemaVersion = `{"schemaVersion":1`

// versioned is v as JSON, where an object, and each object of a list, begins with its
// schemaVersion: scripts take lists apart, and lists stay the arrays that they are
// (docs/decisions/0026).
func versioned(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	raw := bytes.TrimSpace(b.Bytes())
	if raw[0] != '[' {
		return versionedObject(raw), nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	parts := make([][]byte, len(list))
	for i, one := range list {
		parts[i] = versionedObject(one)
	}
	return append(append([]byte("["), bytes.Join(parts, []byte(","))...), ']'), nil
}

func versionedObject(raw []byte) []byte {
	switch {
	case raw[0] != '{', bytes.HasPrefix(raw, []byte(`{"schemaVersion":`)):
		return raw
	case string(raw) == "{}":
		return []byte(schemaVersion + "}")
	}
	return append([]byte(schemaVersion+","), raw[1:]...)
}
