package agent

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/wire"
)

// typing tries to put a character into the input of each terminal that it is given (TIOCSTI):
// as it is, and as the leader of a new session that first asks for the terminal (TIOCSCTTY,
// by force). It says what became of each.
const typing = `
use POSIX;
sub try {
	my ($tty, $take) = @_;
	return "open: $!" unless sysopen(my $f, $tty, O_RDWR);
	ioctl($f, 0x540E, 1) if $take;
	my $c = "x";
	return ioctl($f, 0x5412, $c) ? "typed" : $!;
}
$| = 1;
print "$_ ", try($_, 0), "\n" for @ARGV;
if (fork) { wait; print "done\n"; exit }
POSIX::setsid();
print "again $_ ", try($_, 1), "\n" for @ARGV;
`

// terminalOf is the terminal of a seat whose program says its process id.
func terminalOf(t *testing.T, s *seat) string {
	t.Helper()
	return must(os.Readlink(fmt.Sprintf("/proc/%d/fd/0", pidIn(t, s))))
}

// text is all that was shown so far.
func (s *seat) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// What a session types goes to its own terminal: not to another one of the same user, which it
// may open, nor to root's, which it may not. The first is refused to whoever has not the
// rights of root, so this fails as well where those are not dropped.
func TestH10NothingIsTypedIntoAnotherTerminal(t *testing.T) {
	t.Parallel()
	if !inside(t, "perl") {
		return
	}
	k := newTeam(t, loginPolicy)
	k.startRelay()
	a := k.agent()
	sit := func(user, line string) *seat {
		return k.mustSit(a, func(r *wire.Request) {
			argv(line)(r)
			r.Action, r.Params.TTY, r.Params.User = wire.Shell, true, user
		})
	}
	const waits = "echo pid $$; read x; echo got $x"
	same, root := sit(loginUser, waits), sit("", waits)
	sameTTY, rootTTY := terminalOf(t, same), terminalOf(t, root)

	s := sit(loginUser, "exec perl -e '"+typing+"' "+strings.Join([]string{"/dev/tty", sameTTY, rootTTY}, " "))
	s.shows("done\r\n")
	said := strings.ReplaceAll(s.text(), "\r", "")
	if !strings.Contains(said, "/dev/tty typed\n") {
		t.Skipf("this kernel lets nobody without root's rights type for others, which it does with sysctl dev.tty.legacy_tiocsti=1: %q", said)
	}
	for _, want := range []string{
		sameTTY + " Operation not permitted\n", rootTTY + " open: Permission denied\n",
		"again " + sameTTY + " Operation not permitted\n", "again " + rootTTY + " open: Permission denied\n",
	} {
		if !strings.Contains("\n"+said, "\n"+want) {
			t.Errorf("no %q in %q", want, said)
		}
	}
	for _, victim := range []*seat{same, root} {
		victim.types("mine\n")
		victim.shows("got mine\r\n")
	}
}
