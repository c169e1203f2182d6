package operator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/cli"
)

// deletedOne is what a verifier says of a log without the start of a busy session.
func deletedOne() verify.Report {
	r := verify.Report{Size: 400}
	add := func(entry int64, code finding.Code, t finding.Trace) {
		r.Findings = append(r.Findings, finding.Finding{Entry: entry, Last: entry, Code: code, Detail: "said", Trace: t})
	}
	add(-1, finding.BadHost, finding.Trace{})
	add(5, finding.BadOrder, finding.Trace{Missing: 1, After: 4, First: 5})
	add(5, finding.ChainGap, finding.Trace{Missing: 1, After: 2, First: 3})
	for i := range int64(311) {
		add(5+i, finding.BadSession, finding.Trace{})
	}
	return r
}

// One deleted entry, and hundreds that look wrong for it: the verdict and what was done
// come first, and the rest when it is asked for.
func TestVerdictAndCauseComeFirst(t *testing.T) {
	said := func(r verify.Report, all bool) []string {
		var out bytes.Buffer
		printReport(&cli.IO{Out: &out}, r, all)
		return strings.Split(out.String(), "\n")
	}
	short := said(deletedOne(), false)
	want := []string{"broken: this log was tampered with or is not whole", "entry 5: deleted: 1 entry missing here by the numbers of the lines",
		"    and 312 findings that follow from it; --all lists them", "bad_host: said"}
	if got := strings.Join(short[:len(want)], "\n"); got != strings.Join(want, "\n") {
		t.Errorf("it says\n%s", got)
	}
	if len(short) > 8 {
		t.Errorf("%d lines", len(short))
	}
	all := said(deletedOne(), true)
	if text := strings.Join(all, "\n"); len(all) < 314 || all[1] != want[1] || strings.Count(text, "bad_session") != 311 || strings.Contains(text, "--all") {
		t.Errorf("with --all %d lines:\n%s", len(all), text)
	}
	if line := said(verify.Report{Size: 5, Seen: 5}, false)[0]; !strings.HasPrefix(line, "holds: ") || !strings.Contains(line, "cut off") {
		t.Error(line)
	}
	if line := said(verify.Report{Findings: []finding.Finding{{Code: finding.Outdated}}}, false)[0]; !strings.HasPrefix(line, "outdated: ") {
		t.Error(line)
	}
	if text := strings.Join(said(verify.Report{More: 7}, false), "\n"); !strings.Contains(text, "7 findings more") {
		t.Error(text)
	}
}

// An export that was cut behind an older checkpoint is not told from a whole one by
// someone who remembers none: nothing is said of its end, in words and as JSON.
func TestNothingIsSaidOfAnEndThatNobodyRemembers(t *testing.T) {
	for _, r := range []verify.Report{{}, {Size: 18}, {Size: 18, Seen: 17}} {
		var out bytes.Buffer
		printReport(&cli.IO{Out: &out}, r, false)
		if s := out.String(); !strings.HasPrefix(s, "holds") || strings.Contains(s, "cut off") || !strings.Contains(s, "nobody here knows whether that is the end") {
			t.Errorf("%+v: %s", r, s)
		}
		if raw := string(mustJSON(t, viewReport(r))); !strings.HasPrefix(raw, `{"schemaVersion":1,"verdict":"holds_up_to",`) {
			t.Errorf("it begins %.60s", raw)
		}
	}
}

// Scripts find the cause under a name that stays.
func TestCausesInJSON(t *testing.T) {
	raw := mustJSON(t, viewReport(deletedOne()))
	if !strings.HasPrefix(string(raw), `{"schemaVersion":1,"verdict":"broken","causes":[{"kind":"deleted","entry":5,"last":5,"detail":"`) {
		t.Errorf("it begins %.120s", raw)
	}
	var view struct {
		Causes []struct {
			Kind     string
			Findings []int
		}
		Findings []struct{ Code string }
	}
	if err := json.Unmarshal(raw, &view); err != nil {
		t.Fatal(err)
	}
	if len(view.Causes) != 2 || len(view.Findings) != 314 || len(view.Causes[0].Findings) != 313 || view.Findings[view.Causes[0].Findings[0]].Code != "bad_order" {
		t.Errorf("%d causes, %d findings", len(view.Causes), len(view.Findings))
	}
	if empty := string(mustJSON(t, viewReport(verify.Report{}))); !strings.Contains(empty, `"causes":[]`) {
		t.Error(empty)
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// A copy that broke off looks like a log that somebody cut, if nothing else is wrong.
func TestOnlyTheLastLineMissingMayBeABrokenCopy(t *testing.T) {
	cut := finding.Finding{Entry: 5, Last: 5, Code: finding.Truncated, Detail: "said"}
	short := cut
	short.Trace = finding.Trace{Short: 3, By: finding.ByEnd}
	for _, c := range []struct {
		list []finding.Finding
		want bool
	}{{[]finding.Finding{cut}, true}, {[]finding.Finding{short}, false}, {[]finding.Finding{cut, {Code: finding.BadEntry}}, false}} {
		var talk bytes.Buffer
		cli.Report(&talk, new(auditVerify).judge(verify.Report{Size: 5, Findings: c.list}))
		if strings.Contains(talk.String(), "copy the file again") != c.want || !strings.Contains(talk.String(), "show it to an owner") {
			t.Errorf("%v: said %q", c.list, talk.String())
		}
	}
}

func TestCheckpointsThatCouldNotBeCheckedAreCounted(t *testing.T) {
	for want, r := range map[string]verify.Report{"217 checkpoints, of which 0 could be checked,": {Written: 217}, ", 1 checkpoint, roster": {Written: 1, Checkpoints: 1}} {
		var out bytes.Buffer
		if printReport(&cli.IO{Out: &out}, r, false); !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
		if raw, want := string(mustJSON(t, viewReport(r))), fmt.Sprintf(`"checkpoints":%d,"checkpointsWritten":%d,`, r.Checkpoints, r.Written); !strings.Contains(raw, want) {
			t.Errorf("no %s in %s", want, raw)
		}
	}
}

// A machine that was set back is in every later export. It is neither told as tampering
// nor passed.
func TestForkedMachineIsNotToldAsTampering(t *testing.T) {
	forked := finding.Finding{Entry: 331, Last: 331, Code: finding.ChainFork, Detail: "machine db1 itself signed another", Trace: finding.Trace{Own: true}}
	older := finding.Finding{Entry: 400, Last: 401, Code: finding.Outdated, Detail: "older"}
	for _, r := range []verify.Report{{Size: 400, Findings: []finding.Finding{forked}}, {Size: 400, Seen: 402, Findings: []finding.Finding{forked, older}}} {
		var out bytes.Buffer
		printReport(&cli.IO{Out: &out}, r, false)
		if s := out.String(); !strings.HasPrefix(s, "machine_forked: ") || strings.Contains(s, "broken") || !strings.Contains(s, "entry 331: machine_forked: machine db1 itself") {
			t.Errorf("it says %s", s)
		}
		var exit *cli.Error
		if err := new(auditVerify).judge(r); !errors.As(err, &exit) || exit.Exit != cli.ExitFailed || strings.Contains(err.Error(), "tampered") || len(exit.Hints) == 0 {
			t.Errorf("%v", err)
		}
		if v := viewReport(r); v.Verdict != "machine_forked" || v.Causes[0].Kind != "machine_forked" {
			t.Errorf("%+v", v)
		}
	}
	edited := finding.Finding{Entry: 5, Last: 5, Code: finding.BadEntry, Trace: finding.Trace{Unreadable: true}}
	if r := (verify.Report{Size: 400, Findings: []finding.Finding{forked, edited}}); r.Verdict() != verify.Broken {
		t.Errorf("edited as well: %s", r.Verdict())
	}
}
