package pair

import (
	"net/netip"
	"time"

	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/proxies"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Job is what the supervisor tells a session process, before any key exists. The
// supervisor has checked all of it.
type Job struct {
	Index   uint32           `json:"index"` // receive index of this session's datagrams
	Relay   wire.Relay       `json:"relay"`
	Proxies proxies.Settings `json:"proxies"` // on the way to relays
	Map     bool             `json:"map"`     // ask the router to forward a port to the session
	Direct  Direct           `json:"direct"`
	Way     string           `json:"way"` // by which a relay was reached last in this network; "" is unknown
	Action  wire.Action      `json:"action"`
	Argv    []wire.Bytes     `json:"argv"` // Exec
	File    process.File     `json:"file"` // Exec
	Dir     wire.Bytes       `json:"dir"`
	Env     []wire.EnvVar    `json:"env"` // additions
	TTY     bool             `json:"tty"` // Exec
	Account process.Account  `json:"account"`
	Keep    *wire.Keep       `json:"keep"` // Shell: what is wanted of kept ones; null for an ordinary one
	PAM     bool             `json:"pam"`  // our own environment is what a PAM session gave
	Hold    bool             `json:"hold"` // be the holder of a kept shell, without session; the way to it is descriptor 4
}

// Direct is what an administrator has arranged for direct paths: UDP ports First to Last,
// any if First is 0, let through to this machine at the addresses Public.
type Direct struct {
	First  uint16       `json:"first"`
	Last   uint16       `json:"last"`
	Public []netip.Addr `json:"public"`
}

// Ready is what the agent says in READY.
type Ready struct {
	Rule        string        `json:"rule"`
	Policy      key.Hash      `json:"policy"`
	MaxDuration time.Duration `json:"maxDuration"` // 0 is unlimited, as below
	MaxIdle     time.Duration `json:"maxIdle"`
	MaxResume   time.Duration `json:"maxResume"` // 0 is policy.DefaultResume
	AuditSeq    uint64        `json:"auditSeq"`
	AuditHead   key.Hash      `json:"auditHead"`
	Keep        *KeepAnswer   `json:"keep"` // null where nothing was wanted of kept shells; not for READY
}

// Started says that the program runs. Like Exited and Closed it is the child's
// word, and recorded as such.
type Started struct {
	PID int `json:"pid"`
}

// Exited is how the program ended, or why it was not started.
type Exited struct {
	Code     int    `json:"code"`
	Signal   string `json:"signal"`
	Core     bool   `json:"core"`
	BytesIn  int64  `json:"bytesIn"`
	BytesOut int64  `json:"bytesOut"`
	Refusal  string `json:"refusal"` // code, when the program was not started
}

// Closed is why the session ended.
type Closed struct {
	Refusal string `json:"refusal"` // code; "" is a normal end
}

// Forged says that somebody sends datagrams to the session that do not open, as
// many so far that it is no accident.
type Forged struct {
	Count uint64 `json:"count"`
}

// Variables are the additions to a program's environment as package process takes
// them.
func Variables(env []wire.EnvVar) []process.Variable {
	list := make([]process.Variable, len(env))
	for i, v := range env {
		list[i] = process.Variable{Name: v.Name, Value: string(v.Value)}
	}
	return list
}
