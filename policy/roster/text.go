package roster

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// The text forms people copy: a prefix that names the kind, then base64url of
// one JSON object in its one spelling. One checked string holds the address and
// the keys together, so nothing is taken from a file name or typed apart.
const (
	joinPrefix  = "tucdesk-join:"
	setupPrefix = "tucdesk-setup:"
	teamPrefix  = "tucdesk-team:"

	maxForm      = 64 << 10 // bytes of a text form; our choice, above root and token of the largest size
	minSetupCode = 16       // bytes: 128 bits cannot be guessed
	maxSetupCode = 64       // bytes
)

// Join is a join string that was read. Its token is not verified yet: that takes
// a roster, which the server at Token.Server hands out and Found and Apply check
// against Fingerprint. Then State.VerifyToken has the last word.
type Join struct {
	Root        Root
	RootSigned  statement.Signed
	Fingerprint key.Hash
	Token       Token
	TokenSigned statement.Signed
	Key         key.Private[key.Token]
}

type joinForm struct {
	Root  statement.Signed `json:"root"`
	Token statement.Signed `json:"token"`
	Seed  wire.Bytes       `json:"seed"`
}

// JoinString returns what an installer gets. It is a secret: whoever has it can
// enrol as many hosts as the token has uses.
func JoinString(root, token statement.Signed, k key.Private[key.Token]) (string, error) {
	var seed bytes.Buffer
	if err := k.WriteSeed(&seed); err != nil {
		return "", err
	}
	defer clear(seed.Bytes())
	return writeForm(joinPrefix, joinForm{Root: root, Token: token, Seed: seed.Bytes()})
}

// ParseJoin reads a join string. A damaged one is bad_token, one whose parts do
// not belong together wrong_team.
func ParseJoin(s string) (Join, error) {
	form, err := readForm[joinForm](joinPrefix, s)
	if err != nil {
		return Join{}, err
	}
	defer clear(form.Seed)
	j := Join{RootSigned: form.Root, TokenSigned: form.Token, Fingerprint: form.Root.Hash()}
	if j.Root, err = OpenRoot(form.Root, j.Fingerprint); err != nil {
		return Join{}, err
	}
	if j.Token, err = unverified[Token](form.Token); err != nil {
		return Join{}, err
	}
	if j.Token.Team != j.Root.Team || j.Token.Fingerprint != j.Fingerprint {
		return Join{}, refusal.New(refusal.WrongTeam, "the join string's token is of another team than its root")
	}
	if err := j.Token.Validate(); err != nil {
		return Join{}, err
	}
	if len(form.Seed) != key.SeedSize {
		return Join{}, refusal.New(refusal.BadToken, "the join string's seed has the wrong length")
	}
	if j.Key, err = key.FromSeed[key.Token](form.Seed); err != nil {
		return Join{}, err
	}
	if j.Key.Public() != j.Token.Key {
		return Join{}, refusal.New(refusal.BadToken, "the join string's seed is not the token's")
	}
	return j, nil
}

// SetupInfo is what a fresh server prints for whoever installed it.
type SetupInfo struct {
	Name string          `json:"name"` // of the server, under which the first roster lists it
	URL  string          `json:"url"`
	Keys wire.ServerKeys `json:"keys"`
	Code wire.Bytes      `json:"code"` // one-time secret, 16 to 64 bytes
}

// SetupString returns the text form, a secret until the setup is done.
func SetupString(i SetupInfo) (string, error) {
	if err := i.validate(); err != nil {
		return "", err
	}
	return writeForm(setupPrefix, i)
}

// ParseSetup reads what SetupString wrote.
func ParseSetup(s string) (SetupInfo, error) {
	i, err := readForm[SetupInfo](setupPrefix, s)
	if err != nil {
		return SetupInfo{}, err
	}
	return i, i.validate()
}

// Server returns the roster entry for this server.
func (i SetupInfo) Server() Server { return Server{Name: i.Name, URL: i.URL, Keys: i.Keys} }

func (i SetupInfo) validate() error {
	if len(i.Code) < minSetupCode || len(i.Code) > maxSetupCode {
		return refusal.New(refusal.BadToken, "a setup code has %d to %d bytes", minSetupCode, maxSetupCode)
	}
	if !policy.ValidAgentName(i.Name) {
		return refusal.New(refusal.BadName, "server name: want 1 to %d of a-z, 0-9, . and -", MaxName)
	}
	return validAddress(i.Server().Address())
}

// TeamInfo is what a new operator needs to know of a team. It holds no secret,
// but it must come from somebody trusted, or be compared by Fingerprint.
type TeamInfo struct {
	Server Address
	Root   statement.Signed
}

type teamForm struct {
	URL    string           `json:"url"`
	Pin    key.Hash         `json:"pin"`
	Access key.ID           `json:"access"`
	Root   statement.Signed `json:"root"`
}

// Fingerprint returns the team fingerprint.
func (t TeamInfo) Fingerprint() key.Hash { return t.Root.Hash() }

// TeamString returns the text form.
func TeamString(t TeamInfo) (string, error) {
	if err := t.validate(); err != nil {
		return "", err
	}
	return writeForm(teamPrefix, teamForm{t.Server.URL, t.Server.Pin, t.Server.Access, t.Root})
}

// ParseTeam reads what TeamString wrote.
func ParseTeam(s string) (TeamInfo, error) {
	f, err := readForm[teamForm](teamPrefix, s)
	if err != nil {
		return TeamInfo{}, err
	}
	t := TeamInfo{Server: Address{f.URL, f.Pin, f.Access}, Root: f.Root}
	return t, t.validate()
}

func (t TeamInfo) validate() error {
	if _, err := OpenRoot(t.Root, t.Root.Hash()); err != nil {
		return err
	}
	return validAddress(t.Server)
}

func writeForm(prefix string, form any) (string, error) {
	raw, err := encode(form)
	if err != nil {
		return "", fmt.Errorf("writing a %q string: %v", prefix, err)
	}
	defer clear(raw)
	return prefix + base64.RawURLEncoding.EncodeToString(raw), nil
}

// readForm takes the one spelling only, so that what two people compare or a log
// records is one string. White space around it is the terminal's.
func readForm[F any](prefix, s string) (form F, err error) {
	bad := refusal.New(refusal.BadToken, "not a complete %q string: copy all of it", prefix)
	text, ok := strings.CutPrefix(strings.TrimSpace(s), prefix)
	if !ok || len(text) > maxForm || strings.ContainsAny(text, "\r\n") { // which the decoder skips even when strict
		return form, bad
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return form, bad
	}
	defer clear(raw)
	var read, zero F
	if json.Unmarshal(raw, &read) != nil {
		return zero, bad
	}
	again, err := encode(read)
	defer clear(again)
	if err != nil || !bytes.Equal(again, raw) {
		return zero, bad
	}
	return read, nil
}

// encode writes JSON in the one spelling of package statement.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// unverified decodes a statement whose signer cannot be known yet. It exists for
// the token in a join string, which names the server that has the roster, and for
// rosters of a chain that was verified before.
func unverified[P statement.Payload](s statement.Signed) (P, error) {
	p, _, err := statement.OpenSelfSigned(s, func(_ P, id key.ID) (statement.Verifier, error) { return anyone(id), nil })
	return p, err
}

// anyone is the key that is not checked; see unverified.
type anyone key.ID

func (a anyone) ID() key.ID              { return key.ID(a) }
func (a anyone) Verify(_, _ []byte) bool { return true }
