package verify

import (
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// cosigners counts who besides the server has seen a checkpoint that holds. Only
// agents and operators of the team count, and only with a key that was not revoked
// when they said so; lines of others say nothing here.
func (v *verifier) cosigners(c checkpoint.Checkpoint, signed string) {
	who := map[string]bool{}
	for _, line := range checkpoint.Cosignatures(signed, v.report.Origin, v.signers.AuditKeys()...) {
		name, problem := v.cosigner(c, line)
		if problem != "" {
			v.found(c.Size-1, finding.BadCosignature, "%s", problem)
		} else if name != "" {
			who[name] = true
		}
	}
	v.report.Cosigners = len(who)
	if len(who) == 0 {
		return
	}
	list := append(v.report.Cosigned, CosignedCheckpoint{c.Size, len(who)})
	v.report.Cosigned = list[max(0, len(list)-maxCosigned):]
}

// cosigner returns who made a cosignature, "" when that says nothing here.
func (v *verifier) cosigner(c checkpoint.Checkpoint, line checkpoint.Line) (who, problem string) {
	switch line.Role {
	case "agent":
		a := v.signers.Agent(line.Kid)
		if a == nil {
			return "", ""
		}
		at, err := checkpoint.CheckCosignature(c, line.Text, a.Key)
		switch {
		case err != nil:
			return "", "a cosignature in the name of an agent does not hold"
		case v.outOfTime(at) || a.NotAfter != 0 && wire.At(at) >= a.NotAfter || v.history.Revoked(line.Kid, latest(at)) != nil:
			return "", ""
		}
		return "agent " + line.Kid.String(), ""
	case "operator":
		by, err := v.history.Operator(line.Kid, v.position().Time())
		if err != nil {
			return "", ""
		}
		at, err := checkpoint.CheckCosignature(c, line.Text, by.Key)
		if err != nil {
			return "", "a cosignature in the name of an operator does not hold"
		}
		if _, err := v.history.Operator(line.Kid, latest(at)); err != nil || v.outOfTime(at) {
			return "", ""
		}
		return "operator " + by.Person, ""
	}
	return "", ""
}

// latest is the last time that a cosignature, whose time is in whole seconds, can
// have been made at.
func latest(at time.Time) time.Time { return at.Add(time.Second - time.Millisecond) }

// outOfTime reports a cosignature from before the checkpoint that it is of, or from
// the future: its time is its signer's word.
func (v *verifier) outOfTime(at time.Time) bool {
	return wire.At(at) < v.position()-skew(wire.RegistrationSkew) || at.After(v.now.Add(wire.RegistrationSkew))
}
