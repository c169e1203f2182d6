package policy

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/conf"
)

// Limits of a policy file, our choice (attack F11).
const (
	MaxFile      = 1 << 20             // bytes
	MaxRules     = 10_000              // allow and block rules together
	MaxExpect    = 10_000              // expectations
	MaxList      = 1_000               // elements of any one list in a rule
	MaxApprovers = 10                  // people that one approval can ask for
	maxDuration  = 30 * 24 * time.Hour // of any limit in the file
)

// Rules is a loaded policy. It never changes, so any number of goroutines may
// use it at once.
type Rules struct {
	hash        key.Hash
	mode        mode
	rosterGrace time.Duration
	env         map[string]bool
	limits      Limits
	gate        *gate
	rules       []*rule // sorted by id, for Explain and Check
	zones       []*time.Location
	index       index
	sockets     []string // that allow rules name as targets, sorted
	expect      []expectation
}

// gate is the section [gate]: on these hosts everything needs approval except
// commands that a rule spells out.
type gate struct {
	where    where
	approval Approval
}

// Parse loads a policy file. An error names the line or the rule, the key and
// what to write instead; nothing of a file with an error is used, so the caller
// keeps the policy it has (attack F5).
func Parse(data []byte) (*Rules, error) {
	var f file
	if err := conf.Decode(data, &f, MaxFile); err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	p := parser{data: data, ids: map[string]bool{}, r: &Rules{hash: sha256.Sum256(data)}}
	if err := p.file(&f); err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	return p.r, nil
}

// Hash returns SHA-256 of the file as it was given to Parse. The roster names
// the policy in force by it (protocol 3.2).
func (r *Rules) Hash() key.Hash { return r.hash }

// RosterGrace returns how long past its expiry a roster still serves to open
// sessions (protocol 3.3, check 4); 0 is not at all.
func (r *Rules) RosterGrace() time.Duration { return r.rosterGrace }

// parser carries what one Parse gathers.
type parser struct {
	data []byte
	ids  map[string]bool
	r    *Rules
}

func (p *parser) file(f *file) error {
	switch {
	case f.Version != 1:
		return errors.New("version: this program reads version = 1")
	case !f.Mode.set:
		return errors.New(`mode: write mode = "enforce", or "lockdown" to deny everything for now`)
	case len(f.Allow)+len(f.Block) > MaxRules:
		return fmt.Errorf("%d rules, the limit is %d", len(f.Allow)+len(f.Block), MaxRules)
	case len(f.Expect) > MaxExpect:
		return fmt.Errorf("%d expectations, the limit is %d", len(f.Expect), MaxExpect)
	}
	var err error
	p.r.mode = f.Mode.v
	p.r.rosterGrace = time.Duration(optional(&err, "roster_grace", f.RosterGrace))
	p.r.limits = f.Limits.limits(&err)
	if err != nil {
		return fmt.Errorf("line %d: %w", emptyTableLine(p.data), err)
	}
	if err := p.environment(f.Environment.Allow); err != nil {
		return err
	}
	if err := p.gate(f.Gate); err != nil {
		return err
	}
	if err := p.rules(f.Allow, false); err != nil {
		return err
	}
	if err := p.rules(f.Block, true); err != nil {
		return err
	}
	slices.SortFunc(p.r.rules, func(a, b *rule) int { return cmp.Compare(a.id, b.id) })
	p.r.index, p.r.sockets = newIndex(p.r.rules), namedSockets(p.r.rules)
	return p.expectations(f.Expect)
}

// environment fills the names that may be sent; without the list, standardEnv. An
// empty list is clear here: none.
func (p *parser) environment(allow []leaf[envName]) error {
	p.r.env = map[string]bool{}
	if allow == nil {
		for _, name := range standardEnv {
			p.r.env[name] = true
		}
	}
	if len(allow) == 0 {
		return nil
	}
	var err error
	for _, name := range collect(&err, "environment.allow", allow) {
		p.r.env[string(name)] = true
	}
	return err
}

func (p *parser) gate(f *gateFile) error {
	if f == nil {
		return nil
	}
	if f.Approval == nil {
		return errors.New("[gate]: approval.count: say how many people must agree")
	}
	var err error
	p.r.gate = &gate{where: f.Where.where(&err), approval: f.Approval.approval(&err)}
	if err != nil {
		return fmt.Errorf("[gate]: %w", err)
	}
	return nil
}

func (p *parser) rules(list []ruleFile, block bool) error {
	name := "[[allow]]"
	if block {
		name = "[[block]]"
	}
	lines := headerLines(p.data, name, len(list))
	for i := range list {
		at := fmt.Sprintf("line %d: %s rule %q", lines[i], name, list[i].ID.v)
		rule, err := p.rule(&list[i], block)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if p.ids[rule.id] {
			return fmt.Errorf("%s: id: another rule has this id", at)
		}
		p.ids[rule.id] = true
		rule.line = lines[i]
		p.r.rules = append(p.r.rules, rule)
	}
	return nil
}

// headerLines finds the lines of an array of tables, for error messages. It reads
// lines, not TOML: at worst a header inside a long string shifts a number, and
// an array written inline has no header and gets line 0.
func headerLines(data []byte, header string, n int) []int {
	lines := make([]int, 0, n)
	line := 0
	for text := range bytes.Lines(data) {
		line++
		if bare, _, _ := strings.Cut(string(text), "#"); strings.ReplaceAll(strings.TrimSpace(bare), " ", "") == header && len(lines) < n {
			lines = append(lines, line)
		}
	}
	for len(lines) < n {
		lines = append(lines, 0)
	}
	return lines
}

// emptyTableLine finds the first empty table in front of the rules, for an error
// message about one: the decoder, which has the lines, takes {} for any value that
// reads itself. It reads lines, not TOML, like headerLines.
func emptyTableLine(data []byte) int {
	line, header := 0, 0 // header: of a table with nothing in it so far
	for text := range bytes.Lines(data) {
		line++
		bare, _, _ := strings.Cut(string(text), "#")
		switch bare = strings.Join(strings.Fields(bare), ""); {
		case strings.Contains(bare, "={}"):
			return line
		case strings.HasPrefix(bare, "[") && header > 0, strings.HasPrefix(bare, "[["):
			return header
		case strings.HasPrefix(bare, "["):
			header = line
		case bare != "":
			header = 0
		}
	}
	return header
}

func (p *parser) rule(f *ruleFile, block bool) (*rule, error) {
	switch {
	case !f.ID.set:
		return nil, errors.New("id: every rule needs one; it is what logs and refusals name")
	case !block && f.Actions == nil:
		return nil, errors.New(`actions: an allow rule lists them, for example ["shell", "exec"]`)
	case !block && f.Who.empty():
		return nil, errors.New(`who: an allow rule says whom, for example who.roles = ["operator"]`)
	case block && (f.Approval != nil || f.Limits != nil):
		return nil, errors.New("approval and limits have no meaning in a block rule; remove them")
	}
	r := &rule{id: string(f.ID.v), block: block, description: f.Description}
	var err error
	r.actions = actionBits(collect(&err, "actions", f.Actions))
	r.who(&f.Who, &err)
	r.users(collect(&err, "users", f.Users))
	r.cwd = texts(collect(&err, "cwd", f.Cwd))
	r.targets = targets(collect(&err, "targets", f.Targets), r.actions, &err)
	r.roots = roots(collect(&err, "roots", f.Roots), r.actions, block, &err)
	r.where = f.Where.where(&err)
	r.commands = commands(f.Commands, r.actions, block, &err)
	r.when = p.window(f.When, &err)
	r.approval = f.Approval.approval(&err)
	if f.Limits != nil {
		r.limits = f.Limits.limits(&err)
	}
	if err != nil {
		return nil, err
	}
	r.reasons()
	return r, nil
}

func (w *whoFile) empty() bool {
	return w.Roles == nil && w.Emails == nil && w.People == nil && w.Keys == nil
}

func (w *whereFile) where(err *error) where {
	return where{
		tagsAny: texts(collect(err, "where.tags_any", w.TagsAny)),
		tagsAll: texts(collect(err, "where.tags_all", w.TagsAll)),
		agents:  texts(collect(err, "where.agents", w.Agents)),
	}
}

// approval reads the demand; without the table there is none.
func (a *approvalFile) approval(err *error) Approval {
	if a == nil || *err != nil {
		return Approval{}
	}
	if a.Count < 1 || a.Count > MaxApprovers {
		*err = fmt.Errorf("approval.count: %d is not from 1 to %d", a.Count, MaxApprovers)
	}
	roles := Roles(collect(err, "approval.roles", a.Roles)...)
	if a.Roles == nil {
		roles = Roles(Approver, Admin, Owner)
	}
	return Approval{a.Count, roles}
}

func (l *limitsFile) limits(err *error) Limits {
	return Limits{
		time.Duration(optional(err, "limits.session", l.Session)),
		time.Duration(optional(err, "limits.idle", l.Idle)),
		time.Duration(optional(err, "limits.resume", l.Resume)),
	}
}

// commands checks the patterns: an exact argv each, the program by its real path,
// "..." as last element for any further arguments.
func commands(list [][]string, on actionSet, block bool, err *error) []command {
	if *err != nil || list == nil {
		return nil
	}
	if *err = checkLength("commands", len(list)); *err != nil {
		return nil
	}
	if on != Exec.bit() {
		*err = errors.New(`commands: they restrict exec only; write actions = ["exec"] and another rule for the rest`)
		return nil
	}
	out := make([]command, 0, len(list))
	for i, argv := range list {
		c := command{argv: argv}
		if n := len(argv); n > 1 && argv[n-1] == "..." {
			c = command{argv: argv[:n-1], rest: true}
		}
		if bad := c.check(block); bad != nil {
			*err = fmt.Errorf("commands: no. %d: %w", i+1, bad)
		}
		out = append(out, c)
	}
	return out
}

func (c *command) check(block bool) error {
	switch {
	case len(c.argv) == 0 || !absolute(c.argv[0]) || base(c.argv[0]) == "":
		return errors.New("the first element is the absolute path of the program, after all symbolic links")
	case len(c.argv) > MaxArgs || strings.Contains(strings.Join(c.argv, ""), "\x00"):
		return errors.New("too many arguments or a zero byte")
	case c.rest && !block && RunsOthers(c.argv[0]):
		return fmt.Errorf("%s runs other programs, so %q after it would allow everything; write the exact arguments", base(c.argv[0]), "...")
	}
	return nil
}

// window reads when; without the table the rule always holds.
func (p *parser) window(f *whenFile, err *error) *window {
	if f == nil || *err != nil {
		return nil
	}
	days := collect(err, "when.days", f.Days)
	from, to := int(optional(err, "when.from", f.From)), int(optional(err, "when.to", f.To))
	switch {
	case *err != nil:
	case f.Zone.v.Location == nil:
		*err = errors.New(`when.zone: say whose clock, for example "Europe/Berlin" or "UTC"`)
	case (f.From == nil) != (f.To == nil):
		*err = errors.New("when: from and to stand together, or neither for the whole day")
	case f.From == nil && days == nil:
		*err = errors.New("when: neither days nor from and to; remove it if the rule always holds")
	case f.From != nil && from == to:
		*err = errors.New("when: to equals from, so the window is empty; remove both for the whole day")
	}
	if *err != nil {
		return nil
	}
	w := &window{days: 1<<7 - 1, from: from, to: to, zone: p.zone(f.Zone.v.Location)}
	if days != nil {
		w.days = 0
	}
	for _, d := range days {
		w.days |= 1 << d
	}
	return w
}

// zone numbers the file's zones, so that a decision reads each clock once.
func (p *parser) zone(loc *time.Location) int {
	for i, known := range p.r.zones {
		if known.String() == loc.String() {
			return i
		}
	}
	p.r.zones = append(p.r.zones, loc)
	return len(p.r.zones) - 1
}

func actionBits(list []Action) (s actionSet) {
	for _, a := range list {
		s |= a.bit()
	}
	if list == nil {
		return 1<<len(actions) - 1
	}
	return s
}

func texts[T ~string](list []T) []string {
	var out []string
	for _, v := range list {
		out = append(out, string(v))
	}
	return out
}
