package agent

import (
	"time"

	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// job is what the supervisor tells a session process, before any key exists. The
// supervisor has checked all of it.
type job struct {
	Index   uint32          `json:"index"` // receive index of this session's datagrams
	Relay   wire.Relay      `json:"relay"`
	Action  wire.Action     `json:"action"`
	Argv    []wire.Bytes    `json:"argv"` // Exec
	File    process.File    `json:"file"` // Exec
	Dir     wire.Bytes      `json:"dir"`
	Env     []wire.EnvVar   `json:"env"` // additions
	TTY     bool            `json:"tty"` // Exec
	Account process.Account `json:"account"`
}

// readyData is what the agent says in READY.
type readyData struct {
	Rule        string        `json:"rule"`
	Policy      key.Hash      `json:"policy"`
	MaxDuration time.Duration `json:"maxDuration"` // 0 is unlimited, as below
	MaxIdle     time.Duration `json:"maxIdle"`
	MaxResume   time.Duration `json:"maxResume"` // 0 is policy.DefaultResume
	AuditSeq    uint64        `json:"auditSeq"`
	AuditHead   key.Hash      `json:"auditHead"`
}

// started, exited and closed are the child's reports. The supervisor records
// them as the child's word.
type started struct {
	PID int `json:"pid"`
}

type exited struct {
	Code     int    `json:"code"`
	Signal   string `json:"signal"`
	Core     bool   `json:"core"`
	BytesIn  int64  `json:"bytesIn"`
	BytesOut int64  `json:"bytesOut"`
	Refusal  string `json:"refusal"` // code, when the program was not started
}

type closed struct {
	Refusal string `json:"refusal"` // code; "" is a normal end
}
