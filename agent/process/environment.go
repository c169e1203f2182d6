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
var fixed = []string{"HOME", "USER", "LOGNAME", "SHELL", "PATH", "PWD", "OLDPWD", "MAIL"}

// Variable is one addition to the environment.
type Variable struct{ Name, Value string }

// Environment is what a program of account gets: the fixed base, TERM when term
// is not "", and the additions. Which names may be added is the policy's; a
// name that is no name, that only the agent sets, or that comes twice is refused
// with EnvNotAllowed here, whatever the policy says (attack E8). Nothing of this
// process' own environment is in it.
func Environment(a Account, term string, additions []Variable) ([]string, error) {
	env := []string{
		"HOME=" + a.Home, "USER=" + a.Name, "LOGNAME=" + a.Name, "SHELL=" + a.Shell, "PATH=" + Path,
	}
	env = append(env, systemEnvironment()...)
	names := slices.Clone(fixed)
	for _, v := range additions {
		if !validName(v.Name) || len(v.Value) > maxEnvValue || strings.ContainsRune(v.Value, 0) || slices.Contains(names, v.Name) {
			return nil, refusal.New(refusal.EnvNotAllowed, "an environment variable is misspelt, set twice, or set by the agent alone")
		}
		names = append(names, v.Name)
		env = append(env, v.Name+"="+v.Value)
	}
	if !slices.Contains(names, "LANG") {
		env = append(env, "LANG=C.UTF-8")
	}
	if term != "" && !slices.Contains(names, "TERM") {
		env = append(env, "TERM="+term)
	}
	return env, nil
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
