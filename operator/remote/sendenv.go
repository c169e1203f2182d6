package remote

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// sendEnv reads -o SendEnv: patterns of names, and those behind a dash that take back
// what stands before.
func (o *sshOptions) sendEnv(text string) error {
	for _, word := range strings.Fields(text) {
		if gone, ok := strings.CutPrefix(word, "-"); ok {
			o.sent = slices.DeleteFunc(o.sent, func(p string) bool { return matches(gone, p) })
			continue
		}
		o.sent = append(o.sent, word)
	}
	return nil
}

// matches compares a name with a pattern of ssh's, whose only special characters are
// the star and the question mark.
func matches(pattern, name string) bool {
	is, err := path.Match(strings.NewReplacer(`\`, `\\`, `[`, `\[`).Replace(pattern), name)
	return err == nil && is
}

// variables are those of environ, "NAME=VALUE", that -o SendEnv names. What the policy
// does not allow is left out in silence, as sshd's AcceptEnv does it: people name whole
// families of variables, and programs such as git name theirs unasked. What was set by
// --env or -o SetEnv counts more, and is refused by name where it is not allowed.
func (o *sshOptions) variables(environ []string, allowed func(name string) bool, set []wire.EnvVar) []wire.EnvVar {
	list := set
	for _, text := range environ {
		name, value, _ := strings.Cut(text, "=")
		if !slices.ContainsFunc(o.sent, func(p string) bool { return matches(p, name) }) || !allowed(name) {
			continue
		}
		if !slices.ContainsFunc(list, func(v wire.EnvVar) bool { return v.Name == name }) {
			list = append(list, wire.EnvVar{Name: name, Value: wire.Bytes(value)})
		}
	}
	return list
}

// nameVariables adds to err, by which a request was denied for its variables, those that
// the policy does not allow. Here they are our own words; a denial repeats nothing of a
// request, so that nothing that a peer wrote is printed or logged.
func nameVariables(err error, rules *policy.Rules, env []wire.EnvVar) error {
	if refusal.Of(err) != refusal.EnvNotAllowed || rules == nil {
		return err
	}
	var names []string
	for _, v := range env {
		if !rules.EnvAllowed(v.Name) {
			names = append(names, strconv.Quote(v.Name))
		}
	}
	if len(names) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(names, ", "))
}

// addSent adds them by the policy as it was seen last: the machine judges them by its
// own, like every other.
func (o *sshOptions) addSent(p *wire.Params) error {
	if len(o.sent) == 0 {
		return nil
	}
	a, err := o.OpenAccount()
	if err != nil {
		return err
	}
	defer a.Close()
	if a.Rules != nil {
		p.Env = o.variables(os.Environ(), a.Rules.EnvAllowed, p.Env)
	}
	return nil
}
