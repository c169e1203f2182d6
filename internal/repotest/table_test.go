package repotest

// row is what one package may import outside its tests.
type row struct {
	pkg  string
	deps string // packages of ours, rows above
	ext  string // modules of others, each of which it must use
}

// base is what nearly every package may import: the words for saying no, keys
// and their signed envelope, and the messages that the server may see.
const base = "internal/refusal crypto/key crypto/statement internal/wire "

// table is the architecture (docs/ARCHITECTURE.md). Read it from top to bottom:
// a row may only name rows above it. A new package needs a row; a row needs a
// package; a module of others is in one row unless shared says why not.
var table = []row{
	{"internal/refusal", "", ""},
	{"internal/repotest", "", ""},
	{"internal/sidebyside", "", ""},

	// What a session is protected with.
	{"crypto", "", ""},
	{"crypto/key", "internal/refusal", ""},
	{"internal/sparse", "", ""},
	{"crypto/statement", "internal/refusal internal/sparse crypto/key", ""},
	{"crypto/replay", "internal/refusal", "github.com/hashicorp/golang-lru/v2"},
	{"internal/harden", "", ""},
	{"crypto/handshake", "internal/refusal crypto/key internal/harden", ""},
	{"crypto/seal", "internal/refusal crypto/key crypto/replay crypto/handshake internal/harden", ""},

	// Who may do what.
	{"internal/mistyped", "", ""},
	{"internal/conf", "internal/mistyped", "github.com/pelletier/go-toml/v2"},
	{"internal/embed4", "", ""},
	{"policy", "internal/refusal crypto/key internal/embed4 internal/conf", ""},
	{"internal/wire", "internal/refusal crypto/key crypto/statement", ""},
	{"internal/acl", "", "golang.org/x/sys"},
	{"internal/keyfile", "internal/refusal internal/acl crypto/key", "golang.org/x/sys"},
	{"policy/roster", base + "policy", ""},
	{"policy/approval", base + "policy policy/roster internal/keyfile", ""},
	{"internal/audit/lines", "", ""},
	{"internal/audit/redact", "internal/wire", ""},
	{"internal/audit/entry", base + "internal/audit/redact", ""},
	{"internal/audit/tree", "internal/refusal crypto/key", "golang.org/x/mod"},
	{"internal/audit/spool", base + "internal/keyfile internal/audit/lines internal/audit/entry internal/audit/tree", ""},
	{"internal/audit/checkpoint", "internal/refusal crypto/key internal/wire internal/audit/tree", "golang.org/x/mod"},
	{"internal/audit/ledger", base + "internal/audit/entry internal/audit/tree internal/audit/checkpoint", ""},
	{"internal/audit/witness", "internal/refusal crypto/key internal/wire internal/keyfile internal/audit/tree internal/audit/checkpoint", ""},
	{"internal/audit/export", base + "internal/audit/entry internal/audit/checkpoint", ""},
	{"internal/audit/tiles", "internal/audit/lines internal/audit/tree internal/audit/checkpoint internal/audit/export", ""},
	{"internal/audit/signers", base + "policy/roster internal/audit/export", ""},
	{"internal/audit/consent", base + "policy/roster policy/approval internal/audit/entry", ""},
	{"internal/audit/finding", "", ""},
	{"internal/audit/diagnosis", "internal/audit/finding", ""},
	{"internal/audit/verify", base + "policy/roster internal/audit/finding internal/audit/diagnosis internal/audit/lines internal/audit/entry internal/audit/tree internal/audit/checkpoint internal/audit/export internal/audit/signers internal/audit/consent", ""},
	{"internal/audit", "", ""},

	// The relay: nothing above but the words for saying no and the socket.
	{"internal/udp", "", "golang.org/x/net golang.org/x/sys"},
	{"relay/guard", "", ""},
	{"relay/credential", "", ""},
	{"relay/hop", "internal/refusal internal/udp", "github.com/pion/dtls/v2 github.com/pion/logging github.com/coder/websocket golang.org/x/crypto"},
	{"relay", "internal/udp relay/guard relay/credential relay/hop", "github.com/pion/turn/v2 github.com/pion/logging"},

	{"internal/proxies", "", "golang.org/x/net"},
	{"internal/rate", "", ""},

	// The server.
	{"rendezvous/principal", base + "policy policy/roster", "github.com/golang-jwt/jwt/v5"},
	{"rendezvous/store", base + "policy policy/roster internal/audit/export rendezvous/principal", "github.com/jackc/pgx/v5 github.com/pressly/goose/v3 modernc.org/sqlite"},
	{"rendezvous/store/pgtest", "", ""},
	{"rendezvous/chain", "internal/refusal crypto/key internal/wire policy policy/roster rendezvous/store", ""},
	{"rendezvous/bus", base + "rendezvous/principal", ""},
	{"rendezvous/identity", "crypto/key internal/keyfile internal/wire relay/credential", ""},
	{"rendezvous/strict", "internal/refusal internal/sparse", ""},
	{"rendezvous/problem", "internal/refusal internal/wire", ""},
	{"rendezvous/live", "internal/refusal crypto/key internal/wire", ""},
	{"rendezvous/channel", "internal/refusal internal/wire internal/rate rendezvous/strict rendezvous/problem", "github.com/coder/websocket"},
	{"rendezvous/metrics", "", ""},
	{"rendezvous/logbook", base + "internal/audit/entry internal/audit/tree internal/audit/checkpoint internal/audit/ledger rendezvous/principal rendezvous/store rendezvous/chain", ""},
	{"rendezvous/team", "internal/refusal crypto/key internal/wire rendezvous/principal rendezvous/store rendezvous/chain rendezvous/bus rendezvous/identity rendezvous/live rendezvous/channel rendezvous/logbook rendezvous/metrics", ""},
	{"rendezvous/gate", base + "policy policy/roster internal/audit/entry internal/rate rendezvous/principal rendezvous/store rendezvous/chain rendezvous/problem rendezvous/metrics rendezvous/team", ""},
	{"rendezvous/lease", base + "relay/credential internal/rate rendezvous/store rendezvous/chain rendezvous/identity rendezvous/live rendezvous/problem rendezvous/strict rendezvous/metrics rendezvous/team rendezvous/gate", ""},
	{"rendezvous/requests", base + "policy policy/approval internal/audit/entry rendezvous/store rendezvous/chain rendezvous/live rendezvous/strict rendezvous/team rendezvous/gate", ""},
	{"rendezvous/client", base + "internal/proxies internal/sparse", "github.com/coder/websocket"},
	{"rendezvous/sessions", base + "policy policy/roster policy/approval internal/audit/entry internal/rate relay/credential rendezvous/store rendezvous/bus rendezvous/identity rendezvous/live rendezvous/channel rendezvous/problem rendezvous/strict rendezvous/client rendezvous/team rendezvous/gate rendezvous/lease rendezvous/requests", ""},
	{"rendezvous/agents", base + "policy/roster relay/credential internal/audit/entry internal/audit/tree internal/audit/checkpoint internal/rate rendezvous/principal rendezvous/store rendezvous/chain rendezvous/bus rendezvous/identity rendezvous/strict rendezvous/problem rendezvous/live rendezvous/channel rendezvous/metrics rendezvous/logbook rendezvous/team rendezvous/gate rendezvous/lease", ""},
	{"rendezvous/rosters", base + "policy/roster internal/audit/entry internal/rate rendezvous/principal rendezvous/store rendezvous/chain rendezvous/identity rendezvous/strict rendezvous/team rendezvous/gate", ""},
	{"rendezvous/logview", base + "internal/audit/entry internal/audit/checkpoint internal/audit/export rendezvous/store rendezvous/bus rendezvous/strict rendezvous/logbook rendezvous/team rendezvous/gate rendezvous/agents", ""},
	{"rendezvous", base + "policy policy/roster internal/keyfile internal/audit/entry internal/rate relay/credential " +
		"rendezvous/principal rendezvous/store rendezvous/chain rendezvous/bus rendezvous/identity rendezvous/strict rendezvous/problem rendezvous/metrics rendezvous/logbook rendezvous/team rendezvous/gate rendezvous/lease rendezvous/requests rendezvous/client rendezvous/sessions rendezvous/agents rendezvous/rosters rendezvous/logview", "github.com/coder/websocket golang.org/x/sync"},

	// The path of a session.
	{"internal/path", "internal/refusal internal/embed4", ""},
	{"internal/carrier", "crypto/key relay/hop", "golang.org/x/net"},
	{"internal/portmap", "", "github.com/jackpal/go-nat-pmp github.com/huin/goupnp"},
	{"internal/link", "internal/refusal internal/udp internal/wire internal/path internal/portmap internal/carrier relay/guard relay/credential", "github.com/pion/turn/v2 github.com/pion/logging golang.org/x/sys"},
	{"internal/transport", "internal/refusal", ""},
	{"internal/probe", "crypto/key internal/udp internal/wire internal/proxies internal/carrier internal/link relay/guard relay/credential", ""},
	{"internal/session", base + "crypto/handshake crypto/seal internal/harden internal/path internal/link internal/transport", ""},

	// The two ends.
	{"internal/terminal", "", "golang.org/x/term golang.org/x/sys"},
	{"internal/cli", "internal/refusal internal/mistyped internal/terminal", "github.com/spf13/cobra"},
	{"internal/cli/helptest", "internal/cli", ""}, // by tests only
	{"internal/join", "", ""},
	{"internal/listen", "", ""},
	{"internal/drive", "", "golang.org/x/sys"},
	{"internal/confine", "internal/refusal internal/drive", ""},
	{"internal/filecopy/disk", "", "golang.org/x/sys"},
	{"internal/filecopy", "internal/refusal internal/confine internal/filecopy/disk", ""},
	{"internal/filecopy/send", "internal/refusal internal/filecopy internal/filecopy/disk", ""},
	{"internal/filecopy/receive", "internal/refusal internal/filecopy internal/filecopy/disk", ""},
	{"agent/pipe", "internal/acl", "golang.org/x/sys"},
	{"agent/process", "internal/refusal internal/drive agent/pipe", "github.com/charmbracelet/x/xpty golang.org/x/sys"},
	{"agent/kept", "internal/refusal agent/process", ""},
	{"agent/files", "internal/refusal internal/confine internal/filecopy", "github.com/pkg/sftp"},
	{"agent/reach", "internal/refusal policy internal/listen", ""},
	{"agent/cgroup", "", ""},
	{"agent/utmp", "", ""},
	{"agent/trust", base + "policy policy/roster internal/keyfile", ""},
	{"agent/membership", base + "policy policy/roster policy/approval internal/keyfile internal/audit/spool rendezvous/client agent/trust", "golang.org/x/sys"},
	{"agent/pair", "internal/refusal crypto/key internal/wire internal/proxies agent/pipe agent/process", "golang.org/x/sys"},
	{"agent/gossip", "internal/refusal crypto/key internal/wire internal/audit/checkpoint internal/audit/witness agent/trust", ""},
	{"agent/worker", "internal/refusal crypto/handshake policy internal/harden internal/wire internal/link internal/session internal/join internal/drive internal/confine internal/filecopy internal/filecopy/receive internal/filecopy/send agent/process agent/kept agent/files agent/reach agent/pair", ""},
	{"agent/judge", base + "crypto/replay crypto/handshake policy policy/roster policy/approval internal/rate internal/drive agent/process agent/trust agent/pair", ""},
	{"agent/places", "internal/refusal crypto/key", ""},
	{"agent/shelf", "internal/refusal crypto/key internal/wire policy agent/kept agent/pair agent/places agent/judge", ""},
	{"agent", base + "crypto/handshake policy policy/roster policy/approval internal/keyfile " +
		"internal/audit/entry internal/audit/spool internal/proxies internal/link internal/rate rendezvous/client " +
		"agent/process agent/kept agent/cgroup agent/utmp agent/trust agent/membership agent/pair agent/worker agent/gossip agent/judge agent/places agent/shelf", ""},
	{"operator/vault", "crypto/key internal/keyfile", "filippo.io/age"},
	{"operator/change", base + "policy policy/roster internal/terminal", ""},
	{"operator/screen", "internal/terminal", "golang.org/x/text"},
	{"operator/live", "internal/keyfile", ""},
	{"operator/account", base + "policy policy/roster internal/mistyped internal/keyfile internal/audit/checkpoint internal/audit/witness internal/cli rendezvous/client", ""},
	{"operator/teamtest", base + "policy policy/roster internal/keyfile operator/account", ""},
	{"operator/verb", "internal/refusal policy internal/terminal internal/cli operator/account", ""},
	{"operator/request", base + "policy policy/approval internal/terminal internal/cli operator/account operator/verb", ""},
	{"operator/socks", "", ""},
	{"operator/fleet", "internal/refusal internal/terminal", ""},
	{"operator/forward", "internal/refusal internal/session internal/join internal/listen operator/socks", ""},
	{"operator/master", "internal/refusal", ""},
	{"operator/sshfront", "internal/refusal internal/keyfile internal/session internal/wire internal/join internal/terminal", "golang.org/x/crypto"},
	{"operator/sshconfig", "internal/keyfile internal/refusal internal/terminal internal/cli operator/account operator/verb operator/sshfront", ""},
	{"operator/remote", base + "crypto/handshake policy internal/audit/entry internal/proxies internal/link internal/session internal/join internal/terminal internal/cli operator/account operator/verb operator/request operator/live operator/screen operator/fleet operator/forward operator/master operator/sshfront", ""},
	{"operator/files", "internal/filecopy internal/filecopy/receive internal/filecopy/send internal/refusal internal/session internal/cli internal/terminal operator/fleet operator/remote operator/verb", ""},
	{"operator/netcheck", "internal/refusal internal/wire internal/proxies internal/link internal/probe internal/cli internal/terminal operator/account operator/verb", ""},
	{"operator/pending", "internal/refusal crypto/key internal/keyfile internal/terminal internal/cli policy/roster operator/change operator/account operator/verb", ""},
	{"operator/owners", base + "policy/roster internal/keyfile internal/terminal internal/cli operator/vault operator/change operator/account operator/verb operator/pending", ""},
	{"operator/members", "internal/refusal crypto/key policy policy/roster internal/terminal internal/cli operator/account operator/fleet operator/verb operator/owners", ""},
	{"operator/founding", base + "policy policy/roster internal/keyfile internal/cli rendezvous/client operator/vault operator/change operator/account operator/verb operator/pending operator/owners operator/members", ""},
	{"operator/cosign", "internal/refusal internal/terminal internal/cli operator/change operator/account operator/verb operator/pending operator/owners operator/founding", ""},
	{"operator", base + "policy policy/roster internal/harden internal/keyfile internal/audit/tiles internal/audit/finding internal/audit/diagnosis internal/audit/verify internal/terminal internal/cli " +
		"operator/account operator/verb operator/request operator/live operator/fleet operator/remote operator/files operator/sshconfig operator/netcheck operator/owners operator/members operator/founding operator/cosign", ""},

	// Programs: they put parts together and hold nothing of their own.
	{"cmd/tucdesk", "operator", ""},
	{"cmd/tucdesk-agent", "internal/cli internal/refusal internal/harden agent", ""},
	{"cmd/tucdesk-relay", "internal/cli internal/conf internal/refusal relay relay/credential relay/hop", ""},
	{"cmd/tucdesk-server", "internal/cli internal/conf internal/refusal internal/terminal rendezvous relay relay/hop", "golang.org/x/sync"},
	{"cmd/quickstart", "internal/cli internal/harden internal/terminal relay rendezvous agent operator", "golang.org/x/sync"},

	// A small internet for tests and benchmarks; it knows none of the parts.
	{"internal/netlab", "", "golang.org/x/sys"},
	{"internal/bench", "internal/netlab", "golang.org/x/sys"},
	{"cmd/bench", "internal/cli internal/bench", ""},

	// Tests of all of them together, as processes, and what builds those; nothing but tests imports them.
	{"internal/programtest", "internal/sidebyside relay rendezvous agent operator", ""},
	{"internal/endtoend", "", "github.com/coder/websocket golang.org/x/sys"},
	{"internal/labtest", "", ""},
	{"internal/conformance", "", ""},
}

// shared are modules that more than one row uses, with the reason.
var shared = map[string]string{
	"golang.org/x/sys":           "system calls; one package per concern of the system, each behind its own files per system",
	"golang.org/x/net":           "ipv4 and ipv6, for batches of datagrams and control messages; the socket and the seal need them; which proxy, and SOCKS",
	"golang.org/x/crypto":        "a collection, not a library: ssh at the operator's local front, argon2 and others by name where they are needed",
	"golang.org/x/mod":           "two libraries in one module: tlog for the tree, note for signed checkpoints",
	"golang.org/x/sync":          "errgroup, the standard way to own goroutines",
	"github.com/pion/turn/v2":    "the relay is its server half, the link its client half",
	"github.com/pion/logging":    "turn and dtls take their loggers from it",
	"github.com/coder/websocket": "rendezvous/channel is its server half, rendezvous/client its client half, relay/hop both of the way to a relay; tests play a server and an agent that lie",
}

// testOnly are modules that tests use and nothing else may.
var testOnly = map[string]string{
	"go.uber.org/goleak":              "finds goroutines that outlive a test",
	"pgregory.net/rapid":              "property tests",
	"github.com/hinshun/vt10x":        "a terminal written by somebody else, to compare screens with",
	"github.com/rogpeppe/go-internal": "testscript: command lines as scripts",
	"filippo.io/edwards25519":         "an independent check of what makes a key weak",
	"github.com/pion/stun":            "builds the broken messages that the guard must stop",
}

// neverReaches are walls: no chain of imports leads from a package below the
// first name to one below any of the others.
var neverReaches = []struct{ from, to string }{
	// The relay cannot open anything, and its imports show it.
	{"relay", "crypto internal/session internal/transport policy rendezvous agent operator"},
	// The rendezvous introduces and denies; it has no part in a session's secrets.
	{"rendezvous", "crypto/handshake crypto/seal internal/transport internal/session internal/link agent operator"},
	{"policy", "crypto/handshake crypto/seal internal/transport internal/session internal/link rendezvous agent operator relay"},
	// The two ends know the server only as its client.
	{"agent", "rendezvous/store rendezvous/principal rendezvous/bus operator"},
	{"operator", "rendezvous/store rendezvous/principal rendezvous/bus agent"},
	{"cmd/tucdesk-relay", "crypto internal/session rendezvous policy"},
}
