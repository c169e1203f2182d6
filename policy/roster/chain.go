package roster

import (
	"bytes"
	"encoding/json"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// chainHeader opens a chain file.
const chainHeader = "tucdesk-chain-v1"

// MaxChainFile bounds a chain file, in bytes: MaxChain and the cosignatures.
const MaxChainFile = MaxChain + MaxChain/4

// Encode returns the chain file. It holds no secret.
func (s *State) Encode() []byte {
	b := bytes.NewBufferString(chainHeader + "\n")
	b.Write(s.root)
	b.WriteByte('\n')
	for _, u := range s.chain {
		line, err := encode(u)
		if err != nil {
			panic("roster: internal error: a verified update does not encode")
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// Load reads a chain file and verifies all of it again from the fingerprint on,
// without a clock: what was accepted once stays. The file of another team is
// bad_chain, anything but the one spelling bad_statement.
func Load(data []byte, fingerprint key.Hash) (*State, error) {
	if len(data) > MaxChainFile {
		return nil, refusal.New(refusal.TooLarge, "a chain file of %d bytes; at most %d", len(data), MaxChainFile)
	}
	rest, ok := bytes.CutPrefix(data, []byte(chainHeader+"\n"))
	root, rest, ended := bytes.Cut(rest, []byte("\n"))
	if !ok || !ended {
		return nil, refusal.New(refusal.BadStatement, "not a chain file")
	}
	u, rest, err := nextUpdate(rest)
	if err != nil {
		return nil, err
	}
	s, err := Found(statement.Signed(root), fingerprint, u)
	for err == nil && len(rest) > 0 {
		if u, rest, err = nextUpdate(rest); err == nil {
			s, err = s.extend(u)
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func nextUpdate(data []byte) (u wire.RosterUpdate, rest []byte, err error) {
	line, rest, ended := bytes.Cut(data, []byte("\n"))
	if !ended || json.Unmarshal(line, &u) != nil {
		return u, nil, refusal.New(refusal.BadStatement, "chain file: a line is no update or cut short")
	}
	if again, err := encode(u); err != nil || !bytes.Equal(again, line) {
		return u, nil, refusal.New(refusal.BadStatement, "chain file: an update is not in its one encoding")
	}
	return u, rest, nil
}
