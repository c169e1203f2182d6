package audit_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/wire"
)

func text(argv []wire.Bytes) string { return string(bytes.Join(plain(argv), []byte("|"))) }

// No way into the log leads past the redactor, and entries stay below the size
// that fits into a frame whatever they hold.
func TestN8NothingIsSignedUnredacted(t *testing.T) {
	w := newWorld(t)
	for _, argv := range [][]string{
		{"tool", "--password", s3cret}, {"sudo", "mysql", "-p" + s3cret}, {"sh", "-c", "PGPASSWORD=" + s3cret + " psql"},
		{"curl", "https://bob:" + s3cret + "@host/"}, {"curl", "-d", `{"password":"` + s3cret + `"}`},
	} { // package redact's own tests have the whole corpus
		var command entry.Command
		for _, arg := range argv {
			command.Argv = append(command.Argv, wire.Bytes(arg))
		}
		w.say(w.agents[0], entry.Entry{Type: entry.SessionRefuse, Command: &command})
		command.Cwd = wire.Bytes("/x?token=" + s3cret)
		w.record(entry.Entry{Type: entry.SessionDeny, Command: &command})
	}
	for i, s := range w.rows.entries {
		e := entry.Peek(s)
		raw, err := json.Marshal(e)
		check(t, err)
		if e.Command == nil {
			continue
		}
		all := text(e.Command.Argv) + string(e.Command.Cwd) + string(raw)
		if strings.Contains(strings.ToLower(all), strings.ToLower(s3cret)) {
			t.Errorf("entry %d holds a secret: %s", i, text(e.Command.Argv))
		}
	}
}

// Each event belongs to exactly one side.
func TestEventsHaveOneSigner(t *testing.T) {
	agents := []entry.EventType{entry.AgentStart, entry.AgentStop, entry.RosterApplied, entry.SessionAccept, entry.SessionRefuse, entry.SessionEnd, entry.ExecStart, entry.ExecEnd, entry.ChannelOpen, entry.SpoolGap}
	servers := []entry.EventType{
		entry.TeamFound, entry.RosterPublish, entry.TokenPublish, entry.AgentJoin, entry.AgentConnect, entry.AgentDelete, entry.Login, entry.LoginRefuse, entry.SessionOpen, entry.SessionDeny,
		entry.RequestWait, entry.RequestApprove, entry.RequestDeny, entry.RequestCancel, entry.RequestExpire, entry.AuditExport, entry.Alarm,
	}
	for _, e := range agents {
		if !e.ByAgent() {
			t.Errorf("%s is the server's", e)
		}
	}
	for _, e := range servers {
		if e.ByAgent() {
			t.Errorf("%s is the agent's", e)
		}
	}
	w := newWorld(t)
	for _, e := range servers {
		w.record(entry.Entry{Type: e})
	}
	for _, e := range agents {
		if e != entry.SpoolGap {
			w.say(w.agents[0], entry.Entry{Type: e, Session: wire.SessionID{1}})
		}
	}
	for _, f := range w.verify(w.export()).Findings {
		if f.Code != finding.BadSession { // accepted, ended, and then a command
			t.Error(f)
		}
	}
}
