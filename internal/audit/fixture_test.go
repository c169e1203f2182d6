package audit_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/ledger"
	"github.com/tucdesk/tucdesk/internal/audit/spool"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// start is when every team of these tests is founded.
var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// memory is the rows of one team: the Tx that a log stands on, and the Source
// of its export. Nothing rolls back; the database's own tests look at that.
type memory struct {
	entries  []statement.Signed
	ids      map[wire.Nonce]int64 // 1 and the index of the first entry of an id
	hashes   []key.Hash
	heads    map[key.ID]head
	notes    []string
	cosigned map[int64][]string

	root      statement.Signed
	rosters   []wire.RosterUpdate
	hosts     []export.Host
	approvals map[key.Hash]statement.Signed
}

// head is the end of one signer's chain.
type head struct {
	seq  uint64
	hash key.Hash
}

func newMemory() *memory {
	return &memory{ids: map[wire.Nonce]int64{}, heads: map[key.ID]head{}, approvals: map[key.Hash]statement.Signed{}}
}

func (m *memory) AuditExtend(int64) (int64, error) { return int64(len(m.entries)), nil }
func (m *memory) AuditSize() (int64, error)        { return int64(len(m.entries)), nil }
func (m *memory) PutAuditEntry(index int64, _ wire.Nonce, s statement.Signed) error {
	if index != int64(len(m.entries)) {
		return fmt.Errorf("entry %d of %d", index, len(m.entries))
	}
	m.entries = append(m.entries, s)
	if id := entry.Peek(s).ID; m.ids[id] == 0 {
		m.ids[id] = index + 1
	}
	return nil
}
func (m *memory) PutAuditHashes(first int64, hashes []key.Hash) error {
	if first != int64(len(m.hashes)) {
		return fmt.Errorf("hash %d of %d", first, len(m.hashes))
	}
	m.hashes = append(m.hashes, hashes...)
	return nil
}
func (m *memory) AuditHashes(indexes []int64) ([]key.Hash, error) {
	var list []key.Hash
	for _, i := range indexes {
		list = append(list, m.hashes[i])
	}
	return list, nil
}
func (m *memory) AuditHead(signer key.ID) (uint64, key.Hash, error) {
	c := m.heads[signer]
	return c.seq, c.hash, nil
}
func (m *memory) SetAuditHead(signer key.ID, seq uint64, hash key.Hash) error {
	m.heads[signer] = head{seq, hash}
	return nil
}
func (m *memory) PutCheckpoint(_ int64, note string) error {
	m.notes = append(m.notes, note)
	return nil
}
func (m *memory) AuditIndex(id wire.Nonce) (int64, bool, error) {
	return m.ids[id] - 1, m.ids[id] > 0, nil
}
func (m *memory) Cosignatures(after, last int64) (map[int64][]string, error) {
	lines := map[int64][]string{}
	for size, l := range m.cosigned {
		if size > after && size <= last {
			lines[size] = l
		}
	}
	return lines, nil
}
func (m *memory) LastCheckpoint() (string, error) {
	if len(m.notes) == 0 {
		return "", nil
	}
	return m.notes[len(m.notes)-1], nil
}
func (m *memory) Checkpoints(after int64, limit int) (list []string, err error) {
	for _, n := range m.notes {
		if c, _ := checkpoint.Peek(n); c.Size > after && len(list) < limit {
			list = append(list, n)
		}
	}
	return list, nil
}
func (m *memory) Root() (statement.Signed, error)                { return m.root, nil }
func (m *memory) Rosters(uint64) ([]wire.RosterUpdate, error)    { return m.rosters, nil }
func (m *memory) Entries(a, b int64) ([]statement.Signed, error) { return m.entries[a:b], nil }
func (m *memory) Approval(h key.Hash) (statement.Signed, error)  { return m.approvals[h], nil }
func (m *memory) Hosts(after key.ID, _ int) ([]export.Host, key.ID, error) {
	if !after.IsZero() {
		return nil, after, nil
	}
	return m.hosts, key.ID{1}, nil
}

// put stores an entry as a server does that checks nothing.
func put(rows *memory, index int64, s statement.Signed) error {
	first, hashes, err := tree.Grow(rows, index, s)
	if err != nil {
		return err
	}
	return errors.Join(rows.PutAuditEntry(index, wire.Nonce{}, s), rows.PutAuditHashes(first, hashes))
}

// world is a team with one server, two agents and some people.
type world struct {
	t      testing.TB
	rows   *memory
	log    *ledger.Log
	owner  key.Private[key.Owner]
	server key.Private[key.Audit]
	ann    key.Private[key.Operator] // asks
	bob    key.Private[key.Operator] // approves
	cid    key.Private[key.Operator] // approves too
	agents []*machine
	state  *roster.State
	now    time.Time
}

// machine is one agent with its spool.
type machine struct {
	key   key.Private[key.Agent]
	spool *spool.Spool
	host  export.Host
	cert  roster.AgentCert
	dir   string
}

// private makes the n-th key of a role, always the same.
func private[R key.Role](t testing.TB, n byte) key.Private[R] {
	t.Helper()
	return once(numbered[R]{n}, func() key.Private[R] {
		k, err := key.FromSeed[R](bytes.Repeat([]byte{n}, key.SeedSize))
		check(t, err)
		return k
	})
}

// numbered is what once knows a key by; its type says the role.
type numbered[R key.Role] struct{ n byte }

// signed is what each test signs anew without it: the same words by the same keys, at
// the same time. Signing costs most of a small test, above all under the race detector.
var signed sync.Map

// once returns what do made for that subject the first time. It must not be changed.
func once[T any](subject any, do func() T) T {
	if v, ok := signed.Load(subject); ok {
		return v.(T)
	}
	v := do()
	signed.Store(subject, v)
	return v
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		t: t, rows: newMemory(), now: start, owner: private[key.Owner](t, 1), server: private[key.Audit](t, 4),
		ann: private[key.Operator](t, 11), bob: private[key.Operator](t, 12), cid: private[key.Operator](t, 13),
	}
	f := once("founding", w.found)
	w.rows.root, w.rows.rosters, w.state = slices.Clone(f.root), []wire.RosterUpdate{f.first}, f.state
	var err error
	w.log, err = ledger.New("rendezvous.example", w.state.Team(), w.server)
	check(t, err)
	w.record(entry.Entry{Type: entry.TeamFound})
	w.join("web")
	w.join("db")
	return w
}

// founding is a team's beginning.
type founding struct {
	root  statement.Signed
	first wire.RosterUpdate
	state *roster.State
}

func (w *world) found() (f founding) {
	var err error
	f.root, err = roster.SignRoot(w.owner, roster.Root{Team: wire.TeamID{7}, Owners: []key.Public[key.Owner]{w.owner.Public()}, Threshold: 1, Name: "example"})
	check(w.t, err)
	root, err := roster.OpenRoot(f.root, f.root.Hash())
	check(w.t, err)
	f.first, err = roster.Sign(w.owner, roster.First(root, f.root.Hash(), w.members))
	check(w.t, err)
	f.state, err = roster.Found(f.root, f.root.Hash(), f.first)
	check(w.t, err)
	return f
}

func (w *world) members(r *roster.Roster) {
	r.Renew(start, roster.DefaultLifetime)
	r.Servers = []roster.Server{{
		Name: "rendezvous.example", URL: "https://rendezvous.example:8443",
		Keys: wire.ServerKeys{
			Access: private[key.Access](w.t, 2).Public(), Grant: private[key.Grant](w.t, 3).Public(),
			Audit: w.server.Public(), TLS: sha256.Sum256(nil),
		},
	}}
	for _, p := range []struct {
		k    key.Private[key.Operator]
		name string
		role policy.Role
	}{{w.ann, "ann", policy.Operator}, {w.bob, "bob", policy.Approver}, {w.cid, "cid", policy.Approver}} {
		r.Operators = append(r.Operators, roster.Operator{Key: p.k.Public(), Email: p.name + "@example.org", Person: p.name, Role: p.role})
	}
	r.Enrollers = []roster.Enroller{{Key: private[key.Enroller](w.t, 5).Public(), Tags: []string{"prod"}, MaxLifetime: 3600}}
}

// grow publishes the next roster.
func (w *world) grow(edit func(*roster.Roster)) {
	w.t.Helper()
	u, err := roster.Sign(w.owner, roster.Next(w.state, func(r *roster.Roster) {
		r.Renew(w.now, roster.DefaultLifetime)
		edit(r)
	}))
	check(w.t, err)
	w.state, err = w.state.Apply(u, w.now)
	check(w.t, err)
	w.rows.rosters = append(w.rows.rosters, u)
	w.record(entry.Entry{Type: entry.RosterPublish, RosterVersion: w.state.Version()})
}

// join adds an agent with a spool.
func (w *world) join(name string) *machine {
	w.t.Helper()
	m := &machine{key: private[key.Agent](w.t, byte(30+len(w.agents)))}
	token := private[key.Token](w.t, byte(60+len(w.agents)))
	tok := roster.Token{
		ID: wire.Nonce{byte(len(w.agents) + 1)}, Team: w.state.Team(), Fingerprint: w.state.Fingerprint(),
		Server: w.state.Roster().Servers[0].Address(), Tags: []string{"prod"},
		IssuedAt: wire.At(w.now), ExpiresAt: wire.At(w.now.Add(time.Hour)), MaxUses: 1, Key: token.Public(),
	}
	m.cert = roster.AgentCert{
		Team: w.state.Team(), Agent: m.key.Public(), Name: name, Tags: []string{"prod"}, TokenID: tok.ID, IssuedAt: wire.At(w.now),
	}
	m.host = once(fmt.Sprint("host ", len(w.agents), name, w.now.UnixNano()), func() (h export.Host) {
		var err error
		h.Token, err = roster.SignToken(private[key.Enroller](w.t, 5), tok)
		check(w.t, err)
		h.Certificate, err = roster.SignAgent(token, tok, m.cert)
		check(w.t, err)
		return h
	})
	m.dir = w.t.TempDir()
	check(w.t, spool.Create(m.dir, m.key, w.state.Team()))
	var err error
	m.spool, err = spool.Open(m.dir, m.key, w.state.Team())
	check(w.t, err)
	w.t.Cleanup(func() { _ = m.spool.Close() })
	w.agents = append(w.agents, m)
	w.register(m)
	w.record(entry.Entry{Type: entry.AgentJoin, Target: entry.Target{Agent: m.key.ID(), Name: name}})
	return m
}

// register makes the agent sign its head, as it does on each connection.
func (w *world) register(m *machine) {
	w.t.Helper()
	seq, head := m.spool.Head()
	var err error
	m.host.Registration, err = statement.Sign(m.key, wire.Registration{
		ID: wire.NewNonce(), IssuedAt: wire.At(w.now), Team: w.state.Team(), Agent: m.key.Public(), AuditSeq: seq, AuditHead: head,
	})
	check(w.t, err)
	w.rows.hosts = nil
	for _, a := range w.agents {
		w.rows.hosts = append(w.rows.hosts, a.host)
	}
}

func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

func (w *world) record(e entry.Entry) {
	w.t.Helper()
	e.Time = wire.At(w.now)
	_, err := w.log.Record(w.rows, e)
	check(w.t, err)
	w.pass(time.Second)
}

// say makes the agent append an entry and deliver it.
func (w *world) say(m *machine, e entry.Entry) {
	w.t.Helper()
	w.sayOnly(m, e)
	w.deliver(m)
}

func (w *world) sayOnly(m *machine, e entry.Entry) {
	w.t.Helper()
	e.Time = wire.At(w.now)
	_, err := m.spool.Append(e)
	check(w.t, err)
	w.pass(time.Second)
}

func (w *world) deliver(m *machine) {
	w.t.Helper()
	for {
		list, err := m.spool.Pending(0, wire.MaxAuditBatch)
		check(w.t, err)
		if len(list) == 0 {
			return
		}
		_, err = w.log.Accept(w.rows, m.key.Public(), list)
		check(w.t, err)
		w.prove(m, list)
	}
}

// prove makes the log prove to the agent that it holds what was sent. The checkpoint
// for it leaves no trace, so that tests say themselves where checkpoints are.
func (w *world) prove(m *machine, list []statement.Signed) {
	w.t.Helper()
	notes := w.rows.notes
	w.checkpoint()
	ack, err := w.log.Acknowledge(w.rows, m.key.ID(), list, 0)
	check(w.t, err)
	w.rows.notes = notes
	c, _, err := checkpoint.Open(ack.Checkpoint.Checkpoint, w.log.Origin(), w.server.Public())
	check(w.t, err)
	if n, err := m.spool.Proved(c.Head, ack.First, ack.Proofs); err != nil || n != len(list) {
		w.t.Fatalf("%d of %d entries are proven, %v", n, len(list), err)
	}
}

func (w *world) checkpoint() string {
	w.t.Helper()
	note, err := w.log.Checkpoint(w.rows)
	check(w.t, err)
	return note
}

// exec is a whole session with one command that needed approvals of by.
func (w *world) exec(m *machine, argv []string, by ...key.Private[key.Operator]) {
	w.t.Helper()
	req, hash := w.request(m, argv)
	var approvals []key.Hash
	for _, k := range by {
		s, err := approval.Make(k, req, hash, approval.Approve, w.now)
		check(w.t, err)
		w.rows.approvals[s.Hash()] = s
		approvals = append(approvals, s.Hash())
	}
	actor := entry.Actor{Kid: w.ann.ID(), Email: "ann@example.org", Person: "ann"}
	result := entry.PolicyResult{Decision: entry.NeedsApproval, Rule: "gate", Need: max(len(by), 1)}
	command := entry.Command{Action: wire.Exec, Argv: req.Params.Argv}
	w.record(entry.Entry{Type: entry.SessionOpen, Actor: actor, Session: req.Session, RequestHash: hash, Policy: result})
	w.sayOnly(m, entry.Entry{Type: entry.SessionAccept, Actor: actor, Session: req.Session, RequestHash: hash, Policy: result, Approvals: approvals})
	w.sayOnly(m, entry.Entry{Type: entry.ExecStart, Actor: actor, Session: req.Session, RequestHash: hash, Policy: result, Command: &command, Approvals: approvals})
	command.ExitCode = entry.ExitCode(0)
	w.sayOnly(m, entry.Entry{Type: entry.ExecEnd, Actor: actor, Session: req.Session, RequestHash: hash, Command: &command})
	w.say(m, entry.Entry{Type: entry.SessionEnd, Actor: actor, Session: req.Session, RequestHash: hash})
}

func (w *world) request(m *machine, argv []string) (wire.Request, key.Hash) {
	w.t.Helper()
	req := wire.Request{
		ID: wire.NewNonce(), IssuedAt: wire.At(w.now), ExpiresAt: wire.At(w.now.Add(wire.GatedRequestLifetime)), Team: w.state.Team(),
		Session: wire.NewSessionID(), Operator: w.ann.ID(), Agent: m.key.ID(), Action: wire.Exec,
	}
	for _, a := range argv {
		req.Params.Argv = append(req.Params.Argv, wire.Bytes(a))
	}
	s, err := statement.Sign(w.ann, req)
	check(w.t, err)
	return req, s.Hash()
}

// export signs a checkpoint and returns the export's lines.
func (w *world) export() []string {
	w.t.Helper()
	w.checkpoint()
	var b bytes.Buffer
	check(w.t, w.write(&b, w.rows))
	lines := bytes.SplitAfter(b.Bytes(), []byte("\n"))
	var list []string
	for _, l := range lines {
		if len(l) > 0 {
			list = append(list, string(l))
		}
	}
	return list
}

func (w *world) verify(lines []string, known ...string) verify.Report {
	w.t.Helper()
	r, err := verify.Export(bytes.NewReader([]byte(joined(lines))), w.state.Fingerprint(), w.now, known...)
	check(w.t, err)
	return r
}

// write exports without signing a checkpoint first.
func (w *world) write(to io.Writer, src export.Source) error {
	return export.Write(to, src, w.log.Origin(), w.log.Keys()...)
}

func joined(lines []string) string {
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(l)
	}
	return b.String()
}

// wantClean fails unless nothing was found.
func wantClean(t testing.TB, r verify.Report) {
	t.Helper()
	for _, f := range r.Findings {
		t.Errorf("found: %v", f)
	}
}

// wantFinding fails unless a finding with that code covers the entry.
func wantFinding(t testing.TB, r verify.Report, code finding.Code, entry int64) {
	t.Helper()
	if !slices.ContainsFunc(r.Findings, func(f finding.Finding) bool { return f.Code == code && f.Entry <= entry && entry <= f.Last }) {
		t.Errorf("no finding %s at entry %d, only %v", code, entry, r.Findings)
	}
}
