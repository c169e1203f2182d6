package handshake

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/harden"
)

// TrafficSize is the length in bytes of the traffic block of protocol 2.6: key
// and IV operator to agent (32, 12), key and IV agent to operator (32, 12),
// exporter (32), chain (32).
const TrafficSize = 152

const exporterAt = 32 + 12 + 32 + 12

// ErrSpent is returned when traffic keys are asked for that were handed out,
// exported or erased before.
var ErrSpent = errors.New("handshake: traffic keys were used before")

// Keys is the outcome of a handshake. The traffic block leaves it once, by Take
// or by Export: two holders of one key would use its nonces twice, which breaks
// AES-GCM. Safe for concurrent use.
type Keys struct {
	harden.Opaque
	suite                     Suite
	operatorIndex, agentIndex uint32
	h4                        key.Hash

	mu     sync.Mutex
	secret harden.Hidden[material] // guarded by mu
	spent  bool                    // guarded by mu; the block was handed out
}

type material struct {
	block    [TrafficSize]byte
	exporter [32]byte
}

// newKeys copies block; the caller clears its own.
func newKeys(s Suite, operatorIndex, agentIndex uint32, h4 key.Hash, block *[TrafficSize]byte) *Keys {
	m := &material{block: *block}
	copy(m.exporter[:], block[exporterAt:])
	return &Keys{suite: s, operatorIndex: operatorIndex, agentIndex: agentIndex, h4: h4, secret: harden.Hide(m)}
}

// Suite returns the suite both sides agreed on.
func (k *Keys) Suite() Suite { return k.suite }

// OperatorIndex returns the index in datagrams to the operator.
func (k *Keys) OperatorIndex() uint32 { return k.operatorIndex }

// AgentIndex returns the index in datagrams to the agent.
func (k *Keys) AgentIndex() uint32 { return k.agentIndex }

// H4 returns the transcript hash, which READY carries. It is not a secret.
func (k *Keys) H4() key.Hash { return k.h4 }

// Exporter returns the exporter secret of protocol 2.6, for layers that bind something
// to this session. None does yet; the derivation is one call for all keys, and the
// worked vector of the protocol names this part of it too. It is zero after Erase.
func (k *Keys) Exporter() [32]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.secret.Get().exporter
}

// Take hands the traffic block to use and forgets it; use must not keep the
// pointer, must run its derivations inside harden.Do and must not call k: the
// lock is held, or Erase could clear the block under it and leave a session
// with keys of zero. Error: ErrSpent.
func (k *Keys) Take(use func(block *[TrafficSize]byte)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.spent {
		return ErrSpent
	}
	k.spent = true
	block := &k.secret.Get().block
	use(block)
	clear(block[:])
	return nil
}

// exportMagic tells a hand-over from any other bytes; its last digit is the
// version of the layout.
const exportMagic = "TDK1"

const exportSize = len(exportMagic) + 2 + 4 + 4 + 32 + TrafficSize

// Export encodes the keys for the one hand-over there is, from the agent's
// supervisor to the session process over an inherited socket pair, and forgets
// them here. The bytes must go nowhere else and the caller must clear them. It
// returns nil when the keys are spent.
//
//	"TDK1", suite 2, operator index 4, agent index 4, h4 32, traffic block 152
func (k *Keys) Export() []byte {
	b := make([]byte, 0, exportSize)
	b = append(b, exportMagic...)
	b = binary.BigEndian.AppendUint16(b, uint16(k.suite))
	b = binary.BigEndian.AppendUint32(b, k.operatorIndex)
	b = binary.BigEndian.AppendUint32(b, k.agentIndex)
	b = append(b, k.h4[:]...)
	if k.Take(func(block *[TrafficSize]byte) { b = append(b, block[:]...) }) != nil {
		return nil
	}
	return b
}

// ImportKeys reads what Export wrote. The caller still owns b and must clear it.
func ImportKeys(b []byte) (*Keys, error) {
	if len(b) != exportSize || string(b[:4]) != exportMagic {
		return nil, errors.New("importing session keys: not an export of this version")
	}
	suite := Suite(binary.BigEndian.Uint16(b[4:]))
	operator, agent := binary.BigEndian.Uint32(b[6:]), binary.BigEndian.Uint32(b[10:])
	if !suite.known() || operator == 0 || agent == 0 {
		return nil, errors.New("importing session keys: unknown suite or missing index")
	}
	var h4 key.Hash
	copy(h4[:], b[14:])
	var k *Keys
	harden.Do(func() {
		block := (*[TrafficSize]byte)(b[exportSize-TrafficSize:])
		k = newKeys(suite, operator, agent, h4, block)
	})
	return k, nil
}

// Erase forgets everything but h4 and the indices. It may be called again.
func (k *Keys) Erase() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.spent = true
	*k.secret.Get() = material{}
}
