package conformance

// testCase is a few lines of shell, what they print to standard output, a part of
// what they say on standard error, and their exit status.
type testCase struct {
	area, name string
	script     string
	out        string
	says       string
	status     int
}

const (
	commands = "Commands"
	terminal = "Terminals"
	masters  = "ControlMaster"
	forwards = "Forwards"
	files    = "scp and sftp"
	full     = "A disk that is full"
	walled   = "Folders of the policy"
	others   = "rsync, git and tar"
	tools    = "Ansible and sshfs"
	rootless = "An agent that is not root"
	refused  = "What is refused, and how"
)

var cases = []testCase{
	{commands, "exit status", `ssh $H 'exit 7'`, "", "", 7},
	{commands, "both streams apart", `ssh $H 'echo out; echo err >&2' 2>e; sed s/^/2:/ e`, "out\n2:err\n", "", 0},
	{commands, "death by a signal", `ssh $H 'kill -TERM $$'`, "", "", 255},
	{commands, "5 MB in, binary", `ssh $H cmp - "$BIG" <"$BIG" && echo same`, "same\n", "", 0},
	{commands, "5 MB out, binary", `ssh $H cat "$BIG" | cmp - "$BIG" && echo same`, "same\n", "", 0},
	{commands, "5 MB there and back", `ssh $H cat <"$BIG" | cmp - "$BIG" && echo same`, "same\n", "", 0},
	{commands, "data before the program reads", `ssh $H 'sleep 0.3; cat' <"$BIG" | cmp - "$BIG" && echo same`, "same\n", "", 0},
	{commands, "output after the end of input", `printf in | ssh $H 'cat; echo; echo after'`, "in\nafter\n", "", 0},
	{commands, "no input (-n)", `ssh -n $H 'cat; echo end'`, "end\n", "", 0},
	{commands, "a program that reads nothing", `head -c 3000000 /dev/zero | ssh $H 'exit 4'`, "", "", 4},
	{commands, "a reader that leaves", `ssh $H yes | head -n 1`, "y\n", "", 0},
	{commands, "the words as the shell reads them", `ssh $H printf '"%s|"' "'a  b'" '"$(echo c)"' '\;'`, "a  b|c|;|", "", 0},
	{commands, "30 kB of command", `ssh $H "true $(head -c 30000 /dev/zero | tr '\0' x); echo long"`, "long\n", "", 0},
	{commands, "a shell without a terminal (-T)", `echo 'echo from shell; exit 5' | ssh -T $H`, "from shell\n", "", 5},
	{commands, "variables that the policy allows (SendEnv)", `LC_TIME=de_DE ssh -o SendEnv=LC_TIME $H 'echo $LC_TIME'`, "de_DE\n", "", 0},
	{commands, "other variables stay here", `FOO=bar ssh -o SendEnv=FOO -o SetEnv=BAR=1 $H 'echo "<$FOO$BAR>"'`, "<>\n", "", 0},
	{commands, "to the background (-f)", `ssh -f $H 'sleep 0.2; echo late' >o; echo first; until test -s o; do sleep 0.05; done; cat o`, "first\nlate\n", "", 0},
	{commands, "what goes on there holds up nobody", `timeout 60 ssh -F "$CONF" $H 'sleep 300 >/dev/null 2>&1 </dev/null & echo started'`, "started\n", "", 0},
	{commands, "nohup: back at once, and it goes on", `p=$(timeout 60 ssh -F "$CONF" $H 'nohup sleep 300 >/dev/null 2>&1 </dev/null & echo $!'); sleep 3; kill $p && echo ran`, "ran\n", "", 0},
	{commands, "setsid, a daemon", `p=$(timeout 60 ssh -F "$CONF" $H 'setsid sh -c "echo \$\$; exec sleep 300" 2>&1 </dev/null | head -n 1'); sleep 3; kill $p && echo ran`, "ran\n", "", 0},
	{commands, "and without nohup it ends with its session", `p=$(ssh $H 'sleep 300 >/dev/null 2>&1 </dev/null & echo $!'); while kill -0 $p 2>/dev/null; do sleep 0.05; done; echo ended`, "ended\n", "", 0},
	{commands, "the agent's own user by name", `ssh @agent@$H 'echo here'`, "here\n", "", 0},

	{terminal, "a terminal (-tt)", `ssh -tt $H 'test -t 0 && test -t 1 && echo tty' </dev/null 2>/dev/null`, "tty\r\n", "", 0},
	{terminal, "none (-T)", `ssh -T $H 'test -t 0 || echo pipes'`, "pipes\n", "", 0},
	{terminal, "its type", `TERM=vt220 ssh -tt $H 'echo $TERM' </dev/null 2>/dev/null`, "vt220\r\n", "", 0},
	{terminal, "its size", `script -qec "stty rows 33 cols 99; command ssh -F $CONF -tt $H 'stty size' 2>/dev/null" /dev/null < <(sleep 60) | tail -n 1`, "33 99\r\n", "", 0},
	{terminal, "exit status", `ssh -tt $H 'exit 3' </dev/null 2>/dev/null`, "", "", 3},
	{terminal, "Ctrl-C", `mkfifo f; exec 4<>f; ssh -tt $H 'stty -echo; trap "echo int; exit 3" INT; echo ready; while :; do sleep 0.1; done' <f >o 2>/dev/null & until grep -q ready o; do sleep 0.05; done; printf '\003' >&4; wait $!; s=$?; tail -n 1 o; exit $s`, "int\r\n", "", 3},

	{masters, "eight programs at once", `master $H; for i in 1 2 3 4 5 6 7 8; do ssh -S m $H "sleep 0.2; echo $i" & done | sort | tr -d '\n'; wait`, "12345678", "", 0},
	{masters, "twenty open at once", `master $H; : >o; for i in $(seq 20); do ssh -S m $H "echo $i; until test -e $D/go; do sleep 0.5; done" >>o & until grep -q "^$i\$" o; do sleep 0.02; done; done; touch go; wait; sort -n o | tr '\n' ' '`, "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 ", "", 0},
	{masters, "Ctrl-C does not reach the one behind it", `trap : INT; ssh -S m -o ControlMaster=auto -o ControlPersist=60 $H 'echo first'; kill -INT 0; ssh -S m -O check x 2>&1 | sed 's/ (.*//'; ssh -S m $H 'echo second'`, "first\nMaster running\nsecond\n", "", 0},
	{masters, "exit status and streams", `master $H; ssh -S m $H 'echo out; exit 6'`, "out\n", "", 6},
	{masters, "check and exit", `master $H; ssh -S m -O check x 2>&1 | sed 's/ (.*//'; ssh -S m -O exit x 2>&1 | tr -d '\r'`, "Master running\nExit request sent.\n", "", 0},
	{masters, "a forward added and taken away", `master $H; ssh -S m -O forward -L $P1:127.0.0.1:$PORT x; get $P1; ssh -S m -O cancel -L $P1:127.0.0.1:$PORT x; (: </dev/tcp/127.0.0.1/$P1) 2>/dev/null || echo closed`, "there\nclosed\n", "", 0},
	{masters, "the first one makes it (auto, ControlPersist)", `for i in 1 2 3; do ssh -S m -o ControlMaster=auto -o ControlPersist=10 $H "echo $i"; done`, "1\n2\n3\n", "", 0},
	{masters, "a refusal is told, the others go on", `master $H; ssh -S m -s $H nosuch 2>/dev/null; ssh -S m $H 'echo on'`, "on\n", "", 0},

	{forwards, "-L", `master -L $P1:127.0.0.1:$PORT $H; get $P1`, "there\n", "", 0},
	{forwards, "-L by name", `master -L $P1:localhost:$PORT $H; get $P1`, "there\n", "", 0},
	{forwards, "-L, twenty at once", `master -L $P1:127.0.0.1:$PORT $H; for i in $(seq 20); do get $P1 & done | sort | uniq -c | tr -d ' '; wait`, "20there\n", "", 0},
	{forwards, "-R", `master -R $P1:127.0.0.1:$PORT $H; there get $P1`, "here\n", "", 0},
	{forwards, "-R to a port of its choice", `master -R 0:127.0.0.1:$PORT $H 2>e; there get $(sed -n 's/Allocated port \([0-9]*\) .*/\1/p' e)`, "here\n", "", 0},
	{forwards, "-R taken away", `master $H; ssh -S m -O forward -R $P1:127.0.0.1:$PORT x; there get $P1; ssh -S m -O cancel -R $P1:127.0.0.1:$PORT x; there "for i in \$(seq 1000); do (: </dev/tcp/127.0.0.1/$P1) 2>/dev/null || break; sleep 0.05; done; (: </dev/tcp/127.0.0.1/$P1) 2>/dev/null || echo closed"`, "here\nclosed\n", "", 0},
	{forwards, "-D, SOCKS5", `master -D $P1 $H; socks $P1 $PORT 5`, "there\n", "", 0},
	{forwards, "-D, SOCKS4", `master -D $P1 $H; socks $P1 $PORT 4`, "there\n", "", 0},
	{forwards, "-R as SOCKS", `master -R $P1 $H; there socks $P1 $PORT 5`, "here\n", "", 0},
	{forwards, "-W", `ssh -W 127.0.0.1:$PORT $H </dev/null | whose`, "there\n", "", 0},
	{forwards, "-L to a socket there", `master -L $P1:$SOCK $H; get $P1`, "there\n", "", 0},
	{forwards, "-L from a socket here", `master -L "$ROOTS/l.sock:127.0.0.1:$PORT" -L "$P1:$ROOTS/l.sock" $H; listens "$ROOTS/l.sock"; get $P1`, "here\nthere\n", "", 0},
	{forwards, "-R from a socket there", `master -R "$ROOTS/r.sock:127.0.0.1:$PORT" -L "$P1:$ROOTS/r.sock" $H; listens "$ROOTS/r.sock"; get $P1`, "there\nhere\n", "", 0},
	{forwards, "there and back through each other", `master -R $P2:127.0.0.1:$PORT -L $P1:127.0.0.1:$P2 $H; get $P1`, "here\n", "", 0},
	{forwards, "VS Code's flags", `(echo 'echo ready'; until test -e go; do sleep 0.05; done; echo 'exit 0') | ssh -T -D $P1 $H bash >o & until test -s o; do sleep 0.05; done; cat o; socks $P1 $PORT 5; touch go; wait`, "ready\nthere\n", "", 0},
	{forwards, "-A", `eval $(ssh-agent) >o; ssh-keygen -q -t ed25519 -N "" -C mine -f k; ssh-add -q k; ssh -A $H 'ssh-add -l | cut -d " " -f 3; ssh-add -l | cut -d " " -f 3'; ssh $H 'echo "<${SSH_AUTH_SOCK-}>"'; kill $SSH_AGENT_PID`, "mine\nmine\n<>\n", "", 0},
	{forwards, "-A behind a ControlMaster, on a terminal", `eval $(ssh-agent) >o; ssh-keygen -q -t ed25519 -N "" -C mine -f k; ssh-add -q k; master -A $H; ssh -S m -A -tt $H 'ssh-add -l | cut -d " " -f 3' </dev/null 2>/dev/null; kill $SSH_AGENT_PID`, "mine\n", "", 0},
	{forwards, "-J through a machine to somebody else's sshd", `mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N "" -f hk; ssh-keygen -q -t ed25519 -N "" -f id; printf '%s\n' "Port $P1" "ListenAddress 127.0.0.1" "HostKey $D/hk" "AuthorizedKeysFile $D/id.pub" "StrictModes no" "PidFile none" >sc
		ssh $H "exec /usr/sbin/sshd -D -f $D/sc" 2>/dev/null & until there ": </dev/tcp/127.0.0.1/$P1" 2>/dev/null; do sleep 0.05; done; ssh -J $H -i id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p $P1 root@127.0.0.1 'echo through'; kill %1`, "through\n", "", 0},
	{forwards, "-J through a machine to another one", `ssh -J ro.tucdesk $H 'echo there; exit 4'; s=$?; scp -J ro.tucdesk $H:"$BIG" x; cmp "$BIG" x && echo same; exit $s`, "there\nsame\n", "", 4},
	{forwards, "-J through two", `ssh -J ro.tucdesk,closed.tucdesk @agent@$H 'echo there'`, "there\n", "", 0},
	{forwards, "-J to a machine that is not there", `ssh -J ro.tucdesk nosuch.tucdesk id`, "", "not_found", 255},
	{forwards, "nothing listens there", `ssh -W 127.0.0.1:1 $H </dev/null`, "", "connection refused", 255},

	{files, "scp there", `scp "$BIG" $H:$D/x; cmp "$BIG" x && echo same`, "same\n", "", 0},
	{files, "scp back", `scp $H:"$BIG" x; cmp "$BIG" x && echo same`, "same\n", "", 0},
	{files, "scp, old protocol, there and back", `scp -O "$BIG" $H:$D/x; scp -O $H:$D/x y; cmp "$BIG" y && echo same`, "same\n", "", 0},
	{files, "scp -r", `mkdir -p a/b; echo 1 >a/b/c; echo 2 >a/d; scp -r a $H:$D/z; diff -r a z && echo same`, "same\n", "", 0},
	{files, "scp -p", `echo 1 >a; chmod 640 a; touch -d @1000000000 a; scp -p a $H:$D/b; stat -c '%a %Y' b`, "640 1000000000\n", "", 0},
	{files, "scp -3", `scp -3 $H:"$BIG" $H:$D/x; cmp "$BIG" x && echo same`, "same\n", "", 0},
	{files, "scp -3 between two machines", `scp -3 ro.tucdesk:"$BIG" $H:$D/x; cmp "$BIG" x && echo same; scp -3 $H:"$BIG" ro.tucdesk:$D/y || ls`, "same\nx\n", "ermission denied", 0},
	{files, "names with spaces", `echo 1 >'a  b'; scp 'a  b' "$H:$D/c  d"; cat 'c  d'`, "1\n", "", 0},
	{files, "patterns", `touch x1 x2 y; mkdir to; scp "$H:$D/x*" to/; ls to`, "x1\nx2\n", "", 0},
	{files, "what is not there", `scp $H:$D/none x`, "", "No such file or directory", 1},
	{files, "sftp in a batch", `printf 'cd %s\nput %s x\nmkdir d\nrename x d/y\nchmod 600 d/y\nsymlink d/y l\nln d/y h\nget d/y z\nrm h\n' "$D" "$BIG" >b; sftp -b b $H >/dev/null; cmp "$BIG" z && readlink l && stat -c %a d/y && ls`, "d/y\n600\nb\nd\nl\nz\n", "", 0},
	{files, "sftp goes on with half a file", `head -c 2000000 "$BIG" >x; printf 'reget %s x\n' "$BIG" | sftp -b - $H >/dev/null; cmp "$BIG" x; head -c 2000000 "$BIG" >y; printf 'reput %s %s/y\n' "$BIG" "$D" | sftp -b - $H >/dev/null; cmp "$BIG" y && echo same`, "same\n", "", 0},
	{files, "sftp -r", `mkdir -p a/b; echo 1 >a/b/c; printf 'put -r a %s/z\nget -r %s/z w\n' "$D" "$D" | sftp -b - $H >/dev/null; diff -r a w && echo same`, "same\n", "", 0},
	{files, "sftp put -f brings it to the disk", `printf 'put -f %s %s/x\n' "$BIG" "$D" >b; sftp -vv -b b $H 2>e >/dev/null; cmp "$BIG" x && grep -c 'fsync@openssh.com)' e`, "1\n", "", 0},
	{files, "sftp rename over what is there, hard links", `echo 1 >a; echo 2 >b; printf 'cd %s\nrename a b\nln b c\n' "$D" | sftp -b - $H >/dev/null; cat b; stat -c %h c`, "1\n2\n", "", 0},
	{files, "large reads and writes", `printf 'get %s x\nput x %s/y\n' "$BIG" "$D" >b; sftp -vvv -b b $H 2>e >/dev/null; grep -o 'Received data 0 -> 261119' e; cmp "$BIG" y && echo same`, "Received data 0 -> 261119\nsame\n", "", 0},
	{files, "the home of somebody else", `scp "$H:~nobody/x" y`, "", "homes of other users are not told", 1},
	{files, "free space", `printf 'df %s\n' "$D" | sftp -b - $H | grep -c Avail`, "1\n", "", 0},

	{full, "tucdesk cp, when it can be known before", `echo old >$SMALL/a; tucdesk cp "$BIG" web:$SMALL/a; s=$?; cat $SMALL/a; ls -A $SMALL | grep -c part; exit $s`, "old\n0\n", "no_space", 1},
	{full, "tucdesk cp of a stream", `echo old >$SMALL/b; tucdesk cp - web:$SMALL/b <"$BIG"; s=$?; cat $SMALL/b; ls -A $SMALL | grep -c part; exit $s`, "old\n0\n", "no space left on device", 1},
	{full, "scp", `echo old >$SMALL/c; scp "$BIG" $H:$SMALL/c; s=$?; cmp -n 1000 "$BIG" $SMALL/c && echo torn; rm $SMALL/c; exit $s`, "torn\n", "write remote", 1},
	{full, "sftp put", `printf 'put %s %s/d\n' "$BIG" $SMALL | sftp -b - $H >/dev/null; s=$?; cmp -n 1000 "$BIG" $SMALL/d && echo torn; rm $SMALL/d; exit $s`, "torn\n", "write remote", 1},

	{walled, "sftp reads in its folders", `mkdir -p "$ROOTS/out/s"; echo data >"$ROOTS/out/s/f"; printf 'cd s\nls\nget f\n' | sftp -b - walled.tucdesk | grep -v '>'; cat f`, "f  \ndata\n", "", 0},
	{walled, "and nowhere else", `printf -- '-get /etc/passwd\n-ls /etc\n-get %s/out/../big\n' "$ROOTS" | sftp -b - walled.tucdesk >/dev/null; ls`, "", "", 0},
	{walled, "scp into a folder that is written only", `echo 1 >f; scp f "walled.tucdesk:$ROOTS/in/" && cat "$ROOTS/in/f"; scp "walled.tucdesk:$ROOTS/in/f" g; ls`, "1\nf\n", "No such file", 0},
	{walled, "no writing where files are only read", `echo 1 >f; scp f "walled.tucdesk:$ROOTS/out/new" || ls "$ROOTS/out/new" 2>&1 | grep -c 'No such'`, "1\n", "Permission denied", 0},
	{walled, "tucdesk cp keeps to the same", `tucdesk cp walled:/etc/passwd x; ls`, "", "policy_denied", 0},

	{others, "rsync there", `mkdir a; cp "$BIG" a/x; echo 1 >a/y; rsync -a a/ $H:$D/b/; diff -r a b && echo same`, "same\n", "", 0},
	{others, "rsync back", `mkdir a; cp "$BIG" a/x; rsync -a $H:$D/a/ b/; diff -r a b && echo same`, "same\n", "", 0},
	{others, "rsync --delete, compressed", `mkdir a b; echo 1 >a/y; echo old >b/gone; rsync -az --delete a/ $H:$D/b/; ls b`, "y\n", "", 0},
	{others, "rsync goes on with half a file", `mkdir b; head -c 2000000 "$BIG" >b/big; rsync -a --append-verify "$BIG" $H:$D/b/; cmp "$BIG" b/big && echo same`, "same\n", "", 0},
	{others, "rsync --partial goes on after it was killed", `mkdir a b; cp "$BIG" a/x; rsync --partial --bwlimit=500 a/x $H:$D/b/ 2>/dev/null & until test -n "$(find b -name '.x.*' -size +100k)"; do sleep 0.05; done; kill %1; wait; until test -s b/x; do sleep 0.05; done; rsync --partial --stats a/x $H:$D/b/ | grep -c 'Matched data: [1-9]'; cmp a/x b/x && echo same`, "1\nsame\n", "", 0},
	{others, "rsync that fails says so", `rsync -a $H:$D/none/ b/`, "", "No such file or directory", 23},
	{others, "git clone", `git init -q r; git -C r commit -q --allow-empty -m one; git clone -q $H:$D/r c; git -C c log --format=%s`, "one\n", "", 0},
	{others, "git push and fetch", `git init -q --bare -b main r; git init -q -b main w; cp "$BIG" w/f; git -C w add f; git -C w commit -qm two; git -C w push -q $H:$D/r main; git init -q f; git -C f fetch -q $H:$D/r main; git -C f log --format=%s FETCH_HEAD`, "two\n", "", 0},
	{others, "git with a URL", `git init -q r; git -C r commit -q --allow-empty -m one; git ls-remote ssh://$H$D/r HEAD | cut -f 2`, "HEAD\n", "", 0},
	{others, "tar through a pipe", `mkdir a; cp "$BIG" a/x; tar c a | ssh $H "mkdir $D/b && tar x -C $D/b"; diff -r a b/a && echo same`, "same\n", "", 0},

	{tools, "Ansible, pipelined", `ANSIBLE_PIPELINING=1 play -m ping -o | grep -o SUCCESS`, "SUCCESS\n", "", 0},
	{tools, "Ansible copies a file", `play -m copy -a "src=$BIG dest=$D/x" -o | grep -o CHANGED; cmp "$BIG" x && echo same`, "CHANGED\nsame\n", "", 0},
	{tools, "Ansible, become", `play -b --become-method su --become-user nobody -e 'ansible_become_flags="-s /bin/sh"' -m command -a 'id -un' | tail -n 1`, "nobody\n", "", 0},
	{tools, "Ansible, become by sudo with a password", `printf %s "$PASSWORD" >w; H=plain.tucdesk play -b --become-method sudo --become-password-file w -e ansible_remote_tmp="$PLAIN/tmp" -m command -a 'id -un' | tail -n 1`, "root\n", "", 0},
	{tools, "and a wrong one", `echo wrong >w; H=plain.tucdesk play -b --become-method sudo --become-password-file w -e ansible_remote_tmp="$PLAIN/tmp" -m command -a 'id -un' | grep -o 'Incorrect sudo password' | head -n 1`, "Incorrect sudo password\n", "", 0},
	{tools, "Ansible, async, looked at until it has ended", `play -B 60 -P 1 -m shell -a 'sleep 2; echo done' | grep -o '"stdout": "done"'`, "\"stdout\": \"done\"\n", "", 0},
	{tools, "Ansible, async, left alone and asked for later", `j=$(play -B 60 -P 0 -m shell -a 'sleep 2; echo done' | grep -o 'ansible_job_id": "[^"]*' | cut -d '"' -f 3); until play -m async_status -a "jid=$j" >o && grep -q '"finished": 1' o; do sleep 0.2; done; grep -o '"stdout": "done"' o`, "\"stdout\": \"done\"\n", "", 0},
	{tools, "sshfs", `mkdir a m; sshfs -F "$CONF" -o BatchMode=yes $H:$D/a m; cp "$BIG" m/x; mv m/x m/y; mkdir m/d; chmod 600 m/y; ln -s y m/l; cmp "$BIG" m/l && ls m; fusermount3 -u m; stat -c %a a/y`, "d\nl\ny\n600\n", "", 0},

	{rootless, "runs programs as its own user", `tucdesk exec plain -- id -un`, "nobody\n", "", 0},
	{rootless, "and as nobody else", `tucdesk exec --user root plain -- id; echo $?; ssh nosuchuser@plain.tucdesk id`, "253\n", "user_not_allowed", 253},
	{rootless, "sudo asks for a password on the terminal, and shows none of it", `mkfifo f; exec 4<>f; ssh -tt plain.tucdesk 'sudo -p password? id -un' <f >o 2>/dev/null & until grep -q password? o; do sleep 0.05; done; printf '%s\n' "$PASSWORD" >&4; wait $!; tail -n 1 o; grep -c "$PASSWORD" o`, "root\r\n0\n", "", 1},
	{rootless, "sftp, as its own user", `printf 'cd %s\nput %s x\nls -ln x\n-put %s /x\n' "$PLAIN" "$BIG" "$BIG" | sftp -b - plain.tucdesk | grep -o '65534.*5000000'; cmp "$BIG" "$PLAIN/x" && echo same`, "65534    65534     5000000\nsame\n", "ermission denied", 0},
	{rootless, "tucdesk cp, as its own user", `tucdesk cp "$BIG" plain:$PLAIN/y; cmp "$BIG" "$PLAIN/y" && echo same; tucdesk cp "$BIG" plain:/x`, "same\n", "file_denied", 1},
	{rootless, "forwards", `ssh -W 127.0.0.1:$PORT plain.tucdesk </dev/null | whose`, "there\n", "", 0},
	{rootless, "programs in the background", `tucdesk exec plain -- sh -c 'setsid sleep 300 >/dev/null 2>&1 </dev/null & sleep 0.3; echo $!' >p; sleep 3; kill $(cat p) && echo ran`, "ran\n", "", 0},

	{refused, "another user than the policy lets in", `ssh nobody@$H id`, "", "user_not_allowed", 253},
	{refused, "a machine that is not there", `ssh nosuch.tucdesk id`, "", "not_found", 255},
	{refused, "an approval is waited for, and says so", `ssh prod.tucdesk id 2>e & until grep -q "tucdesk requests approve" e; do sleep 0.05; done; cat e >&2; echo waits`, "waits\n", "waits for an approval", 0},
	{refused, "so is one for -R, and ssh stays", `ssh -o ServerAliveInterval=1 -o ServerAliveCountMax=6 -N -R $P1:127.0.0.1:$PORT prod.tucdesk 2>/dev/null & sleep 9; kill -0 %1 && echo waits; kill %1`, "waits\n", "", 0},
	{refused, "programs that outlive their session, where a rule blocks that", `p=$(ssh closed.tucdesk 'setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $!'); while kill -0 $p 2>/dev/null; do sleep 0.05; done; echo ended`, "ended\n", "", 0},
	{refused, "more of a command than fits", `ssh $H "true $(head -c 60000 /dev/zero | tr '\0' x)"`, "", "30,000 bytes", 1},
	{refused, "mosh, which wants a way of its own", `mosh --ssh="ssh -F $CONF -o BatchMode=yes" $H true </dev/null >/dev/null`, "", "Did not find remote IP address", 10},
	{refused, "mosh that asks the machine for its address", `mosh --experimental-remote-ip=remote --ssh="ssh -F $CONF -o BatchMode=yes" $H true </dev/null | grep -o 'mosh needs a port of its own'`, "mosh needs a port of its own\n", "Did not find remote IP address", 0},
	{refused, "a forward that a rule blocks", `ssh -W 127.0.0.1:$PORT closed.tucdesk </dev/null`, "", "blocked by rule sealed", 255},
	{refused, "an agent that a rule keeps here", `eval $(ssh-agent) >o; ssh -A closed.tucdesk 'echo "runs <${SSH_AUTH_SOCK-}>"'; kill $SSH_AGENT_PID`, "runs <>\n", "the SSH agent is not lent: policy_denied: blocked by rule sealed", 0},
	{refused, "a copy within the machine over sftp", `printf -- '-cp %s %s/x\n' "$BIG" "$D" | sftp -b - $H >/dev/null; ls`, "", "does not support copy-data", 0},
	{refused, "files where no rule has them", `sftp -b /dev/null closed.tucdesk`, "", "no allow rule", 255},
	{refused, "writing where files are only read", `scp ro.tucdesk:"$BIG" x && cmp "$BIG" x && echo read; scp x ro.tucdesk:$D/y || ls`, "read\nx\n", "", 0},
	{refused, "cloud metadata", `ssh -W 169.254.169.254:80 $H </dev/null`, "", "no forward goes to cloud metadata", 255},
	{refused, "sockets that no rule names", `master -L "$P1:/run/dbus/system_bus_socket" $H; cat </dev/tcp/127.0.0.1/$P1; ssh -S m -O check x 2>&1 | sed 's/ (.*//'`, "Master running\n", "no forward goes to a socket", 0},
	{refused, "listening beyond loopback", `ssh -o ExitOnForwardFailure=yes -N -R 0.0.0.0:$P1:127.0.0.1:$PORT $H`, "", "listens on localhost unless a rule names", 255},
	{refused, "an unknown subsystem", `ssh -s $H nosuch`, "", "sftp is the only one", 1},
}
