// Package policy decides who may do what, where and when. One file holds the
// rules of a team; Parse loads it and Decide answers one request at one time.
//
// The same code runs twice for every session: at the rendezvous, to refuse
// early, and at the agent, because the rendezvous is not trusted and can only
// deny (protocol 3.1). So the package is pure: it opens no file, asks no clock and
// has no state; the same file, request and time give the same answer everywhere.
// The roster names the file by its SHA-256 (protocol 3.2).
//
// # The file
//
// TOML, written by people, at most 1 MiB and 10,000 rules:
//
//	version = 1
//	mode = "enforce"                  # or "lockdown": deny everything
//	roster_grace = "12h"              # accept a roster this long after it expired; default not at all
//
//	[environment]
//	allow = ["LANG", "TERM"]          # names an operator may send; default: what SSH clients send
//
//	[limits]                          # of every session
//	session = "24h"
//	idle = "2h"
//	resume = "8h"                     # how long it waits for a lost network; default 24h
//
//	[gate]                            # on these hosts everything needs approval but listed commands
//	where.tags_any = ["prod"]
//	approval.count = 1
//
//	[[allow]]
//	id = "web-restart"                # unique; what logs and refusals name
//	description = "on-call restarts the web server"
//	who.roles = ["operator", "admin"] # these roles exactly, not "and above"
//	who.emails = ["ann@example.com"]  # also: who.people (roster person ids), who.keys (kids)
//	where.tags_all = ["prod", "web"]  # also: where.tags_any, where.agents (host names)
//	actions = ["exec"]                # shell, exec, copy(-read|-write), forward(-local|-remote|-agent), background, ping
//	users = ["@agent", "deploy"]      # login users; "@agent" is the agent's own
//	cwd = ["/srv/web"]                # working directories
//	commands = [                      # exact argv; "..." last is any further arguments
//	  ["/usr/bin/systemctl", "restart", "nginx"],
//	  ["/usr/bin/journalctl", "--unit", "nginx", "--lines", "200", "--no-pager"],
//	  ["/usr/bin/df", "..."],         # no option of it does harm
//	]
//	when.days = ["mon", "tue", "wed", "thu", "fri"]
//	when.from = "22:00"               # belongs to the window
//	when.to = "06:00"                 # does not; past midnight it is still the start day's window
//	when.zone = "Europe/Berlin"       # IANA name or "UTC"
//	approval.count = 1                # distinct people other than who asks
//	approval.roles = ["approver"]     # default: approver, admin, owner
//	limits.session = "1h"
//
//	[[allow]]
//	id = "database"
//	who.roles = ["operator", "admin"]
//	actions = ["forward-local"]
//	targets = ["db.lan:5432"]         # HOST:PORT, HOST:* or a socket's path
//
//	[[allow]]
//	id = "uploads"
//	who.roles = ["operator"]
//	actions = ["copy-write"]
//	roots = ["/srv/data/in"]          # folders that copies stay in; default: all that the user may see
//
//	[[block]]
//	id = "contractors-at-home"
//	who.people = ["p-17"]
//
//	[[expect]]                        # what `policy test` checks
//	name = "a contractor is kept out"
//	action = "shell"
//	role = "operator"
//	person = "p-17"
//	agent = "web-1"
//	tags = ["prod", "web"]
//	at = "2026-03-02T12:00:00+01:00"
//	want = "deny"                     # allow, approval or deny
//	rule = "contractors-at-home"      # optional
//
// # How rules combine
//
// Every condition written in a rule must hold; of a list one element is enough,
// of tags_all every one. A condition that is not written holds always, with one
// exception: an allow rule without users means the agent's own user. Allow rules
// must say who and which actions.
//
// A block rule that matches denies, whatever else matches. If no allow rule
// matches, the answer is no. If several match, what they ask for adds up: the
// most approvals, the smallest limits, and only approver roles that all of them
// accept. So a rule can be added to ask for more, and a rule written too widely
// cannot take a demand of another one away. The order of rules means nothing.
//
// # Ping
//
// A ping opens a session in which nothing can be opened; it shows that the host
// is there and which way leads to it. Whoever may do anything on a host may do
// that: of an allow rule only who, where and when must hold, and neither its
// approval nor the gate is asked for. A block rule denies it unless it looks at
// users, commands or folders; one that names other actions denies it only
// together with others that leave nothing of what is allowed. An allow rule for
// "ping" alone lets people see hosts on which they may do nothing else.
//
// # Commands
//
// An allowed command is matched by the real path of the file that is executed,
// by the name it is called by, and by every argument, as bytes (protocol 4.3).
// Wrappers, programs that run what their arguments say (shells, env, sudo, find,
// interpreters, ssh, docker and more, see RunsOthers), cannot be listed with
// "...", only with their exact arguments. "..." is for programs of which no option
// harms: Check warns of well known ones that delete or read files by an option, such
// as journalctl. A block rule's commands are matched by
// the file's name alone, wherever it lies; still a blocked name is advice and no
// wall, because a file can be copied under another name. The wall is the gate:
// there whatever is not listed needs approval. Under the gate a shell always
// needs approval, as does copying and forwarding: keystrokes and files cannot be
// classified.
//
// # Files and forwards
//
// "copy" is short for "copy-read" and "copy-write". An allow rule for them may list
// roots, and files are then read or written below those folders only; several rules
// that match open their folders together, each direction for itself (at most 1,000, and
// 64 KiB of names; more is denied), and what they ask for adds up as always. A block rule takes no roots: a wall around a folder
// would have holes, since links and other names of files lead into it. Roots bind
// copies alone; who may open a shell reaches what the user does.
//
// "forward" is short for "forward-local" (the host connects to something for the
// operator) and "forward-remote" (the host listens for the operator). "forward-agent" lends the operator's SSH agent and is
// named by itself. A rule for forwards may list targets: HOST:PORT, HOST:* or the
// path of a socket, compared byte by byte with what was asked for; of a
// forward-remote it is the address that is listened at. Whatever the rules say, a
// host reaches sockets, and the addresses that clouds hand out credentials at, only
// where a rule has that path or that address, not a name of it, among its targets
// (attack P4).
//
// # Background
//
// "background" lets what a shell or a command started go on when its session ends, if it
// was meant to: it made a session of its own (setsid, a daemon), or ignores the hang-up
// (nohup). It gives nothing without a rule for "shell" or "exec" beside it, and is asked
// for at the end of the session, by the newest policy. What ran with an approval leaves
// something only if the very rule that allowed it names "background": who approved a
// command approved its end as well, unless the rule they could read says otherwise. So a
// listed command on a gated host leaves nothing.
//
// # Identity and tags
//
// Who asks is a key of the roster with its entry's e-mail, person and role.
// E-mails are compared byte by byte as labels of that entry; a mail domain grants
// nothing. Tags are those of the host's certificate or the roster, never what
// the host says of itself.
package policy
