// Package redact hides what looks like a secret in a command, before the command
// is signed into a log that nobody can change afterwards (attack N8).
//
// Source: protocol 5.2.
package redact

import (
	"bytes"
	"regexp"
	"strings"
	"sync"

	"github.com/tucdesk/tucdesk/internal/wire"
)

// redacted stands where a secret was.
const redacted = "[redacted]"

// The redactor knows four shapes: a flag whose name says that a secret follows,
// a name that says so in NAME=value, a URL's password, and texts that are
// secrets by their own form. It errs towards hiding too much: whoever needs the
// exact command has the signed request. It cannot know a secret that looks like
// nothing ("login hunter2"); the documentation says so.
//
// All expressions are RE2, whose time is linear in the text: arguments are
// written by operators and must not be able to stall an agent.
//
// A strong word is a secret's name with anything in front ("PGPASSWORD"), a weak
// one only after a separator ("db-pass", not "compass").
const (
	strongName = `[a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|credentials?)`
	weakName   = `(?:[a-z0-9_.-]*[-_.])?(?:pwd|pass|bearer|api[-_]?key|apikey|access[-_]?key(?:[-_]id)?|secret[-_]?key|private[-_]?key|` +
		`encryption[-_]?key|account[-_]?key|auth[-_]?key|session[-_]?key|signature|auth|cookie|otp|pin|sig)`
	secretName = `(?:` + strongName + `|` + weakName + `)(?:[-_.](?:value|string|key))?`
)

// pattern is an expression whose first group is kept and whose rest is hidden.
// A text without any of need, in lower case, cannot match: looking for words
// costs a hundredth of running all expressions.
type pattern struct {
	find func() *regexp.Regexp
	with string
	need []string
}

func compile(expr, with string, need ...string) pattern {
	return pattern{lazy(expr), with, need}
}

// lazy compiles at the first use: every session process links this package, few
// ever redact, and compiling all of it costs two milliseconds of the prompt.
func lazy(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

func (p pattern) possible(lower string) bool {
	for _, word := range p.need {
		if strings.Contains(lower, word) {
			return true
		}
	}
	return false
}

// nameWords are what every secretName holds one of.
var nameWords = []string{"pass", "secret", "token", "credential", "pwd", "bearer", "key", "signature", "auth", "cookie", "otp", "pin", "sig"}

// value is an unquoted or quoted text in a command line.
const value = `(?:"[^"]*"|'[^']*'|[^\s"'&;|,]+)`

var patterns = []pattern{
	// PEM blocks, whole or cut off.
	compile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`, redacted, "private key"),
	// Our own secrets.
	compile(`(tucdesk-(?:join|setup|seed):)[A-Za-z0-9_-]+`, "${1}"+redacted, "tucdesk-"),
	// scheme://user:password@host and scheme://token@host
	compile(`(?i)([a-z][a-z0-9+.-]*://[^\s/:@'"]*:)[^\s/'"]*@`, "${1}"+redacted+"@", "://"),
	compile(`(?i)([a-z][a-z0-9+.-]*://)[^\s/:@'"]{16,}@`, "${1}"+redacted+"@", "://"),
	// Authorization: Bearer …, and other headers that carry one
	compile(`(?i)((?:proxy-)?authorization["']?\s*[:=]\s*["']?)[^\s"'][^"'\r\n]*`, "${1}"+redacted, "authorization"),
	compile(`(?i)((?:set-)?cookie["']?\s*:\s*)[^\s"'][^"'\r\n]*`, "${1}"+redacted, "cookie"),
	compile(`(?i)(x-[a-z0-9-]*(?:token|key|secret|auth)["']?\s*:\s*["']?)[^\s"'][^"'\r\n]*`, "${1}"+redacted, "x-"),
	compile(`(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{12,}`, "${1}"+redacted, "bearer", "basic"),
	// "name": "value" in JSON, name: value in YAML-like texts
	compile(`(?i)(["']`+secretName+`["']\s*:\s*)(?:"[^"]*"|'[^']*'|[^\s,}"']+)`, "${1}"+redacted, nameWords...),
	// NAME=value, --name=value, ?name=value&
	compile(`(?i)((?:^|[\s?&;,=:"'{(-])`+secretName+`\s?=\s?)`+value, "${1}"+redacted, nameWords...),
	compile(`(?i)((?:^|[?&])(?:x-amz-(?:signature|credential|security-token)|x-goog-signature|sv|se|sig|code|access_token|id_token|refresh_token)=)[^&\s"']+`, "${1}"+redacted, "="),
	// IDENTIFIED BY 'x', PASSWORD 'x' in SQL
	compile(`(?i)(\b(?:identified\s+by|(?:encrypted\s+)?password)\s+)(?:'[^']*'|"[^"]*")`, "${1}"+redacted, "identified", "password"),
	// --name value inside one text
	compile(`(?i)((?:^|\s)--?`+secretName+`\s+)(?:"[^"]*"|'[^']*'|[^\s"'-][^\s"']*)`, "${1}"+redacted, nameWords...),
	// Secrets by form: tokens of well-known services, JWTs, age and WireGuard-like keys
	compile(`\bgh[pousr]_[A-Za-z0-9]{20,}`, redacted, "gh"),
	compile(`\bgithub_pat_[A-Za-z0-9_]{20,}`, redacted, "github_pat"),
	compile(`\bgl(?:pat|dt|rt|cbt|ptt|soat|ft|imt|agent)-[A-Za-z0-9_-]{16,}`, redacted, "gl"),
	compile(`\bxox[abeoprs]-[A-Za-z0-9-]{10,}`, redacted, "xox"),
	compile(`\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b`, redacted, "akia", "asia", "aroa", "aida"),
	compile(`\bAIza[A-Za-z0-9_-]{30,}`, redacted, "aiza"),
	compile(`\bya29\.[A-Za-z0-9_-]{16,}`, redacted, "ya29"),
	compile(`\b[sprw]k_(?:live|test)_[A-Za-z0-9]{10,}`, redacted, "k_"),
	compile(`\bsk-[A-Za-z0-9_-]{20,}`, redacted, "sk-"),
	compile(`\b(?:npm|hf|dop_v1|doo_v1|hvs|hvb|dckr_pat|lin_api|shpat|pypi)[_.-][A-Za-z0-9_.-]{16,}`, redacted, "npm", "hf", "do", "hv", "dckr", "lin_", "shpat", "pypi"),
	compile(`\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}`, redacted, "sg."),
	compile(`\bAGE-SECRET-KEY-(?:PQ-)?1[A-Z0-9]{20,}`, redacted, "age-secret"),
	compile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*`, redacted, "eyj"),
}

// secretFlag matches a whole argument after which a secret stands on its own.
var secretFlag = lazy(`(?i)^--?` + secretName + `$`)

// userFlag takes "user:password"; the short ones do so for few programs.
var (
	userFlag      = lazy(`^(?:--user|--proxy-user|--userpwd|--basic-auth|--creds)=?`)
	shortUserFlag = lazy(`^-[uU]`)
	userPrograms  = map[string]bool{"curl": true, "wget": true, "http": true, "xh": true, "smbclient": true, "rpcclient": true}
)

// program is what is known of how a program takes its password.
type program struct {
	flag string // before the password
	next bool   // it may stand in the next argument, not only attached
}

// programs by the last element of their path. "login" stands for those of
// loginPrograms when that is their first argument.
var programs = map[string]program{
	"mysql": {"-p", false}, "mysqldump": {"-p", false}, "mysqladmin": {"-p", false}, "mysqlimport": {"-p", false}, "mysqlshow": {"-p", false},
	"mariadb": {"-p", false}, "mariadb-dump": {"-p", false}, "mariadb-admin": {"-p", false}, "7z": {"-p", false},
	"sshpass": {"-p", true}, "mongo": {"-p", true}, "mongosh": {"-p", true}, "mongodump": {"-p", true}, "mongorestore": {"-p", true},
	"redis-cli": {"-a", true}, "ldapsearch": {"-w", true}, "ldapmodify": {"-w", true}, "ldapadd": {"-w", true}, "sqlcmd": {"-P", true},
	"ipmitool": {"-P", true}, "unzip": {"-P", true}, "zip": {"-P", true}, "login": {"-p", true},
}

var loginPrograms = map[string]bool{
	"docker": true, "podman": true, "buildah": true, "skopeo": true, "nerdctl": true, "helm": true, "az": true, "oc": true, "cf": true,
}

// Text hides what it recognises as a secret in one text. The same text
// always gives the same result, on which Verify relies when it compares what
// was approved with what was recorded.
func Text(s string) string {
	lower := strings.ToLower(s)
	for _, p := range patterns {
		if !p.possible(lower) {
			continue
		}
		s = p.find().ReplaceAllString(s, p.with)
	}
	return s
}

// Argv returns a copy of argv with secrets hidden, those that follow a flag
// in the next argument included. The number of arguments stays.
func Argv(argv []wire.Bytes) []wire.Bytes {
	out := make([]wire.Bytes, len(argv))
	var at place
	for i, arg := range argv {
		switch {
		case i > 0 && at.userNext(string(argv[i-1])):
			out[i] = afterColon(arg)
		case i > 0 && at.secretNext(string(argv[i-1])) && !bytes.HasPrefix(arg, []byte("--")):
			out[i] = wire.Bytes(redacted) // a flag instead means that the one before had no argument
		default:
			at.see(base(arg))
			out[i] = wire.Bytes(at.redact(string(arg)))
		}
	}
	return out
}

// place is which program the arguments at hand belong to. Names are looked for
// in every argument, so a program behind sudo or env is found, too.
type place struct {
	name  string
	known program
}

func (p *place) see(name string) {
	if name == "login" && !loginPrograms[p.name] {
		return
	}
	if k, ok := programs[name]; ok {
		p.name, p.known = name, k
	} else if loginPrograms[name] || userPrograms[name] {
		p.name, p.known = name, program{}
	}
}

// userNext reports whether "user:password" follows flag.
func (p *place) userNext(flag string) bool {
	return flag != "" && (userFlag().FindString(flag) == flag || userPrograms[p.name] && shortUserFlag().FindString(flag) == flag)
}

// secretNext reports whether a secret follows flag.
func (p *place) secretNext(flag string) bool {
	return secretFlag().MatchString(flag) || p.known.next && flag == p.known.flag
}

// redact hides what one argument holds by itself.
func (p *place) redact(arg string) string {
	if f := p.known.flag; f != "" && strings.HasPrefix(arg, f) && len(arg) > len(f) {
		return f + redacted
	}
	if m := userFlag().FindString(arg); strings.HasSuffix(m, "=") {
		return m + string(afterColon(wire.Bytes(arg[len(m):])))
	}
	if m := shortUserFlag().FindString(arg); m != "" && userPrograms[p.name] {
		return m + string(afterColon(wire.Bytes(arg[len(m):])))
	}
	return Text(arg)
}

// afterColon keeps the user of user:password.
func afterColon(arg wire.Bytes) wire.Bytes {
	user, _, found := bytes.Cut(arg, []byte(":"))
	if !found {
		return wire.Bytes(Text(string(arg)))
	}
	return append(bytes.Clone(user), ":"+redacted...)
}

// base is the last element of a path, without a Windows extension.
func base(arg wire.Bytes) string {
	s := string(arg)
	s = s[strings.LastIndexAny(s, `/\`)+1:]
	return strings.TrimSuffix(strings.ToLower(s), ".exe")
}
