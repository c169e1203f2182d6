package audit

import (
	"bytes"
	"regexp"
	"strings"

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
const secretName = `(?:[a-z0-9]+[-_.])*?(?:password|passwd|passphrase|pwd|pass|secret|token|bearer|credentials?|api[-_]?key|apikey|access[-_]?key(?:[-_]id)?|` +
	`secret[-_]?key|private[-_]?key|encryption[-_]?key|account[-_]?key|auth[-_]?key|client[-_]?secret|signature|session[-_]?key|auth|cookie|otp|pin|sig)(?:[-_.](?:file|value|string))?`

// patterns are expressions whose first group is kept and whose rest is hidden.
type pattern struct {
	find *regexp.Regexp
	with string
}

func compile(expr, with string) pattern { return pattern{regexp.MustCompile(expr), with} }

// value is an unquoted or quoted text in a command line.
const value = `(?:"[^"]*"|'[^']*'|[^\s"'&;|,]+)`

var patterns = []pattern{
	// PEM blocks, whole or cut off.
	compile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`, redacted),
	// Our own secrets.
	compile(`(tucdesk-(?:join|setup|seed):)[A-Za-z0-9_-]+`, "${1}"+redacted),
	// scheme://user:password@host and scheme://token@host
	compile(`(?i)([a-z][a-z0-9+.-]*://[^\s/:@'"]*:)[^\s/'"]*@`, "${1}"+redacted+"@"),
	compile(`(?i)([a-z][a-z0-9+.-]*://)[^\s/:@'"\[]{16,}@`, "${1}"+redacted+"@"),
	// Authorization: Bearer …, and other headers that carry one
	compile(`(?i)((?:proxy-)?authorization["']?\s*[:=]\s*["']?(?:basic|bearer|digest|token|negotiate)?\s*)[^\s"'\[][^"'\r\n]*`, "${1}"+redacted),
	compile(`(?i)((?:set-)?cookie["']?\s*:\s*)[^\s"'\[][^"'\r\n]*`, "${1}"+redacted),
	compile(`(?i)(x-[a-z0-9-]*(?:token|key|secret|auth)["']?\s*:\s*["']?)[^\s"'\[][^"'\r\n]*`, "${1}"+redacted),
	compile(`(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{12,}`, "${1}"+redacted),
	// "name": "value" in JSON, name: value in YAML-like texts
	compile(`(?i)(["']`+secretName+`["']\s*:\s*)(?:"[^"]*"|'[^']*'|[^\s,}"'\[]+)`, "${1}"+redacted),
	// NAME=value, --name=value, ?name=value&
	compile(`(?i)((?:^|[\s?&;,"'{(-])`+secretName+`\s?=\s?)`+value, "${1}"+redacted),
	compile(`(?i)((?:^|[?&])(?:x-amz-(?:signature|credential|security-token)|x-goog-signature|sv|se|sig|code|access_token|id_token|refresh_token)=)[^&\s"'\[]+`, "${1}"+redacted),
	// IDENTIFIED BY 'x', PASSWORD 'x' in SQL
	compile(`(?i)(\b(?:identified\s+by|(?:encrypted\s+)?password)\s+)(?:'[^']*'|"[^"]*")`, "${1}"+redacted),
	// --name value inside one text
	compile(`(?i)((?:^|\s)--?`+secretName+`\s+)(?:"[^"]*"|'[^']*'|[^\s"'\[-][^\s"']*)`, "${1}"+redacted),
	// Secrets by form: tokens of well-known services, JWTs, age and WireGuard-like keys
	compile(`\bgh[pousr]_[A-Za-z0-9]{20,}`, redacted),
	compile(`\bgithub_pat_[A-Za-z0-9_]{20,}`, redacted),
	compile(`\bgl(?:pat|dt|rt|cbt|ptt|soat|ft|imt|agent)-[A-Za-z0-9_-]{16,}`, redacted),
	compile(`\bxox[abeoprs]-[A-Za-z0-9-]{10,}`, redacted),
	compile(`\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b`, redacted),
	compile(`\bAIza[A-Za-z0-9_-]{30,}`, redacted),
	compile(`\bya29\.[A-Za-z0-9_-]{16,}`, redacted),
	compile(`\b[sprw]k_(?:live|test)_[A-Za-z0-9]{10,}`, redacted),
	compile(`\bsk-[A-Za-z0-9_-]{20,}`, redacted),
	compile(`\b(?:npm|hf|dop_v1|doo_v1|hvs|hvb|dckr_pat|lin_api|shpat|pypi)[_.-][A-Za-z0-9_.-]{16,}`, redacted),
	compile(`\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}`, redacted),
	compile(`\bAGE-SECRET-KEY-(?:PQ-)?1[A-Z0-9]{20,}`, redacted),
	compile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*`, redacted),
}

// secretFlag matches a whole argument after which a secret stands on its own.
var secretFlag = regexp.MustCompile(`(?i)^--?` + secretName + `$`)

// userFlag takes "user:password".
var userFlag = regexp.MustCompile(`^(-u|-U|--user|--proxy-user|--userpwd|--basic-auth|--creds)(=)?`)

// attached are programs whose -p takes the password in the same argument or,
// for those with true, in the next one.
var attached = map[string]bool{
	"mysql": false, "mysqldump": false, "mysqladmin": false, "mysqlimport": false, "mysqlshow": false,
	"mariadb": false, "mariadb-dump": false, "mariadb-admin": false,
	"sshpass": true, "mongo": true, "mongosh": true, "mongodump": true, "mongorestore": true, "sqlcmd": true,
	"docker": true, "podman": true, "redis-cli": true, "ldapsearch": true, "ldapmodify": true, "smbclient": true,
	"htpasswd": true, "ipmitool": true, "7z": false, "unzip": true, "zip": true,
}

// shortFlag is the letter for the password where it is not -p.
var shortFlag = map[string]string{
	"redis-cli": "-a", "ldapsearch": "-w", "ldapmodify": "-w", "smbclient": "-U", "sqlcmd": "-P", "ipmitool": "-P",
	"unzip": "-P", "zip": "-P", "htpasswd": "-b",
}

// RedactText hides what it recognises as a secret in one text. Redacting twice
// changes nothing more.
func RedactText(s string) string {
	for _, p := range patterns {
		s = p.find.ReplaceAllString(s, p.with)
	}
	return s
}

// Redact returns a copy of argv with secrets hidden, those that follow a flag
// in the next argument included. The number of arguments stays.
func Redact(argv []wire.Bytes) []wire.Bytes {
	out := make([]wire.Bytes, len(argv))
	program := ""
	for i, arg := range argv {
		if i > 0 && hidesNext(program, argv[i-1]) && !startsFlag(arg) {
			out[i] = hideUser(argv[i-1], arg)
			continue
		}
		if _, known := attached[base(arg)]; known {
			program = base(arg) // also behind sudo, env and the like
		}
		out[i] = wire.Bytes(redactArg(program, string(arg)))
	}
	return out
}

// redactArg hides what one argument holds by itself.
func redactArg(program, arg string) string {
	flag := passwordFlag(program)
	if flag != "" && strings.HasPrefix(arg, flag) && len(arg) > len(flag) && !strings.HasPrefix(arg, "--") {
		return flag + redacted
	}
	if m := userFlag.FindString(arg); m != "" && len(arg) > len(m) {
		if strings.HasSuffix(m, "=") || !strings.HasPrefix(arg, "--") {
			return m + string(afterColon(wire.Bytes(arg[len(m):])))
		}
	}
	return RedactText(arg)
}

// passwordFlag is the short flag of a program that we know, else "".
func passwordFlag(program string) string {
	if _, known := attached[program]; !known {
		return ""
	}
	if f, ok := shortFlag[program]; ok {
		return f
	}
	return "-p"
}

// hidesNext reports whether the argument after flag is a secret.
func hidesNext(program string, flag wire.Bytes) bool {
	f := string(flag)
	if secretFlag.MatchString(f) || userFlag.FindString(f) == f && f != "" {
		return true
	}
	return attached[program] && f == passwordFlag(program)
}

// hideUser hides arg, or only what follows the colon of a user:password flag.
func hideUser(flag, arg wire.Bytes) wire.Bytes {
	if userFlag.FindString(string(flag)) == string(flag) {
		return afterColon(arg)
	}
	return wire.Bytes(redacted)
}

// afterColon keeps the user of user:password.
func afterColon(arg wire.Bytes) wire.Bytes {
	user, _, found := bytes.Cut(arg, []byte(":"))
	if !found {
		return wire.Bytes(RedactText(string(arg)))
	}
	return append(bytes.Clone(user), ":"+redacted...)
}

// startsFlag reports that arg is a flag itself, so the flag before it had no
// argument. A secret that begins with "--" would be shown; none of ours does.
func startsFlag(arg wire.Bytes) bool { return bytes.HasPrefix(arg, []byte("--")) }

// base is the last element of a path, without a Windows extension.
func base(arg wire.Bytes) string {
	s := string(arg)
	s = s[strings.LastIndexAny(s, `/\`)+1:]
	return strings.TrimSuffix(strings.ToLower(s), ".exe")
}
