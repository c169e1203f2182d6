package remote

import "flag"

// foreign is a letter of OpenSSH's that asks for what is not here. It is known all the
// same: whoever types it reads why, and what does it instead, and behind -J it is for
// the ssh of this computer.
type foreign struct {
	letter, long string
	takes        bool   // a value
	why, hint    string // why is "" for what is so anyway, or has no use in a sealed session: scripts pass it
}

const notAKeyFile = "who you are: tucdesk whoami; somebody else's state folder: --state DIR"

// foreigners are all of them, but for those that have a place in the help.
var foreigners = [...]foreign{
	{"s", "subsystem", false, "subsystems are for the programs of OpenSSH", "files: tucdesk cp; sftp as it is: tucdesk ssh-config --install, then sftp HOST.tucdesk"},
	{"X", "x11", false, "X11 is not forwarded", "a screen there by a port, as of VNC: tucdesk forward HOST 5901:localhost:5901"},
	{"Y", "x11-trusted", false, "X11 is not forwarded", "a screen there by a port, as of VNC: tucdesk forward HOST 5901:localhost:5901"},
	{"F", "config", true, "no file of ssh's options is read", "options with a meaning here are given by -o: tucdesk ssh --help; another state folder: --state DIR"},
	{"E", "log-file", true, "there is no file for messages", "they are on standard error: 2>FILE"},
	{"I", "pkcs11", true, "there are no keys of smart cards to choose from", notAKeyFile},
	{"K", "gssapi", false, "nobody logs in by GSSAPI", notAKeyFile},
	{"b", "bind-address", true, "a session finds its own ways, from every address", "which one it goes: -v, or tucdesk ping HOST; leave -b out"},
	{"B", "bind-interface", true, "a session finds its own ways, from every address", "which one it goes: -v, or tucdesk ping HOST; leave -B out"},
	{"w", "tunnel", true, "there are no tunnel devices", "a SOCKS proxy into the machine's network: -D 1080"},
	{"O", "control", true, "there is no ControlMaster to be told", "sessions on this computer: tucdesk status -d; forwards end with theirs"},
	{"P", "tag", true, "there are no tags of ssh's configuration", "options with a meaning here are given by -o: tucdesk ssh --help"},
	{"G", "print-config", false, "there is no configuration of ssh's to print", "what OpenSSH is told: tucdesk ssh-config"},
	{"y", "syslog", false, "nothing is sent to the system's log", "messages are on standard error: 2> >(logger)"},
	{"Q", "query", true, "nothing is chosen by name that could be listed: ciphers are the protocol's", "what ssh itself has: ssh -Q help"},
	{"V", "ssh-version", false, "this is no ssh that would have a version of its own", "tucdesk version"},
	{"4", "ipv4", false, "", ""},
	{"6", "ipv6", false, "", ""},
	{"C", "compress", false, "", ""},
	{"x", "no-x11", false, "", ""},
	{"a", "no-forward-agent", false, "", ""},
	{"k", "no-gssapi", false, "", ""},
	{"M", "master", false, "", ""},
	{"c", "cipher", true, "", ""},
	{"m", "mac", true, "", ""},
	{"S", "control-path", true, "", ""},
}

// given is a foreign letter as it was typed.
type given struct {
	foreign
	value string
}

// foreignFlag notes one in its list.
type foreignFlag struct {
	foreign
	to *[]given
}

// String is empty: there is no default.
func (f *foreignFlag) String() string { return "" }

// IsBoolFlag: some take no value.
func (f *foreignFlag) IsBoolFlag() bool { return !f.takes }

// Set notes that it was given.
func (f *foreignFlag) Set(value string) error {
	if f.takes || value == "true" { // --x11=false asks for nothing
		*f.to = append(*f.to, given{f.foreign, value})
	}
	return nil
}

// foreignFlags defines them; without a usage, help leaves them out.
func (o *sshOptions) foreignFlags(f *flag.FlagSet) {
	for _, letter := range foreigners {
		v := &foreignFlag{letter, &o.foreign}
		f.Var(v, letter.long, "")
		f.Var(v, letter.letter, "")
	}
}

// refuse is what is said of it.
func (g given) refuse() error {
	text := "-" + g.letter
	if g.takes {
		text += " " + g.value
	}
	return usage(g.hint, "%s: %s", text, g.why)
}

// words are it for ssh itself.
func (g given) words() []string {
	if g.takes {
		return []string{"-" + g.letter, g.value}
	}
	return []string{"-" + g.letter}
}
