package roster_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// flips gives accept every one-byte change of good. Whatever is accepted fails
// the test.
func flips(t *testing.T, what string, good []byte, accept func([]byte) error) {
	t.Helper()
	if err := accept(bytes.Clone(good)); err != nil {
		t.Fatalf("%s, unchanged: %v", what, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if accept(bad) == nil {
			t.Fatalf("%s: byte %d of %d, bit %d was accepted", what, i, len(good), i%8)
		}
	}
	for n := 0; n < len(good); n += 7 {
		if accept(bytes.Clone(good[:n])) == nil {
			t.Fatalf("%s: cut to %d bytes was accepted", what, n)
		}
	}
	if accept(append(bytes.Clone(good), ' ')) == nil {
		t.Fatalf("%s: with a byte behind it was accepted", what)
	}
}

func TestAnyByteFlippedInASignedObject(t *testing.T) {
	t.Parallel()
	m := foundWith(t, 0, 1, 1, func(r *roster.Roster) { // one of each: what is longer takes longer and shows the same
		r.Servers = []roster.Server{server(t, 1)}
		r.Operators = []roster.Operator{operator(t, alice, "alice", policy.Operator)}
		r.Enrollers = []roster.Enroller{{Key: public[key.Enroller](t, 1), Tags: []string{"prod", "web"}, MaxLifetime: 3600}}
	})
	u := m.next(m.state, renew)
	token, crt := m.signedToken(m.token()), m.signedCert(cert(t, 1))
	setup, err := roster.SignSetup(m.owners[0], m.state, setupInfo(t), now)
	if err != nil {
		t.Fatal(err)
	}
	small := bare(t, 1, 1)
	flips(t, "root", small.signed, func(b []byte) error {
		_, err := roster.Found(b, small.fingerprint, small.first)
		return err
	})
	flips(t, "first version", small.first.Statement, func(b []byte) error {
		_, err := roster.Found(small.signed, small.fingerprint, wire.RosterUpdate{Statement: b})
		return err
	})
	flips(t, "next version", u.Statement, func(b []byte) error {
		_, err := m.state.Apply(wire.RosterUpdate{Statement: b}, farAhead)
		return err
	})
	flips(t, "token", token, func(b []byte) error { _, err := m.state.VerifyToken(b, now); return err })
	flips(t, "token under a certificate", token, func(b []byte) error { _, err := m.state.VerifyAgent(b, crt, now); return err })
	flips(t, "certificate", crt, func(b []byte) error { _, err := m.state.VerifyAgent(token, b, now); return err })
	flips(t, "setup", setup, func(b []byte) error {
		_, err := m.state.VerifySetup(b, setupInfo(t).Keys.Access.ID(), setupInfo(t).Code, now)
		return err
	})
}

// The frame around an update is plain JSON: a flip may leave it saying the same,
// but never something else that is accepted.
func TestAnyByteFlippedInAnUpdateWithCosignatures(t *testing.T) {
	t.Parallel()
	m := bare(t, 3, 3)
	u := m.next(m.state, renew)
	good, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		var got wire.RosterUpdate
		if json.Unmarshal(bad, &got) != nil || reflect.DeepEqual(got, u) {
			continue
		}
		if _, err := m.state.Apply(got, farAhead); err == nil {
			t.Fatalf("byte %d of %d, bit %d was accepted", i, len(good), i%8)
		}
	}
}

// A statement of one kind is never taken for another, signed by whomever.
func TestStatementsAreNotInterchangeable(t *testing.T) {
	m := found(t, 0, 1, 1)
	setup, _ := roster.SignSetup(m.owners[0], m.state, setupInfo(t), now)
	all := []statement.Signed{
		m.signed, m.first.Statement, m.next(m.state, renew).Statement,
		m.signedToken(m.token()), m.signedCert(cert(t, 1)), setup, request(t, alice),
	}
	accept := map[int]func(statement.Signed) error{
		0: func(s statement.Signed) error { _, err := roster.Found(s, m.fingerprint, m.first); return err },
		2: func(s statement.Signed) error {
			_, err := found(t, 0, 1, 1).state.Apply(wire.RosterUpdate{Statement: s}, now.Add(time.Hour))
			return err
		},
		3: func(s statement.Signed) error { _, err := m.state.VerifyToken(s, now); return err },
		4: func(s statement.Signed) error { _, err := m.state.VerifyAgent(all[3], s, now); return err },
		5: func(s statement.Signed) error {
			_, err := m.state.VerifySetup(s, setupInfo(t).Keys.Access.ID(), setupInfo(t).Code, now)
			return err
		},
	}
	for want, open := range accept {
		for i, s := range all {
			if i == 1 && want == 2 {
				continue // the newest version again changes nothing
			}
			if err := open(s); (err == nil) != (i == want) {
				t.Errorf("place %d takes statement %d: %v", want, i, err)
			}
		}
	}
}
