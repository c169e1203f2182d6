package process

import (
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Limits of one addition to the environment, our choice.
const (
	maxEnvName  = 128
	maxEnvValue = 32 << 10
)

// fixed are the names that only the agent sets.
var fixed = []string{"HOME", "USER", "LOGNAME", "SHELL", "PATH", "PWD", "OLDPWD", "MAIL", "SSH_CLIENT", "SSH_CONNECTION", ttyName}

// ttyName is the variable with the terminal's path. Start adds it, who makes the terminal.
const ttyName = "SSH_TTY"

// Variable is one addition to the environment.
type Variable struct{ Name, Value string }

// CheckVariables refuses with EnvNotAllowed additions that Environment would refuse.
// Which names may be added is the policy's; a name that is no name, that only the
// agent sets, or that comes twice is refused, whatever the policy says (attack E8).
func CheckVariables(additions []Variable) error {
	names := slices.Concat(fixed, reserved)
	for _, v := range additions {
		if !validName(v.Name) || len(v.Value) > maxEnvValue || strings.ContainsRune(v.Value, 0) || index(names, v.Name) >= 0 {
			return refusal.New(refusal.EnvNotAllowed, "an environment variable is misspelt, set twice, or set by the agent alone")
		}
		names = append(names, v.Name)
	}
	return nil
}

// Environment is what a program of account gets: the fixed base, what this system
// gives to everybody who logs in, what says that it runs for somebody elsewhere, TERM
// when term is not "", and the additions, which were signed and count more than the
// system's. Nothing of this process' own environment is in it. Its error is that of
// CheckVariables.
func Environment(a Account, term string, additions []Variable) ([]string, error) {
	return environment("/", a, term, additions)
}

func environment(s system, a Account, term string, additions []Variable) ([]string, error) {
	if err := CheckVariables(additions); err != nil {
		return nil, err
	}
	all := map[string]string{"PATH": searchPath(), "LANG": "C.UTF-8"}
	order := []string{"HOME", "USER", "LOGNAME", "SHELL", "PATH"}
	set := func(name, value string) {
		if i := index(order, name); i >= 0 {
			name = order[i]
		} else {
			order = append(order, name)
		}
		all[name] = value
	}
	for _, v := range s.loginVariables(a.UID == 0) {
		if sameName(v.Name, "PATH") || index(fixed, v.Name) < 0 {
			set(v.Name, v.Value)
		}
	}
	all["HOME"], all["USER"], all["LOGNAME"], all["SHELL"] = a.Home, a.Name, a.Name, a.Shell
	for _, v := range elsewhere {
		set(v.Name, v.Value)
	}
	if term != "" {
		set("TERM", term)
	}
	for _, v := range additions {
		set(v.Name, v.Value)
	}
	if !slices.Contains(order, "LANG") {
		order = append(order, "LANG")
	}
	env := make([]string, 0, len(order))
	for _, name := range order {
		env = append(env, name+"="+all[name])
	}
	return env, nil
}

// index is where names have name, or -1.
func index(names []string, name string) int {
	return slices.IndexFunc(names, func(n string) bool { return sameName(n, name) })
}

// Underlay adds to additions the variables of an environment that a PAM session gave.
// What is fixed, or is in additions, does not count.
func Underlay(additions []Variable, environ []string) []Variable {
	names := slices.Clone(fixed)
	for _, v := range additions {
		names = append(names, v.Name)
	}
	for _, entry := range environ {
		name, value, ok := strings.Cut(entry, "=")
		if ok && validName(name) && len(value) <= maxEnvValue && !slices.Contains(names, name) {
			names, additions = append(names, name), append(additions, Variable{name, value})
		}
	}
	return additions
}

func validName(s string) bool {
	if s == "" || len(s) > maxEnvName || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for _, c := range []byte(s) {
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
