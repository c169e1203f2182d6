package policy

import (
	"bytes"
	_ "embed"
)

//go:embed default.toml
var defaultFile []byte

// Default returns the policy that a new team begins with. The caller owns the copy.
func Default() []byte { return bytes.Clone(defaultFile) }
