package checkpoint

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// MaxCosigners is how many cosignatures a checkpoint carries at most; our choice,
// what every reader of signed notes must accept beside the log's own signature.
const MaxCosigners = 15

// MaxLine caps one signature line in bytes: the longest name, 76 bytes in base64 and
// what stands between them.
const MaxLine = 256

// A cosignature is C2SP tlog-cosignature v1, Ed25519: a line of the note,
//
//	— tucdesk/agent/<kid, 64 hex digits> <base64 of key hash ‖ time ‖ signature>
//
// whose signature is over
//
//	cosignature/v1
//	time <seconds since 1970>
//	<the three lines of the checkpoint>
//
// The name says which key it is, so whoever has the key can check the line, and no
// key has two names. Identity keys sign two other things: statements, which begin
// "tucdesk-statement-v1", and the texts of a handshake, which begin
// "tucdesk-session-v1/". None is a prefix of "cosignature/v1\n" or the other way
// round, so no signature of one kind is ever one of another.
const (
	cosignLabel = "cosignature/v1\ntime "
	cosignType  = 4 // of the signed-note format: timestamped Ed25519 cosignature
)

// Cosigner is the role of a key that cosigns: the identities of those who see
// checkpoints.
type Cosigner interface{ key.Agent | key.Operator }

// CosignerName is the name in a key's cosignatures.
func CosignerName[R Cosigner](k key.Public[R]) string {
	role := "agent"
	if _, is := any(k).(key.Public[key.Operator]); is {
		role = "operator"
	}
	return "tucdesk/" + role + "/" + k.ID().String()
}

// Cosign returns the line in which k says that at that time this was the newest
// checkpoint that it had verified. Only a witness calls it, once it is certain.
func Cosign[R Cosigner](c Checkpoint, k key.Private[R], at time.Time) (string, error) {
	if at.Unix() < 0 {
		return "", refusal.New(refusal.BadTime, "a cosignature from before 1970")
	}
	seconds := uint64(at.Unix())
	raw := binary.BigEndian.AppendUint32(nil, cosignerHash(k.Public()))
	raw = binary.BigEndian.AppendUint64(raw, seconds)
	raw = append(raw, k.Sign(cosigned(c, seconds))...)
	return "— " + CosignerName(k.Public()) + " " + base64.StdEncoding.EncodeToString(raw), nil
}

func cosigned(c Checkpoint, seconds uint64) []byte {
	return []byte(cosignLabel + strconv.FormatUint(seconds, 10) + "\n" + c.text())
}

func cosignerHash[R Cosigner](k key.Public[R]) uint32 {
	h := sha256.Sum256(append([]byte(CosignerName(k)+"\n"), append([]byte{cosignType}, k.Bytes()...)...))
	return binary.BigEndian.Uint32(h[:4])
}

// CheckCosignature verifies that line is k's cosignature of c and returns when it was
// made. Refusal: bad_signature.
func CheckCosignature[R Cosigner](c Checkpoint, line string, k key.Public[R]) (time.Time, error) {
	bad := refusal.New(refusal.BadSignature, "cosignature of a checkpoint")
	text, isNamed := strings.CutPrefix(line, "— "+CosignerName(k)+" ")
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	const head = 4 + 8
	if !isNamed || err != nil || len(line) > MaxLine || len(raw) != head+key.SignatureSize || base64.StdEncoding.EncodeToString(raw) != text {
		return time.Time{}, bad
	}
	seconds := binary.BigEndian.Uint64(raw[4:head])
	if binary.BigEndian.Uint32(raw) != cosignerHash(k) || seconds > 1<<62 || !k.Verify(cosigned(c, seconds), raw[head:]) {
		return time.Time{}, bad
	}
	return time.Unix(int64(seconds), 0).UTC(), nil
}

// WithCosignatures returns the signed note with lines added, as many as fit.
func WithCosignatures(signed string, lines ...string) string {
	for _, l := range lines[:min(len(lines), MaxCosigners)] {
		signed += l + "\n"
	}
	return signed
}

// Line is a signature line of a note that is not the log's own.
type Line struct {
	Role string // "agent", "operator", or "" for a witness of another kind
	Kid  key.ID // of the cosigner, where Role says that it is one of ours
	Text string // for CheckCosignature
}

// Cosignatures lists the other signature lines of a note that Open has accepted, the
// first MaxCosigners of them. Nothing of them is verified.
func Cosignatures(signed, origin string, keys ...key.Public[key.Audit]) []Line {
	n, err := note.Open([]byte(signed), verifiers{origin: origin, keys: keys})
	if err != nil {
		return nil
	}
	var list []Line
	for _, s := range n.UnverifiedSigs[:min(len(n.UnverifiedSigs), MaxCosigners)] {
		l := Line{Text: "— " + s.Name + " " + s.Base64}
		for _, role := range []string{"agent", "operator"} {
			text, is := strings.CutPrefix(s.Name, "tucdesk/"+role+"/")
			if kid, err := key.ParseID(text); is && err == nil && kid.String() == text {
				l.Role, l.Kid = role, kid
			}
		}
		list = append(list, l)
	}
	return list
}
