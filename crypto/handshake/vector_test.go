package handshake

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
)

// vector is protocol 2.12.
type vector struct {
	op       *Operator
	agent    *Agent
	operator key.Private[key.Operator]
	identity key.Private[key.Agent]
	m1, m2   []byte
}

func seeded[R key.Role](t testing.TB, b byte) key.Private[R] {
	t.Helper()
	k, err := key.FromSeed[R](bytes.Repeat([]byte{b}, key.SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func fixedX25519(t testing.TB, b byte) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newVector(t testing.TB) *vector {
	t.Helper()
	v := &vector{operator: seeded[key.Operator](t, 1), identity: seeded[key.Agent](t, 2)}
	cfg := OperatorConfig{Identity: v.operator, RosterHash: sha256.Sum256([]byte("roster")), Suites: []Suite{X25519}}
	for i := range cfg.Session {
		cfg.Session[i] = byte(i)
	}
	var err error
	if v.op, err = newOperator(cfg, ephemeral{x: fixedX25519(t, 3), index: 0x11111111}); err != nil {
		t.Fatal(err)
	}
	if v.m1, err = v.op.Open(sha256.Sum256([]byte("request"))); err != nil {
		t.Fatal(err)
	}
	acfg := AgentConfig{
		Identity: v.identity, Operator: v.operator.Public(), Suites: []Suite{X25519},
		GrantHash: sha256.Sum256([]byte("grant")), RosterHash: sha256.Sum256([]byte("roster")),
	}
	if v.agent, v.m2, err = accept(acfg, v.m1, ephemeral{x: fixedX25519(t, 4), index: 0x22222222}); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *vector) find(key.ID) (key.Public[key.Agent], error) { return v.identity.Public(), nil }

func TestWorkedVector(t *testing.T) {
	v := newVector(t)
	h0 := startHash(X25519)
	h1 := extend(h0, v.m1)
	is := func(name string, got []byte, want string) {
		t.Helper()
		if hex.EncodeToString(got) != want {
			t.Errorf("%s = %x, want %s", name, got, want)
		}
	}
	is("h0", h0[:], "8e1b7856c6bd604e162a37ba48d467da8774102dd90a1b183acf9681bdcb5cda")
	is("h1", h1[:], "2c09607e0636d826c9a3d2ffa08acaca8f4fecbaef82486996e517a5e2745428")
	is("h2", v.agent.h2[:], "ff4dddce3a741826f85bc1c7fe37e20d06760328204a390163b0c0f40845ab47")
	is("ss", v.agent.secrets.Get().ss, "40e47a3f525bdcac491d418978d7db5af623ac7afe7623c6d78a5d4fce9d0f63")
	is("k_hs_a", v.agent.secrets.Get().agent, "10aaeb9086c8ae40316b2ec5753c35769583e7333811fa3b6c8e6a565b1536ee")
	is("k_hs_o", v.agent.secrets.Get().operator, "3523eb849044d43463ab95b5b48dd31cfd0de5b3ed5832709f9a8d7d93ae549e")
	m3, _, okeys, err := v.op.Confirm(v.m2, v.find)
	if err != nil {
		t.Fatal(err)
	}
	h3 := extend(v.agent.h2, v.agent.sealed, m3[:confirmHeader]...)
	is("h3", h3[:], "f9eadafeb6031b0b69902508be7009ccf45e793753d3b4ed529f6177aab2fea5")
	akeys, err := v.agent.Confirm(m3)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.m1) != 120 || len(v.m2) != 128+120 || len(m3) != 8+112 {
		t.Errorf("sizes are %d, %d, %d", len(v.m1), len(v.m2), len(m3))
	}
	for _, k := range []*Keys{okeys, akeys} {
		h4 := k.H4()
		is("h4", h4[:], "3128016261afef793fdeddcf6ba56bc179b1dbcd6f59eaf1ff69919faa0158da")
		is("k_o2a", k.secret.Get().block[:32], "5fa49e58f1a15dc70ade4bfe1b78fa393958d71a7b4f8c95145823c3a53a5c77")
		is("iv_o2a", k.secret.Get().block[32:44], "25b32d0a3719df557f36c3a3")
		is("k_a2o", k.secret.Get().block[44:76], "a809f03d345fe88f8fd659c35af27cea7a4b1f3a58771949de66320d6ff5b410")
		is("iv_a2o", k.secret.Get().block[76:88], "6540df316727053ac71e5d66")
		exporter := k.Exporter()
		is("export", exporter[:], "6d12e33ec890f517e18e8a945d797748161d45f3cd12e2c858aee4e639469a8f")
		is("chain", k.secret.Get().block[120:], "d2720b3215516d47d338a2cdc7cac52c706110068d9a7a5a7b320cfd39fc44cd")
	}
}
