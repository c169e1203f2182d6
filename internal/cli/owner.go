package cli

import (
	"fmt"
	"os"
	"runtime"

	"github.com/tucdesk/tucdesk/internal/terminal"
)

// AsOwner is command as it has to be typed where the state folder dir is another
// user's, a service's most often; "" where dir is the caller's own or its owner has no
// name. To give the folder to root instead, which a file's message alone would suggest,
// takes it away from the service.
func AsOwner(dir, command string) string {
	name, own := ownerOf(dir)
	if own || name == "" {
		return ""
	}
	become := "sudo -u " + name
	if os.Geteuid() == 0 && runtime.GOOS == "linux" { // where sudo is not always installed
		become = "runuser -u " + name + " --"
	}
	return fmt.Sprintf("the folder is of the user %s, who has to run this: %s %s", name, become, command)
}

// GiveBack is what root types so that everything in dir, the caller's own folder, is the
// caller's: somebody ran the program as another user there. It is "" where dir is another's.
func GiveBack(dir string) string {
	name, own := ownerOf(dir)
	if !own || name == "" {
		return ""
	}
	return fmt.Sprintf("a file there is of another user, as after a start as root; as root: chown -R %s %s", name, terminal.Quote([]byte(dir)))
}
