package cli

import "github.com/tucdesk/tucdesk/internal/refusal"

// NewKey is the hint for a person or machine whose key was revoked.
const NewKey = "a revoked key never comes back; a new one needs an empty state folder: tucdesk login, or tucdesk-agent join, with --state DIR"

type answer struct {
	exit  int
	hints []string
}

// known says for each refusal that a person can meet how the program exits and
// what to do next. A code that is missing here exits 1 without a hint.
var known = map[refusal.Code]answer{
	refusal.NotLoggedIn:         {ExitNotLoggedIn, []string{"tucdesk login"}},
	refusal.BadToken:            {ExitNotLoggedIn, []string{"tucdesk login"}},
	refusal.UnknownKey:          {ExitNotLoggedIn, []string{"ask an owner of the team to run: tucdesk operator add EMAIL KEY"}},
	refusal.KeyRevoked:          {ExitNotLoggedIn, []string{NewKey, "an owner then adds the new key as any other"}},
	refusal.Offline:             {ExitOffline, []string{"tucdesk ls", "on the machine itself: tucdesk-agent status"}},
	refusal.BadMessage:          {ExitTransport, []string{"somebody between here and the machine changed the handshake; nothing was sent"}},
	refusal.BadEphemeral:        {ExitTransport, []string{"somebody between here and the machine changed the handshake; nothing was sent"}},
	refusal.GrantMismatch:       {ExitTransport, []string{"the server told the two ends different things; nothing was sent"}},
	refusal.WrongChannel:        {ExitTransport, []string{"somebody stands between here and the server; nothing was sent"}},
	refusal.BadFileMode:         {ExitFailed, []string{"if somebody else could read a key, revoke it: tucdesk operator revoke, or tucdesk agent rm"}},
	refusal.PolicyDenied:        {ExitDenied, []string{"which rule decided: tucdesk policy explain HOST shell (or exec, copy-read, copy-write, forward-local, forward-remote, background)"}},
	refusal.ApprovalRequired:    {ExitPending, []string{"tucdesk requests ls"}},
	refusal.ApprovalPending:     {ExitPending, []string{"tucdesk requests ls"}},
	refusal.ApprovalExpired:     {ExitPending, []string{"ask again, and ask an approver to look at: tucdesk requests ls"}},
	refusal.ApprovalDenied:      {ExitDenied, nil},
	refusal.ApprovalCancelled:   {ExitDenied, nil},
	refusal.ApprovalUsed:        {ExitDenied, []string{"an approval is good for one run; ask again"}},
	refusal.ApprovalMismatch:    {ExitDenied, []string{"the approval was given for another command; ask again"}},
	refusal.SelfApproval:        {ExitDenied, []string{"somebody else has to approve"}},
	refusal.NotEnoughApprovers:  {ExitPending, []string{"tucdesk requests ls"}},
	refusal.ApproverNotAllowed:  {ExitDenied, []string{"approving needs the role approver or one that the rule names"}},
	refusal.Forbidden:           {ExitDenied, []string{"your role in the team does not allow this; ask an owner"}},
	refusal.EnvNotAllowed:       {ExitDenied, []string{"the policy lists which variables may be set: tucdesk policy explain HOST shell"}},
	refusal.UserNotAllowed:      {ExitDenied, []string{"which login users the policy allows: tucdesk policy explain USER@HOST shell", "why the machine itself refuses one that it allows stands in the log of its agent"}},
	refusal.CommandNotFound:     {127, nil}, // as shells do it, and the next one
	refusal.NotExecutable:       {126, nil},
	refusal.TakenOver:           {ExitTransport, []string{"the shell runs on there; get it back with: tucdesk attach NAME HOST"}},
	refusal.Gone:                {ExitTransport, []string{"the session's process there was killed (is memory short?), or the agent or the whole machine began anew"}},
	refusal.TooMany:             {ExitTransport, []string{"end another session first, or try again in a minute"}},
	refusal.TooLarge:            {ExitFailed, []string{"where this is a command: with its variables it may have 30,000 bytes; send more to its standard input, or as a file with tucdesk cp"}},
	refusal.RateLimited:         {ExitTransport, []string{"wait a minute, then try again"}},
	refusal.Unreachable:         {ExitTransport, []string{"is the server running, and does a firewall let its port through?"}},
	refusal.Unavailable:         {ExitTransport, []string{"the server has trouble of its own; its log says which"}},
	refusal.RelayFailed:         {ExitTransport, []string{"no way to a relay works from here; which leg is blocked: tucdesk netcheck"}},
	refusal.PinMismatch:         {ExitTransport, []string{"whoever answered does not hold the server's key; nothing was sent", "if the server was set up anew, get a new team string from an owner"}},
	refusal.ProofTimeSkew:       {ExitFailed, []string{"this machine's clock is off; set it (timedatectl set-ntp true), then try again"}},
	refusal.Stale:               {ExitFailed, []string{"this machine's clock is off; set it (timedatectl set-ntp true), then try again"}},
	refusal.NotYetValid:         {ExitFailed, []string{"one of the clocks is off; compare date on both machines"}},
	refusal.BadTime:             {ExitFailed, []string{"this machine's clock went backwards; set it, then try again"}},
	refusal.HandshakeFailed:     {ExitTransport, []string{"somebody between here and the machine changed the handshake; nothing was sent"}},
	refusal.UnknownAgent:        {ExitTransport, []string{"whoever answered has no certificate of your team; nothing was sent"}},
	refusal.NotEnoughSignatures: {ExitPending, []string{"another owner signs it with: tucdesk team cosign FILE"}},
	refusal.Superseded:          {ExitFailed, []string{"make the change again on the newest roster: tucdesk team show"}},
	refusal.ProgramTooOld:       {ExitFailed, []string{"install a newer release of this program; an owner set the least version for the whole team"}},
	refusal.RosterExpired:       {ExitDenied, []string{"an owner has to renew the roster: tucdesk team renew"}},
	refusal.RosterBehind:        {ExitDenied, []string{"the machine could not get the team's newest roster; is its server up to date?"}},
	refusal.Fork:                {ExitDenied, []string{"two different rosters of one version exist: an owner key may be stolen", "all machines refuse new sessions until the owners have sorted it out"}},
	refusal.AuditFork:           {ExitDenied, []string{"the server showed two different audit logs; both are kept in the state folder as evidence"}},
	refusal.TokenUsed:           {ExitFailed, []string{"get a new one: tucdesk token create"}},
	refusal.Expired:             {ExitFailed, []string{"it is past its time; make a new one, and compare the clocks of both machines"}},
	refusal.AlreadyJoined:       {ExitFailed, []string{"this machine is in a team already: tucdesk-agent status", "to start anew, remove its state folder and delete it from the team"}},
	refusal.NameTaken:           {ExitFailed, []string{"choose another name: --name NAME"}},
	refusal.KeyInUse:            {ExitFailed, []string{"this key belongs to another machine; was the disk cloned? remove the state folder and join anew"}},
}
