package session

import (
	"encoding/binary"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
)

// Ready is what the agent says in READY: the policy result in force and the head
// of its audit chain (protocol 2.7, 5.2). The operator may keep the head as
// evidence.
type Ready struct {
	Rule        string        // policy rule that allowed the session, at most 128 bytes
	Policy      key.Hash      // hash of the policy it stands in
	MaxDuration time.Duration // whole seconds; 0 is unlimited
	MaxIdle     time.Duration // longest pause without input, whole seconds; 0 is unlimited
	MaxResume   time.Duration // how long the agent keeps the session without a network, whole seconds; 0 is DefaultResume
	AuditSeq    uint64        // number of the agent's last audit entry
	AuditHead   key.Hash      // its hash
}

const (
	maxRule   = 128
	readySize = 32 + 32 + 4 + 4 + 4 + 8 + 32 + 1 // without the rule
)

// marshal writes the body of the READY frame. A longer rule name is cut: it is
// for people.
func (r Ready) marshal(h4 key.Hash) []byte {
	rule := r.Rule[:min(len(r.Rule), maxRule)]
	b := make([]byte, 0, readySize+len(rule))
	b = append(b, h4[:]...)
	b = append(b, r.Policy[:]...)
	b = binary.BigEndian.AppendUint32(b, seconds(r.MaxDuration))
	b = binary.BigEndian.AppendUint32(b, seconds(r.MaxIdle))
	b = binary.BigEndian.AppendUint32(b, seconds(r.MaxResume))
	b = binary.BigEndian.AppendUint64(b, r.AuditSeq)
	b = append(b, r.AuditHead[:]...)
	b = append(b, byte(len(rule)))
	return append(b, rule...)
}

// seconds never turns a limit into "unlimited".
func seconds(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	return uint32(min(max(d/time.Second, 1), 1<<32-1))
}

func parseReady(b []byte) (h4 key.Hash, r Ready, err error) {
	if len(b) < readySize || len(b) != readySize+int(b[readySize-1]) || b[readySize-1] > maxRule {
		return h4, r, errFrame
	}
	copy(h4[:], b)
	copy(r.Policy[:], b[32:])
	r.MaxDuration = time.Duration(binary.BigEndian.Uint32(b[64:])) * time.Second
	r.MaxIdle = time.Duration(binary.BigEndian.Uint32(b[68:])) * time.Second
	r.MaxResume = time.Duration(binary.BigEndian.Uint32(b[72:])) * time.Second
	r.AuditSeq = binary.BigEndian.Uint64(b[76:])
	copy(r.AuditHead[:], b[84:])
	r.Rule = string(b[readySize:])
	return h4, r, nil
}
