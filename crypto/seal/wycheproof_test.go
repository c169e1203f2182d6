package seal

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
)

// Wycheproof is a module without Go code; it is never a dependency of ours. Its
// vectors are taken from the module cache, through the go command.
const wycheproof = "github.com/c2sp/wycheproof@v0.0.0-20260902155932-3fa63dd0344a"

// missing skips for a developer and fails for the release: a suite that silently
// does not run protects nobody.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func wycheproofDir(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", wycheproof)
	cmd.Dir = t.TempDir() // not ours: the download must not touch go.mod and go.sum
	out, err := cmd.Output()
	var module struct{ Dir string }
	if err != nil || json.Unmarshal(out, &module) != nil || module.Dir == "" {
		missing(t, "the Wycheproof vectors are not to be had; with a network, run: go mod download %s", wycheproof)
	}
	return filepath.Join(module.Dir, "testvectors_v1")
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// vectorCase has the fields of all five suites; a case uses some of them.
type vectorCase struct {
	TcID    int
	Comment string
	Flags   []string
	Result  string // valid, invalid, acceptable

	Key, Iv, Aad, Msg, Ct, Tag hexBytes // aes_gcm; Msg also ed25519
	Ikm, Salt, Info, Okm       hexBytes // hkdf
	Size                       int
	Public, Private, Shared    hexBytes // x25519
	Sig                        hexBytes // ed25519
	Seed, Ek, M, C, K          hexBytes // mlkem
}

type vectorGroup struct {
	KeySize, IvSize, TagSize int
	PublicKey                struct{ Pk hexBytes }
	Tests                    []vectorCase
}

// eachVector calls check for each case; it must report whether our primitive
// took the input and gave the expected output. With the race detector it takes the
// first case with each comment and set of flags: one goroutine's arithmetic has no
// races, and CI runs all cases without it.
func eachVector(t *testing.T, dir, file string, atLeast int, use func(g *vectorGroup) bool, check func(g *vectorGroup, c *vectorCase) bool) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	var suite struct{ TestGroups []vectorGroup }
	if err := json.Unmarshal(raw, &suite); err != nil {
		t.Fatal(err)
	}
	ran, seen := 0, map[string]bool{}
	for i := range suite.TestGroups {
		g := &suite.TestGroups[i]
		if use != nil && !use(g) {
			continue
		}
		for j := range g.Tests {
			c := &g.Tests[j]
			ran++
			kind := fmt.Sprint(c.Comment, c.Flags, c.Result)
			if raceDetector && seen[kind] {
				continue
			}
			seen[kind] = true
			if got := check(g, c); c.Result == "valid" && !got || c.Result == "invalid" && got {
				t.Errorf("%s case %d (%s, %v): want %s", file, c.TcID, c.Comment, c.Flags, c.Result)
			}
		}
	}
	if ran < atLeast {
		t.Errorf("%s: only %d cases, want %d at least", file, ran, atLeast)
	}
}

func TestWycheproof(t *testing.T) {
	dir := wycheproofDir(t)
	t.Run("x25519", func(t *testing.T) { x25519Vectors(t, dir) })
	t.Run("ed25519", func(t *testing.T) { ed25519Vectors(t, dir) })
	t.Run("aes_gcm", func(t *testing.T) { gcmVectors(t, dir) })
	t.Run("hkdf_sha256", func(t *testing.T) { hkdfVectors(t, dir) })
	t.Run("mlkem_768", func(t *testing.T) { mlkemVectors(t, dir) })
}

// x25519Vectors: the suite calls low-order inputs acceptable; we refuse them.
func x25519Vectors(t *testing.T, dir string) {
	low := 0
	eachVector(t, dir, "x25519_test.json", 500, nil, func(_ *vectorGroup, c *vectorCase) bool {
		priv, err := ecdh.X25519().NewPrivateKey(c.Private)
		if err != nil {
			return false
		}
		pub, err := ecdh.X25519().NewPublicKey(c.Public)
		if err != nil {
			return false
		}
		ss, err := priv.ECDH(pub)
		if bytes.Equal(c.Shared, make([]byte, 32)) {
			low++
			if err == nil {
				t.Errorf("case %d: a low-order key was taken", c.TcID)
			}
		}
		return err == nil && bytes.Equal(ss, c.Shared)
	})
	if low < 10 {
		t.Errorf("only %d low-order cases", low)
	}
}

func ed25519Vectors(t *testing.T, dir string) {
	eachVector(t, dir, "ed25519_test.json", 140, nil, func(g *vectorGroup, c *vectorCase) bool {
		pub, err := key.PublicFromBytes[key.Operator](g.PublicKey.Pk)
		return err == nil && pub.Verify(c.Msg, c.Sig)
	})
}

// gcmVectors runs those of our one form: 256-bit key, 96-bit nonce, 128-bit tag.
func gcmVectors(t *testing.T, dir string) {
	ours := func(g *vectorGroup) bool { return g.KeySize == 256 && g.IvSize == 96 && g.TagSize == 128 }
	eachVector(t, dir, "aes_gcm_test.json", 60, ours, func(_ *vectorGroup, c *vectorCase) bool {
		aead := newGCM(c.Key)
		sealed := append(bytes.Clone(c.Ct), c.Tag...)
		plain, err := aead.Open(nil, c.Iv, sealed, c.Aad)
		return err == nil && bytes.Equal(plain, c.Msg) && bytes.Equal(aead.Seal(nil, c.Iv, c.Msg, c.Aad), sealed)
	})
}

func hkdfVectors(t *testing.T, dir string) {
	eachVector(t, dir, "hkdf_sha256_test.json", 80, nil, func(_ *vectorGroup, c *vectorCase) bool {
		out, err := hkdf.Key(sha256.New, c.Ikm, c.Salt, string(c.Info), c.Size)
		return err == nil && bytes.Equal(out, c.Okm)
	})
}

func mlkemVectors(t *testing.T, dir string) {
	eachVector(t, dir, "mlkem_768_keygen_seed_test.json", 100, nil, func(_ *vectorGroup, c *vectorCase) bool {
		dk, err := mlkem.NewDecapsulationKey768(c.Seed)
		return err == nil && bytes.Equal(dk.EncapsulationKey().Bytes(), c.Ek)
	})
	eachVector(t, dir, "mlkem_768_test.json", 200, nil, func(_ *vectorGroup, c *vectorCase) bool {
		dk, err := mlkem.NewDecapsulationKey768(c.Seed)
		if err != nil {
			return false
		}
		ss, err := dk.Decapsulate(c.C)
		return err == nil && bytes.Equal(ss, c.K)
	})
	eachVector(t, dir, "mlkem_768_encaps_test.json", 260, nil, func(_ *vectorGroup, c *vectorCase) bool {
		ek, err := mlkem.NewEncapsulationKey768(c.Ek)
		if err != nil {
			return false
		}
		ss, ct, err := mlkemtest.Encapsulate768(ek, c.M)
		return err == nil && bytes.Equal(ss, c.K) && bytes.Equal(ct, c.C)
	})
}
