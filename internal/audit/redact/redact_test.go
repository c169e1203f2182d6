package redact

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/wire"
)

// s3cret stands for the secret in the corpus; no redacted command may hold it.
const s3cret = "Hunter2xYz"

// secretCommands is the corpus of N8, arguments split at "|".
var secretCommands = []string{
	"tool|--password|" + s3cret, "tool|--password=" + s3cret, "tool|-password|" + s3cret, "tool|--db-password=" + s3cret,
	"tool|--api-key|" + s3cret, "tool|--api_key=" + s3cret, "tool|--apikey|" + s3cret, "tool|--token|" + s3cret, "tool|--auth-token=" + s3cret,
	"tool|--client-secret|" + s3cret, "tool|--secret|" + s3cret, "tool|--passphrase=" + s3cret, "tool|--pass|" + s3cret, "tool|--pin|" + s3cret,
	"vault|login|token=" + s3cret, "aws|configure|set|--secret-access-key|" + s3cret,
	"mysql|-u|root|-p" + s3cret, "/usr/bin/mysqldump|-p" + s3cret + "|db", "sudo|mysql|-p" + s3cret, "mariadb|--password=" + s3cret,
	"sshpass|-p|" + s3cret + "|ssh|host", "sshpass|-p" + s3cret + "|ssh|host", "redis-cli|-a|" + s3cret + "|ping", "redis-cli|-a" + s3cret,
	"ldapsearch|-D|cn=admin|-w|" + s3cret, "docker|login|-u|bob|-p|" + s3cret, "ipmitool|-P|" + s3cret, "unzip|-P|" + s3cret + "|a.zip",
	"curl|-u|bob:" + s3cret + "|https://h/", "curl|-ubob:" + s3cret + "|https://h/", "curl|--user|bob:" + s3cret, "curl|--user=bob:" + s3cret,
	"curl|--proxy-user|bob:" + s3cret, "curl|https://bob:" + s3cret + "@host/path", "git|clone|https://" + s3cret + "abcdefgh@github.com/x/y",
	"psql|postgres://app:" + s3cret + "@db/app", "curl|https://h/?token=" + s3cret, "curl|https://h/?a=b&api_key=" + s3cret + "&c=d",
	"curl|https://h/?X-Amz-Signature=" + s3cret, "curl|https://h/?sv=2020&sig=" + s3cret, "curl|https://h/cb?code=" + s3cret + "&state=1",
	"curl|-H|Authorization: Bearer " + s3cret, "curl|-H|authorization:Basic " + s3cret, "curl|-H|Authorization: token " + s3cret,
	"curl|-H|X-Api-Key: " + s3cret, "curl|-H|X-Auth-Token: " + s3cret, "curl|-H|Cookie: session=" + s3cret, "curl|-HProxy-Authorization: Basic " + s3cret,
	"curl|-d|{\"user\":\"bob\",\"password\":\"" + s3cret + "\"}", "curl|-d|user=bob&password=" + s3cret, "curl|-d|{'token': '" + s3cret + "'}",
	"env|PGPASSWORD=" + s3cret + "|psql", "env|AWS_SECRET_ACCESS_KEY=" + s3cret, "DB_PASS=" + s3cret, "env|GITHUB_TOKEN=" + s3cret + "|make",
	"docker|run|-e|MYSQL_ROOT_PASSWORD=" + s3cret + "|mysql", "sh|-c|PGPASSWORD=" + s3cret + " psql -h db", "sh|-c|export API_KEY='" + s3cret + "'; run",
	"sh|-c|tool --password " + s3cret + " --verbose", "sh|-c|tool --password=\"" + s3cret + " with space\"",
	"bash|-c|curl -H 'Authorization: Bearer " + s3cret + "' https://h", "sh|-c|echo \"$x\" | curl https://u:" + s3cret + "@h/",
	"mysql|-e|CREATE USER a IDENTIFIED BY '" + s3cret + "'", "psql|-c|ALTER ROLE a PASSWORD '" + s3cret + "'",
	"tool|ghp_" + s3cret + s3cret + s3cret, "tool|github_pat_11AAAAAAA0" + s3cret + s3cret, "tool|glpat-" + s3cret + s3cret,
	"tool|xoxb-1234567890-" + s3cret, "tool|sk_live_" + s3cret, "tool|sk-" + s3cret + s3cret, "tool|AIzaSyA" + s3cret + s3cret + s3cret,
	"tool|hvs." + s3cret + s3cret, "tool|npm_" + s3cret + s3cret, "tool|SG." + s3cret + s3cret + "." + s3cret + s3cret,
	"tool|eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0." + s3cret, "tool|AGE-SECRET-KEY-1" + strings.ToUpper(s3cret) + strings.ToUpper(s3cret) + "QQQQ",
	"tool|-----BEGIN OPENSSH PRIVATE KEY-----\n" + s3cret + "\n-----END OPENSSH PRIVATE KEY-----", "tool|-----BEGIN RSA PRIVATE KEY-----\n" + s3cret,
	"tucdesk-agent|join|tucdesk-join:" + s3cret + s3cret, "tucdesk|init|tucdesk-setup:" + s3cret, "tool|AKIAIOSFODNN7EXAMPLE|" + "x",
	"helm|install|--set|db.password=" + s3cret, "kubectl|create|secret|generic|x|--from-literal=password=" + s3cret,
	"az|login|--service-principal|-p|x|--client-secret|" + s3cret, "tool|Password: " + s3cret[:0] + "x|--otp|" + s3cret,
}

func split(command string) (argv []wire.Bytes) {
	// "\x00" keeps a pipe that belongs to a shell text.
	for _, a := range strings.Split(strings.ReplaceAll(command, " | ", " \x00 "), "|") {
		argv = append(argv, wire.Bytes(strings.ReplaceAll(a, "\x00", "|")))
	}
	return argv
}

func text(argv []wire.Bytes) string { return string(bytes.Join(plain(argv), []byte("|"))) }

func plain(argv []wire.Bytes) (out [][]byte) {
	for _, a := range argv {
		out = append(out, a)
	}
	return out
}

func TestN8SecretsAreHidden(t *testing.T) {
	for _, command := range secretCommands {
		got := Argv(split(command))
		if len(got) != len(split(command)) {
			t.Errorf("%q: %d arguments", command, len(got))
		}
		if s := text(got); strings.Contains(strings.ToLower(s), strings.ToLower(s3cret)) || !strings.Contains(s, redacted) {
			t.Errorf("%q became %q", command, s)
		}
	}
}

// What is no secret stays readable: a log of nothing but stars is no log.
func TestN8PlainCommandsAreKept(t *testing.T) {
	for _, command := range []string{
		"systemctl|restart|nginx", "rm|-rf|/srv/old", "ps|-p|1234", "mkdir|-p|/srv/new", "ssh|-p|2222|host", "tar|-xpf|a.tar", "cp|-p|a|b",
		"git|clone|https://github.com/x/y", "git|clone|git@github.com:x/y.git", "curl|https://h/?page=2&author=bob", "psql|-U|app|-h|db",
		"passwd|bob", "cat|/etc/passwd", "ls|--sort=size", "docker|run|-p|80:80|nginx", "rsync|-u|a|host:b", "docker|run|-u|1000:1000|nginx", "tool|--password-file|/run/x", "grep|-r|password|/etc", "chage|--pinned",
		"curl|-H|Accept: application/json", "rsync|-a|a|b", "useradd|-u|1001|bob", "sort|-u|file", "apt|install|token-tools", "date|-u",
		"echo|hello world", "find|/|-name|*.key", "redis-cli|-h|db|ping", "mysql|-u|root|-h|db", "kubectl|get|secrets", "ssh|bob@host",
	} {
		if got := text(Argv(split(command))); got != strings.ReplaceAll(command, "\x00", "|") {
			t.Errorf("%q became %q", command, got)
		}
	}
}

func TestRedactLeavesItsInputAlone(t *testing.T) {
	argv := split("tool|--password|" + s3cret + "|--token=" + s3cret)
	before := text(argv)
	out := Argv(argv)
	for _, arg := range out {
		clear(arg)
	}
	if text(argv) != before {
		t.Errorf("input became %q", text(argv))
	}
}

// Whatever stands before and behind it, a password after its flag is hidden, the
// number of arguments stays, and the result is always the same.
func FuzzRedact(f *testing.F) {
	for _, c := range secretCommands {
		f.Add(c)
	}
	f.Add("\xff\xfe=|--password|\xff")
	f.Fuzz(func(t *testing.T, command string) {
		const planted = "Zq9planted7"
		if len(command) > 4096 || strings.Contains(strings.ToLower(command), "planted") {
			return
		}
		argv := append(split(command), split("--password|"+planted+"|--token="+planted+"|https://u:"+planted+"@h/")...)
		argv = append(argv, split(command)...)
		once := Argv(argv)
		if len(once) != len(argv) || strings.Contains(text(once), planted) {
			t.Errorf("%q became %q", text(argv), text(once))
		}
		if text(once) != text(Argv(argv)) {
			t.Error("a second run gives another result")
		}
	})
}

// Arguments are written by people who may want to stall an agent.
func BenchmarkRedactHostile(b *testing.B) {
	argv := []wire.Bytes{wire.Bytes(strings.Repeat("a-", 16<<10)), wire.Bytes(strings.Repeat("password=", 4<<10)), wire.Bytes(fmt.Sprintf("%032768d", 0))}
	for b.Loop() {
		Argv(argv)
	}
}
