package credential

import (
	"bytes"
	"encoding/base64"
	"fmt"
)

// FilePrefix begins the file by which the rendezvous server and its relays share their
// secret, so that no other file is taken for one. Base64url without padding and a line end
// follow.
const FilePrefix = "tucdesk-relay-secret:"

// FileText is the text of the file with s in it, which the caller clears.
func (s Secret) FileText() []byte {
	return append(base64.RawURLEncoding.AppendEncode([]byte(FilePrefix), s.b), '\n')
}

// ParseFile reads what FileText wrote, in its one spelling, with the line end or without.
// Who reads the file has looked at its mode. The error says nothing of the text.
func ParseFile(text []byte) (Secret, error) {
	enc, ok := bytes.CutPrefix(bytes.TrimSuffix(text, []byte("\n")), []byte(FilePrefix))
	if !ok {
		return Secret{}, fmt.Errorf("relay secret: it does not begin with %q", FilePrefix)
	}
	b := make([]byte, base64.RawURLEncoding.DecodedLen(len(enc)))
	defer clear(b)
	// The decoder skips line ends even when it is strict, and then there is less than it says.
	n, err := base64.RawURLEncoding.Strict().Decode(b, enc)
	if err != nil || n != len(b) {
		return Secret{}, fmt.Errorf("relay secret: not base64url")
	}
	return SecretFrom(b)
}
