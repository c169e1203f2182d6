package conformance

import "testing"

// ours are cases of our own client, typed as one types ssh: what works there works
// here, or says by name why it does not. $H is "web.tucdesk" here as well.
var ours = []testCase{
	{"ours", "exit status, letters behind the host", `tucdesk ssh $H -n -T 'exit 7'`, "", "", 7},
	{"ours", "both streams apart", `tucdesk ssh web 'echo out; echo err >&2' 2>e; sed s/^/2:/ e`, "out\n2:err\n", "", 0},
	{"ours", "5 MB there and back", `tucdesk ssh web cat <"$BIG" | cmp - "$BIG" && echo same`, "same\n", "", 0},
	{"ours", "letters in one word", `tucdesk ssh -qTnx4 -oBatchMode=yes -p22 web 'cat; echo end'`, "end\n", "", 0},
	{"ours", "options of hosts' keys change nothing", `tucdesk ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o "ServerAliveInterval 5" web echo here`, "here\n", "", 0},
	{"ours", "-l and user@", `tucdesk ssh -l nobody web id`, "", "user_not_allowed", 253},
	{"ours", "-t without a terminal, and -tt", `tucdesk ssh -t web 'test -t 0 || echo pipes' </dev/null; tucdesk ssh -tt web 'test -t 0 && echo tty' </dev/null 2>/dev/null`, "pipes\ntty\r\n", "-tt asks for one all the same", 0},
	{"ours", "SetEnv and RemoteCommand", `tucdesk ssh -o SetEnv=LC_TIME=de_DE -o RemoteCommand='echo $LC_TIME' web`, "de_DE\n", "", 0},
	{"ours", "SendEnv leaves out what the policy does not allow, for git", `git init -q r; git -C r commit -q --allow-empty -m one; GIT_SSH_VARIANT=ssh GIT_SSH_COMMAND="tucdesk ssh" git ls-remote web:$D/r HEAD | cut -f 2`, "HEAD\n", "", 0},
	{"ours", "a letter that is not here", `tucdesk ssh -X web true`, "", "X11 is not forwarded", 2},
	{"ours", "an option that is none", `tucdesk ssh -o Nonsense=1 web true`, "", "-o Nonsense: not an option", 2},
	{"ours", "a key file", `tucdesk ssh -i id_ed25519 web true`, "", "who you are", 2},
	{"ours", "a port", `tucdesk ssh -p 2222 web true`, "", "tucdesk ls shows the names", 2},

	{"ours", "-L", `tucdesk ssh -fNL $P1:127.0.0.1:$PORT web; get $P1`, "there\n", "", 0},
	{"ours", "-f says nothing and leaves nothing open", `x=$(tucdesk ssh -fN -L $P1:127.0.0.1:$PORT web 2>&1); echo "<$x>"; get $P1`, "<>\nthere\n", "", 0},
	{"ours", "-f with a command", `tucdesk ssh -f web 'sleep 0.2; echo late' >o; echo first; until test -s o; do sleep 0.05; done; cat o`, "first\nlate\n", "", 0},
	{"ours", "-f of what is refused", `tucdesk ssh -f -l nobody web id`, "", "user_not_allowed", 253},
	{"ours", "-L from and to sockets", `tucdesk ssh -fN -L $ROOTS/l2.sock:$SOCK -L $P1:$ROOTS/l2.sock web; get $P1; stat -c %a $ROOTS/l2.sock`, "there\n600\n", "", 0},
	{"ours", "-R", `tucdesk ssh -fN -o ExitOnForwardFailure=yes -R $P1:127.0.0.1:$PORT web; there get $P1`, "here\n", "", 0},
	{"ours", "-R to a port of its choice", `tucdesk ssh -N -R 0:127.0.0.1:$PORT web 2>e & until grep -q Allocated e; do sleep 0.05; done; there get $(sed -n 's/Allocated port \([0-9]*\) for remote forward to .*/\1/p' e); kill $!; wait $!`, "here\n", "", 255},
	{"ours", "-R from a socket there", `tucdesk ssh -fN -o ExitOnForwardFailure=yes -R $ROOTS/r2.sock:127.0.0.1:$PORT -L $P1:$ROOTS/r2.sock web; listens $ROOTS/r2.sock; get $P1`, "there\nhere\n", "", 0},
	{"ours", "-R as SOCKS", `tucdesk ssh -fN -o ExitOnForwardFailure=yes -R $P1 web; there socks $P1 $PORT 5`, "here\n", "", 0},
	{"ours", "-D, SOCKS5 and SOCKS4", `tucdesk ssh -fND $P1 web; socks $P1 $PORT 5; socks $P1 $PORT 4`, "there\nthere\n", "", 0},
	{"ours", "-W", `tucdesk ssh -W 127.0.0.1:$PORT web </dev/null | whose`, "there\n", "", 0},
	{"ours", "beside a command", `(echo 'echo ready'; until test -e go; do sleep 0.05; done; echo 'exit 3') | tucdesk ssh -T -D $P1 web bash >o & until test -s o; do sleep 0.05; done; cat o; socks $P1 $PORT 5; touch go; wait $!`, "ready\nthere\n", "", 3},
	{"ours", "a listener that is taken ends it", `tucdesk ssh -o ExitOnForwardFailure=yes -N -L $PORT:127.0.0.1:1 web`, "", "address already in use", 1},
	{"ours", "or is only told", `tucdesk ssh -L $PORT:127.0.0.1:1 web echo runs`, "runs\n", "address already in use", 0},
	{"ours", "listening beyond loopback there", `tucdesk ssh -o ExitOnForwardFailure=yes -N -R 0.0.0.0:$P1:127.0.0.1:$PORT web`, "", "listens on localhost unless a rule names", 253},
	{"ours", "nothing listens there", `tucdesk ssh -W 127.0.0.1:1 web </dev/null`, "", "connection refused", 255},
	{"ours", "forwards that a rule blocks", `tucdesk ssh -W 127.0.0.1:$PORT closed </dev/null`, "", "blocked by rule sealed", 253},
	{"ours", "cloud metadata", `tucdesk ssh -W 169.254.169.254:80 web </dev/null`, "", "no forward goes to cloud metadata", 253},
	{"ours", "-A", `eval $(ssh-agent) >/dev/null; ssh-keygen -q -t ed25519 -N "" -f k; ssh-add -q k; tucdesk ssh -A web ssh-add -l | cut -d " " -f 1; kill $SSH_AGENT_PID`, "256\n", "", 0},
	{"ours", "-J to a machine of the team needs none", `tucdesk ls >/dev/null; tucdesk ssh -J ro web echo here`, "here\n", "needs no -J", 0},
	{"ours", "-J to a host behind a machine", `behind; tucdesk ssh -J web -p $P1 -i $D/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR 127.0.0.1 'echo behind; exit 5'`, "behind\n", "", 5},

	{"ours", "~#, ~^Z, fg and ~. under a shell", `mkfifo f; exec 4<>f; PS1='HERE> ' script -qfec "bash --norc --noprofile -i" o <f >/dev/null 2>&1 &
say() { printf "$1" >&4; until grep -q "$2" o; do sleep 0.05; done; }
say '' 'HERE>'; say "tucdesk ssh -t web 'PS1=FAR: bash --norc -i'\n" 'FAR:'; say '~#' 'no connections are'
say '~\032' Stopped; say 'echo $((40+2))here\n' 42here; say 'fg\necho $((1+1))far\r' 2far; printf '~.' >&4
until grep -q rc=255 o; do printf 'echo rc=$?\n' >&4; sleep 0.2; done; printf 'exit\n' >&4; wait $!; echo all`, "all\n", "", 0},

	{"ours", "forward: lines and a clean end", `tucdesk forward web $P1:127.0.0.1:$PORT >o & until grep -q "^session" o; do sleep 0.05; done; get $P1; kill -INT $!; wait $!; s=$?; grep -c "^#1 " o; tail -n 1 o; exit $s`, "there\n2\nended\n", "", 0},
	{"ours", "forward: JSON", `tucdesk forward --json web -D $P1 >o & until grep -q '"session"' o; do sleep 0.05; done; socks $P1 $PORT 5; until grep -q '"close"' o; do sleep 0.05; done; kill -INT $!; wait $!; grep -o '"type":"[a-z]*"' o | sort -u | tr '\n' ' '`, "there\n\"type\":\"close\" \"type\":\"end\" \"type\":\"listening\" \"type\":\"open\" \"type\":\"path\" \"type\":\"session\" ", "", 0},
	{"ours", "forward: what is refused ends it", `tucdesk forward closed $P1:127.0.0.1:$PORT >/dev/null`, "", "blocked by rule sealed", 253},

	{"ours", "exec: a command with dashes of its own", `tucdesk exec web -- printf '<%s>' -- a -- b`, "<--><a><--><b>", "", 0},
	{"ours", "exec: many machines", `tucdesk exec web,ro -- sh -c 'cat; echo here; exit 3' <"$BIG" 2>e | sort; grep -c "remote exit status 3" e`, "ro: here\nweb: here\n2\n", "", 0},
	{"ours", "exec: the highest status", `tucdesk exec --all --nowait -- true >/dev/null`, "", "prod     252", 252},
	{"ours", "exec: labels, files and copies of the input", `tucdesk exec zone=a --on ro --stdin --log-dir l cat <"$BIG"; cmp l/web.stdout "$BIG" && cmp l/ro.stdout "$BIG" && echo same; ls l | tr '\n' ' '`, "same\nro.stderr ro.stdout web.stderr web.stdout ", "2 machines, all ended with 0", 0},
	{"ours", "exec: JSON", `tucdesk exec --json zone=a -- echo hi | sed 's/"seconds":[^}]*/"seconds":0/'`, `{"schemaVersion":1,"type":"stdout","host":"web","text":"hi"}` + "\n" + `{"schemaVersion":1,"type":"exit","host":"web","status":0,"seconds":0}` + "\n" + `{"schemaVersion":1,"type":"summary","hosts":1,"failed":0,"status":0}` + "\n", "", 0},
	{"ours", "exec: a label's value alone", `tucdesk exec a -- true`, "", "exec takes a label in place of a name: zone=a", 255},
	{"ours", "exec: the same among names", `tucdesk exec web,a -- true`, "", "exec takes a label in place of a name: zone=a", 255},
	{"ours", "exec: a label that no machine has", `tucdesk exec zone=b true`, "", "no machine has the labels", 255},
}

// oursPrelude stops what -f has left behind, which a case's own folder in its
// environment tells from everybody else's, and starts an sshd for -J there, at $P1. One grep
// looks at all processes: one for each of them costs more than most cases.
const oursPrelude = `
stop() {
  local e p
  for e in $(grep -slzx "D=$D" /proc/[0-9]*/environ); do
    p=${e%/environ}
    grep -qszx -e --in-background $p/cmdline && kill ${p#/proc/}
  done
  true
}
trap stop EXIT
behind() {
  ssh-keygen -q -t ed25519 -N "" -f host; ssh-keygen -q -t ed25519 -N "" -f user
  printf 'HostKey %s/host\nAuthorizedKeysFile %s/user.pub\nListenAddress 127.0.0.1:%s\nStrictModes no\nUsePAM no\nPidFile none\n' "$D" "$D" $P1 >sshd_config
  ssh $H "mkdir -p /run/sshd; exec /usr/sbin/sshd -D -f $D/sshd_config" >/dev/null 2>&1 &
  until there ": </dev/tcp/127.0.0.1/$P1" 2>/dev/null; do sleep 0.05; done
}
`

// ours runs them on the team that the cases of OpenSSH have.
func (r *rig) ours(t *testing.T) {
	for _, c := range ours {
		t.Run(c.area+"/"+c.name, func(t *testing.T) {
			t.Parallel()
			needs(t, c.programs()...)
			c.script = oursPrelude + c.script
			r.check(t, c)
		})
	}
}
