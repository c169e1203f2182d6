// Package verify reads an export and says what in it does not hold, knowing nothing
// but the team's fingerprint.
//
// Source: protocol 5.4; attacks N.
package verify

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/lines"
	"github.com/tucdesk/tucdesk/internal/audit/tiles"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

const (
	// verifyBatch is how many lines are looked at in parallel; our choice.
	verifyBatch = 256

	// maxHosts bounds the agents of an export, about 300 bytes of memory each;
	// our choice, ten times the largest team we design for.
	maxHosts = 1 << 20

	// maxEvidenceLines is how many approvals may stand before one entry.
	maxEvidenceLines = entry.MaxApprovals
)

// Export reads an export and checks everything that protocol 5.4 names and the
// export has data for, knowing only the team's fingerprint. known are notes of
// checkpoints that the reader remembers from elsewhere (witness.Witness.Checkpoint): a
// shorter or other log than those is found. now bounds times.
//
// What does not hold is in the report. The error is for what cannot be verified
// at all: reading failed, or the export is not one of this team. Memory is 16
// bytes per entry and some hundred per agent, besides the rosters.
func Export(r io.Reader, fingerprint key.Hash, now time.Time, known ...string) (Report, error) {
	v := &verifier{
		fingerprint: fingerprint, now: now,
		hosts: map[key.ID]*host{}, servers: map[key.ID]*chain{}, sessions: map[sessionAt]key.Hash{},
	}
	v.report.Fingerprint = fingerprint
	err := v.read(bufio.NewReaderSize(r, 256<<10), known)
	return v.report, err
}

// Tiles does the same for an export in a folder (package tiles). It compares the
// tiles with the entries as well, so that what a generic reader finds there is what
// was verified.
func Tiles(dir string, fingerprint key.Hash, now time.Time, known ...string) (Report, error) {
	r, err := tiles.Open(dir)
	if err != nil {
		return Report{}, err
	}
	defer r.Close()
	report, err := Export(r, fingerprint, now, known...)
	for _, path := range r.Bad() {
		report.Findings = append(report.Findings, Finding{-1, -1, BadTile, path + " is not what the entries give, or is missing"})
	}
	return report, err
}

// verifier is one run of Export. Its head is filled by the first lines of the
// export and only read afterwards, which lets workers use it without a lock.
type verifier struct {
	fingerprint key.Hash
	now         time.Time
	report      Report

	// The head.
	root      statement.Signed
	states    []*roster.State // one per version
	history   *roster.History
	auditKeys []key.Public[key.Audit] // of every version
	hosts     map[key.ID]*host

	// The body.
	servers      map[key.ID]*chain
	tree         tree.Frontier
	covered      int64 // entries under a checkpoint that holds
	mismatch     bool  // the root was wrong once; later ones say nothing new
	known        []checkpoint.Checkpoint
	ids          idSet
	sessions     map[sessionAt]key.Hash // open ones, with the hash of the request
	approvals    []statement.Signed     // before the next entry
	serverTime   wire.Millis            // of the last entry of a server
	aheadTime    wire.Millis            // largest time of an agent's entry since then
	aheadEntry   int64
	ended        bool
	claimedTotal int64
}

// chain is how far one signer's own chain has been followed.
type chain struct {
	seq  uint64
	hash key.Hash
	time wire.Millis
}

// host is an agent whose certificate held.
type host struct {
	chain
	key      key.Public[key.Agent]
	notAfter wire.Millis
	claim    *claim
}

// claim is the end of its chain that an agent signed.
type claim struct {
	seq     uint64
	hash    key.Hash
	at      wire.Millis
	reached bool
}

func (v *verifier) found(entry int64, code FindingCode, format string, args ...any) {
	v.foundRange(entry, entry, code, format, args...)
}

func (v *verifier) foundRange(first, last int64, code FindingCode, format string, args ...any) {
	if len(v.report.Findings) >= MaxFindings {
		v.report.More++
		return
	}
	v.report.Findings = append(v.report.Findings, Finding{first, last, code, fmt.Sprintf(format, args...)})
}

// item is a line of the body and what a worker made of it.
type item struct {
	raw   []byte
	line  export.Line
	bad   bool
	entry entry.Entry
	kid   key.ID
	hash  key.Hash // of the entry's statement
	leaf  key.Hash
	err   error
}

func (v *verifier) read(r *bufio.Reader, known []string) error {
	first, err := v.head(r)
	if err != nil {
		return err
	}
	if err := v.remember(known); err != nil {
		return err
	}
	batch := make([]item, 0, verifyBatch)
	if first != nil {
		batch = append(batch, *first)
	}
	for {
		raw, whole, err := lines.Next(r, export.MaxLine)
		if err != nil {
			return fmt.Errorf("reading the export: %v", err)
		}
		if whole || len(raw) > 0 {
			batch = append(batch, item{raw: raw})
		}
		if len(batch) == verifyBatch || !whole {
			v.process(batch)
			batch = batch[:0]
		}
		if !whole {
			v.finish()
			return nil
		}
	}
}

// decode reads one line strictly. The line's wrapping is not signed, so
// what it says is only ever compared with what is.
func (it *item) decode() {
	dec := json.NewDecoder(bytes.NewReader(it.raw))
	dec.DisallowUnknownFields()
	if dec.Decode(&it.line) != nil || dec.InputOffset() != int64(len(it.raw)) {
		it.line, it.bad = export.Line{}, true
	}
	it.raw = nil
}

var errNotExport = errors.New("reading the export: this is not an audit export")

// head reads up to the first line of the body, which it returns, nil at the end.
func (v *verifier) head(r *bufio.Reader) (*item, error) {
	for n := 0; ; n++ {
		raw, whole, err := lines.Next(r, export.MaxLine)
		if err != nil {
			return nil, fmt.Errorf("reading the export: %v", err)
		}
		if !whole {
			if len(v.states) == 0 {
				return nil, errNotExport
			}
			return nil, v.headDone()
		}
		it := item{raw: raw}
		it.decode()
		isHead, err := v.headLine(n, it)
		if err != nil {
			return nil, err
		}
		if !isHead {
			return &item{raw: raw}, v.headDone()
		}
	}
}

func (v *verifier) headLine(n int, it item) (bool, error) {
	l := it.line
	switch {
	case n == 0:
		if it.bad || l.Format != export.Format || !checkpoint.ValidOrigin(l.Origin) {
			return false, errNotExport
		}
		v.report.Origin = l.Origin
	case n == 1:
		if it.bad || l.Root == nil {
			return false, errNotExport
		}
		v.root = l.Root
	case l.Roster != nil:
		return true, v.roster(*l.Roster)
	case l.Agent != nil:
		return true, v.addHost(*l.Agent)
	case n == 2:
		return false, errNotExport
	default:
		return false, nil
	}
	return true, nil
}

// roster follows the chain from the fingerprint. A chain that does not hold
// ends everything: without it no key means anything.
func (v *verifier) roster(u wire.RosterUpdate) (err error) {
	var next *roster.State
	if len(v.states) == 0 {
		next, err = roster.Found(v.root, v.fingerprint, u)
	} else {
		next, err = v.states[len(v.states)-1].Apply(u, v.now)
	}
	if err != nil {
		return fmt.Errorf("following the rosters: version %d: %w", len(v.states)+1, err)
	}
	v.states = append(v.states, next)
	for _, s := range next.Roster().Servers {
		if !slices.Contains(v.auditKeys, s.Keys.Audit) {
			v.auditKeys = append(v.auditKeys, s.Keys.Audit)
		}
	}
	return nil
}

// newest returns the newest state.
func (v *verifier) newest() *roster.State { return v.states[len(v.states)-1] }

func (v *verifier) headDone() (err error) {
	if len(v.states) == 0 {
		return errNotExport
	}
	st := v.newest()
	v.report.Team, v.report.RosterVersion = st.Team(), st.Version()
	if v.history == nil {
		v.history, err = st.History()
	}
	if !strings.HasSuffix(v.report.Origin, "/audit/"+st.Team().String()) {
		return fmt.Errorf("reading the export: it is the log %q, which is not this team's", v.report.Origin)
	}
	return err
}

// addHost verifies an agent's statements. One that does not hold is a finding,
// and its entries will be of an unknown signer.
func (v *verifier) addHost(h export.Host) error {
	if len(v.states) == 0 {
		return errNotExport
	}
	if len(v.hosts) >= maxHosts {
		return fmt.Errorf("reading the export: more than %d agents", maxHosts)
	}
	if v.history == nil {
		var err error
		if v.history, err = v.newest().History(); err != nil {
			return err
		}
	}
	cert, err := v.certificate(h)
	if err != nil {
		v.found(-1, BadHost, "the certificate of an agent: %v", err)
		return nil
	}
	known := &host{key: cert.Agent, notAfter: cert.NotAfter}
	if v.hosts[cert.Agent.ID()] != nil {
		v.found(-1, BadHost, "agent %s stands here twice", cert.Agent.ID().ShortCode())
		return nil
	}
	v.hosts[cert.Agent.ID()] = known
	v.report.Hosts++
	if len(h.Registration) == 0 {
		return nil
	}
	reg, _, err := statement.Open[wire.Registration](h.Registration, cert.FindAgent)
	if err != nil || reg.Team != cert.Team || reg.Agent != cert.Agent {
		v.found(-1, BadHost, "the registration of agent %s is not its own", cert.Agent.ID().ShortCode())
		return nil
	}
	if reg.AuditSeq > 0 {
		known.claim = &claim{seq: reg.AuditSeq, hash: reg.AuditHead, at: reg.IssuedAt}
	}
	return nil
}

// certificate verifies by the newest roster or, for an agent whose key, token
// or enroller was revoked since, by the one in force when it was certified.
// Whether the key still held is asked again for each entry.
func (v *verifier) certificate(h export.Host) (roster.AgentCert, error) {
	anyTime := time.UnixMilli(0) // the certificate's own end is compared with each entry
	cert, err := v.newest().VerifyAgent(h.Token, h.Certificate, anyTime)
	if err == nil {
		return cert, nil
	}
	var issued wire.Millis // unverified: it only chooses the roster to verify by
	_, _, _ = statement.OpenSelfSigned(h.Certificate, func(c roster.AgentCert, _ key.ID) (statement.Verifier, error) {
		issued = c.IssuedAt
		return nil, nil
	})
	version := v.history.Version(issued.Time())
	if version == 0 || version >= uint64(len(v.states)) {
		return cert, err
	}
	return v.states[version-1].VerifyAgent(h.Token, h.Certificate, anyTime)
}

// remember opens the checkpoints that the reader knows.
func (v *verifier) remember(known []string) error {
	for _, signed := range known {
		c, _, err := checkpoint.Open(signed, v.report.Origin, v.auditKeys...)
		if err != nil {
			return fmt.Errorf("reading a remembered checkpoint: %w", err)
		}
		v.known = append(v.known, c)
	}
	slices.SortFunc(v.known, func(a, b checkpoint.Checkpoint) int { return int(min(max(a.Size-b.Size, -1), 1)) })
	return nil
}

// process decodes lines and verifies signatures in parallel and then everything that depends on
// order, in order.
func (v *verifier) process(batch []item) {
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(batch); i += workers {
				it := &batch[i]
				it.decode()
				if it.line.Entry != nil {
					it.leaf, it.hash = tree.Leaf(it.line.Entry), it.line.Entry.Hash()
					it.entry, it.kid, it.err = statement.Open[entry.Entry](it.line.Entry, v.signer)
				}
			}
		})
	}
	wg.Wait()
	for i := range batch {
		v.body(&batch[i])
	}
}

// signer finds the key of any signer that ever was one; whether it was at the
// entry's time is asked when the time is verified.
func (v *verifier) signer(kid key.ID) (statement.Verifier, error) {
	if h := v.hosts[kid]; h != nil {
		return h.key, nil
	}
	for _, k := range v.auditKeys {
		if k.ID() == kid {
			return k, nil
		}
	}
	return nil, errUnknownSigner
}

var errUnknownSigner = errors.New("no agent or server of this team")

func (v *verifier) body(it *item) {
	l, next := it.line, v.tree.Size()
	switch {
	case v.ended:
		v.found(next, BadLine, "a line after the end")
	case it.bad:
		v.found(next, BadLine, "not a line of an export")
	case l.Entry != nil:
		v.entry(it)
	case l.Approval != nil:
		if len(v.approvals) < maxEvidenceLines {
			v.approvals = append(v.approvals, l.Approval)
		} else {
			v.found(next, BadLine, "more than %d approvals before one entry", maxEvidenceLines)
		}
	case l.Checkpoint != "":
		v.checkpoint(l.Checkpoint)
	case l.End != nil:
		v.ended, v.claimedTotal = true, *l.End
	default:
		v.found(next, BadLine, "this line belongs to the head of an export")
	}
}

// checkpoint compares what was signed with what was read.
func (v *verifier) checkpoint(signed string) {
	size := v.tree.Size()
	c, kid, err := checkpoint.Open(signed, v.report.Origin, v.auditKeys...)
	if err != nil {
		v.found(size-1, BadCheckpoint, "%v", err)
		return
	}
	if _, err := v.history.Audit(kid, v.position().Time()); err != nil {
		v.found(size-1, BadCheckpoint, "signed by a key that was not the log's then: %v", err)
		return
	}
	switch {
	case c.Size > size:
		v.foundRange(size, c.Size-1, Truncated, "a checkpoint of %d entries stands after %d", c.Size, size)
	case c.Size < size:
		v.found(size-1, BadCheckpoint, "the checkpoint of %d entries stands after %d", c.Size, size)
	case v.compare(c):
		v.cosigners(c, signed)
	}
}

// compare names the entries since the last checkpoint that held.
func (v *verifier) compare(c checkpoint.Checkpoint) bool {
	if v.tree.Root() == c.Root {
		v.covered = c.Size
		v.report.Checkpoints++
		return true
	}
	if !v.mismatch {
		v.mismatch = true
		v.foundRange(v.covered, c.Size-1, RootMismatch, "one of these is not the entry that was signed, is missing or was put in")
	}
	return false
}

// position is the time up to which the log has come, by the servers' own
// entries, which an agent cannot move.
func (v *verifier) position() wire.Millis {
	if v.serverTime == 0 {
		return v.aheadTime
	}
	return v.serverTime
}

func (v *verifier) finish() {
	size := v.tree.Size()
	v.report.Size, v.report.Root, v.report.OpenSessions = size, v.tree.Root(), len(v.sessions)
	switch {
	case !v.ended:
		v.found(size, Truncated, "the export ends without its last line")
	case v.claimedTotal != size:
		v.found(size, Truncated, "the export says that it has %d entries and has %d", v.claimedTotal, size)
	}
	if v.covered < size && !v.mismatch {
		v.foundRange(v.covered, size-1, NotCovered, "no checkpoint covers these")
	}
	for _, c := range v.known {
		if c.Size > size {
			v.foundRange(size, c.Size-1, Truncated, "a checkpoint of %d entries is remembered", c.Size)
		}
	}
	v.finishHosts()
	v.ids.eachDouble(func(first, second int64) {
		v.found(second, DuplicateID, "entry %d has the same id", first)
	})
}
