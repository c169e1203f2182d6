package remote

import (
	"flag"
	"slices"
	"strconv"
	"strings"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/forward"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// sshOptions are the flags of ssh: OpenSSH's letters, and what only we have.
type sshOptions struct {
	sessionOptions
	forwardFlags
	set verb.ListFlag // -o

	noCommand, background, noStdin, quiet bool
	agent                                 bool
	keep                                  string // --name
	stdio, jump, port, escape             string
	identity                              verb.ListFlag
	foreign                               []given
	inBackground                          bool // this is the process that -f has started

	// By -o alone.
	exitOnFailure, unlink bool
	command               string
	sent                  []string       // patterns of SendEnv
	config                []forward.Spec // LocalForward and so on
}

func (o *sshOptions) flags(f *flag.FlagSet) {
	o.sessionFlags(f)
	o.forwardFlags.flags(f)
	both := func(v *bool, long, letter, usage string) {
		f.BoolVar(v, long, false, usage)
		f.BoolVar(v, letter, false, "")
	}
	both(&o.noCommand, "no-command", "N", "run nothing: only forward")
	both(&o.background, "background", "f", "go to the background once the session stands; standard input is empty")
	both(&o.noStdin, "no-stdin", "n", "standard input is empty")
	both(&o.quiet, "quiet", "q", "say nothing about forwards that do not work")
	both(&o.agent, "forward-agent", "A", "lend the program your SSH agent, where the policy has forward-agent")
	f.StringVar(&o.keep, "name", "", "keep the shell as `NAME`: it goes on when the session ends, and comes back by the same or by tucdesk attach NAME")
	text := func(v flag.Value, long, letter, usage string) {
		f.Var(v, long, usage)
		f.Var(v, letter, "")
	}
	text(&o.set, "option", "o", "`NAME=VALUE` as in ssh_config: an option that has a meaning here; see above")
	text(&o.identity, "identity", "i", "refused: who you are is in the state folder: `FILE`")
	for _, s := range []struct {
		v                   *string
		long, letter, usage string
	}{
		{&o.stdio, "stdio", "W", "connect standard input and output to `HOST:PORT`, as the machine sees it, or to a socket there"},
		{&o.jump, "jump", "J", "HOST is no machine of the team: reach its sshd through the machine `JUMP`, with the ssh of this computer"},
		{&o.port, "port", "p", "refused unless 22, or with -J: a machine is reached by its name: `PORT`"},
		{&o.escape, "escape", "e", "`character` of the escapes in place of ~, as ^B or none"},
	} {
		f.StringVar(s.v, s.long, "", s.usage)
		f.StringVar(s.v, s.letter, "", "")
	}
	f.BoolVar(&o.inBackground, backgroundFlag, false, "")
	o.foreignFlags(f)
}

// backgroundFlag tells a process that it is the one in the background.
const backgroundFlag = "in-background"

// ignored are options of ssh_config that change nothing here. The machine is always
// checked by the team's roster, the session watches its own paths, and ciphers are
// the protocol's.
var ignored = []string{
	"addkeystoagent", "addressfamily", "batchmode", "canonicalizehostname", "checkhostip", "ciphers", "compression", "connectionattempts", "connecttimeout",
	"controlmaster", "controlpath", "controlpersist", "enableescapecommandline", "fingerprinthash", "forwardx11", "forwardx11trusted", "globalknownhostsfile",
	"gssapiauthentication", "hashknownhosts", "hostbasedauthentication", "hostkeyalgorithms", "hostkeyalias", "identitiesonly", "ipqos", "kbdinteractiveauthentication",
	"kexalgorithms", "loglevel", "macs", "numberofpasswordprompts", "obscurekeystroketiming", "passwordauthentication", "preferredauthentications", "pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes", "pubkeyauthentication",
	"rekeylimit", "serveralivecountmax", "serveraliveinterval", "streamlocalbindmask", "stricthostkeychecking", "tcpkeepalive", "updatehostkeys", "userknownhostsfile", "verifyhostkeydns", "visualhostkey",
}

func usage(hint, format string, args ...any) error {
	e := &cli.Error{Err: refusal.New(refusal.BadArgument, format, args...), Exit: cli.ExitUsage}
	if hint != "" {
		e.Hints = []string{hint}
	}
	return e
}

// settle reads -o and refuses by name what cannot be done.
func (o *sshOptions) settle() error {
	for _, text := range o.set {
		if err := o.setOption(text); err != nil {
			return err
		}
	}
	if o.jump != "" {
		return nil // OpenSSH's business, unless HOST is a machine of the team
	}
	return o.settleOurs()
}

// settleOurs refuses what the ssh of this computer would have had a meaning for.
func (o *sshOptions) settleOurs() error {
	refused := slices.IndexFunc(o.foreign, func(g given) bool { return g.why != "" })
	switch {
	case len(o.identity) > 0:
		return usage(notAKeyFile, "-i: there are no key files to choose from")
	case refused >= 0:
		return o.foreign[refused].refuse()
	case o.port != "" && o.port != "22":
		return &cli.Error{Err: refusal.New(refusal.BadArgument, "-p %s: a machine is reached by its name, not by an address and a port", o.port), Exit: cli.ExitUsage, Hints: []string{
			"tucdesk ls shows the names; leave -p out", "an sshd that listens there at that port: tucdesk ssh -J HOST -p " + o.port + " localhost"}}
	case o.noCommand && o.stdio != "":
		return usage("", "-N and -W at once")
	}
	return nil
}

// setOption reads one -o, "NAME=VALUE" or "NAME VALUE".
func (o *sshOptions) setOption(text string) error {
	at := strings.IndexAny(text, "= \t")
	if at < 1 {
		return usage("-o NAME=VALUE", "-o %q", text)
	}
	name, value := strings.ToLower(text[:at]), strings.Trim(strings.TrimLeft(text[at:], "= \t"), `"`)
	if slices.Contains(ignored, name) {
		return nil
	}
	if set, ok := o.texts()[name]; ok {
		return set(value)
	}
	v, ok := o.switches()[name]
	if !ok {
		return usage("options with a meaning here: tucdesk ssh --help", "-o %s: not an option that tucdesk ssh knows", text[:at])
	}
	switch strings.ToLower(value) {
	case "yes", "true":
		*v = true
	case "no", "false":
		*v = false
	default:
		return usage("", "-o %s: %q is neither yes nor no", text[:at], value)
	}
	return nil
}

// switches are the options that are yes or no.
func (o *sshOptions) switches() map[string]*bool {
	return map[string]*bool{
		"exitonforwardfailure": &o.exitOnFailure, "gatewayports": &o.gateway, "streamlocalbindunlink": &o.unlink,
		"forwardagent": &o.agent, "forkafterauthentication": &o.background, "stdinnull": &o.noStdin,
	}
}

// texts are the others. As with ssh, what stands first counts.
func (o *sshOptions) texts() map[string]func(string) error {
	first := func(v *string) func(string) error {
		return func(text string) error {
			if *v == "" {
				*v = text
			}
			return nil
		}
	}
	forwardOf := func(way forward.Way) func(string) error {
		return func(text string) error {
			s, err := forward.Parse(way, strings.Join(strings.Fields(text), ":"))
			if err != nil {
				return &cli.Error{Err: err, Exit: cli.ExitUsage}
			}
			o.config = append(o.config, s)
			return nil
		}
	}
	return map[string]func(string) error{
		"user": first(&o.user), "port": first(&o.port), "escapechar": first(&o.escape), "proxyjump": first(&o.jump), "remotecommand": first(&o.command),
		"identityfile": o.identity.Set, "setenv": o.env.Set, "sendenv": o.sendEnv,
		"localforward": forwardOf(forward.Local), "remoteforward": forwardOf(forward.Remote), "dynamicforward": forwardOf(forward.Dynamic),
		"requesttty": o.requestTTY, "sessiontype": o.sessionType,
		"proxycommand": func(text string) error {
			if strings.EqualFold(text, "none") {
				return nil
			}
			return usage("ssh itself takes it, with: tucdesk ssh-config --install", "-o ProxyCommand: tucdesk finds its own way")
		},
	}
}

func (o *sshOptions) requestTTY(text string) error {
	switch strings.ToLower(text) {
	case "no":
		o.noTTY = true
	case "yes":
		o.tty = max(o.tty, 1)
	case "force":
		o.tty = 2
	case "auto":
	default:
		return usage("", "-o RequestTTY: %q is none of no, yes, force, auto", text)
	}
	return nil
}

func (o *sshOptions) sessionType(text string) error {
	switch strings.ToLower(text) {
	case "none":
		o.noCommand = true
	case "default":
	default:
		return usage("", "-o SessionType: %q is neither none nor default", text)
	}
	return nil
}

// allSpecs are the forwards of the letters and of -o.
func (o *sshOptions) allSpecs() ([]forward.Spec, error) {
	list, err := o.specs()
	return append(list, o.config...), err
}

// escapeChar is the character of the escapes, 0 for none.
func (o *sshOptions) escapeChar() (byte, error) {
	switch e := o.escape; {
	case e == "":
		return '~', nil
	case e == "none":
		return 0, nil
	case len(e) == 1:
		return e[0], nil
	case len(e) == 2 && e[0] == '^' && e[1] >= '@' && e[1] <= 'z':
		return e[1] & 31, nil
	}
	return 0, usage("-e CHARACTER, -e ^CHARACTER or -e none", "-e %q", o.escape)
}

// count is a flag that says more when it is given again.
type count int

// String is how often it was given.
func (c *count) String() string { return strconv.Itoa(int(*c)) }

// Type has the help show a switch, not a value of this type.
func (c *count) Type() string { return "bool" }

// IsBoolFlag: it takes no value.
func (c *count) IsBoolFlag() bool { return true }

// Set counts.
func (c *count) Set(v string) error {
	if v == "true" {
		*c++
	} else {
		*c = 0
	}
	return nil
}
