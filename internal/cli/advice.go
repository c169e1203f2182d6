package cli

import "github.com/tucdesk/tucdesk/internal/refusal"

// NewKey is the hint for a person or machine whose key was revoked.
const NewKey = "a revoked key never comes back; a new one needs an empty state folder: tucdesk login, or tucdesk-agent join, with --state DIR"

// AskAgain is the hint for whoever was denied what they asked approvers for.
const AskAgain = "when they agree after all, ask again, best with --reason TEXT: a denied request never runs"

// Hints that several refusals share.
const (
	tampered  = "somebody between here and the machine changed the handshake; nothing was sent"
	strangers = "two of our programs do not understand each other; compare: tucdesk version, tucdesk-agent version, tucdesk-server version"
	badRoster = "the server shows a roster that does not follow the one known here; was it restored from an old backup? show this to an owner"
	twoLogs   = "where a server showed two different logs, both are kept in the state folder of who says so, as audit.seen or a machine's witness-*.json: show them to an owner"
	setBack   = "where it is a machine's own log, its disk was set back or cloned and it has to join anew; which of the two it is says, there: tucdesk-agent status"
	again     = "run the same command again"
)

// Hints says what to do next after a refusal; nil for a code that is not ours.
func Hints(code refusal.Code) []string { return known[code].hints }

type answer struct {
	exit  int
	hints []string
}

// known says for each refusal how the program exits, 0 standing for 1, and what to do
// next. None is missing: whoever meets one that "cannot happen" needs the hint most.
var known = map[refusal.Code]answer{
	refusal.NotLoggedIn:        {ExitNotLoggedIn, []string{"tucdesk login"}},
	refusal.BadToken:           {ExitNotLoggedIn, []string{"tucdesk login"}},
	refusal.UnknownKey:         {ExitNotLoggedIn, []string{"ask an owner of the team to run: tucdesk operator add EMAIL KEY"}},
	refusal.KeyRevoked:         {ExitNotLoggedIn, []string{NewKey, "an owner then adds the new key as any other"}},
	refusal.Offline:            {ExitOffline, []string{"tucdesk ls", "on the machine itself: tucdesk-agent status"}},
	refusal.BadMessage:         {ExitTransport, []string{tampered}},
	refusal.BadEphemeral:       {ExitTransport, []string{tampered}},
	refusal.GrantMismatch:      {ExitTransport, []string{"the server told the two ends different things; nothing was sent"}},
	refusal.WrongChannel:       {ExitTransport, []string{"somebody stands between here and the server; nothing was sent"}},
	refusal.BadFileMode:        {ExitFailed, []string{"if somebody else could read a key, revoke it: tucdesk operator revoke, or tucdesk agent rm"}},
	refusal.PolicyDenied:       {ExitDenied, []string{"which rule decided: tucdesk policy explain HOST shell (or exec -- ARGV, copy-read PATH, copy-write PATH, forward-local TARGET, forward-remote TARGET, background)"}},
	refusal.ApprovalRequired:   {ExitPending, []string{"tucdesk requests ls"}},
	refusal.ApprovalPending:    {ExitPending, []string{"tucdesk requests ls"}},
	refusal.ApprovalExpired:    {ExitPending, []string{"ask again, and ask an approver to look at: tucdesk requests ls"}},
	refusal.ApprovalDenied:     {ExitDenied, []string{"who said no to what: tucdesk requests show REQUEST", AskAgain}},
	refusal.ApprovalCancelled:  {ExitDenied, []string{"it was withdrawn and never runs; " + again + " to ask again"}},
	refusal.ApprovalUsed:       {ExitDenied, []string{"an approval is good for one run; ask again"}},
	refusal.ApprovalMismatch:   {ExitDenied, []string{"the approval was given for another command; ask again"}},
	refusal.SelfApproval:       {ExitDenied, []string{"somebody else has to approve"}},
	refusal.NotEnoughApprovers: {ExitPending, []string{"tucdesk requests ls"}},
	refusal.ApproverNotAllowed: {ExitDenied, []string{"approving needs the role approver or one that the rule names"}},
	refusal.Forbidden:          {ExitDenied, []string{"your role in the team does not allow this; ask an owner"}},
	refusal.EnvNotAllowed:      {ExitDenied, []string{"the policy lists which variables may be set, under [environment]; to see them: tucdesk policy explain HOST shell"}},
	refusal.UserNotAllowed: {ExitDenied, []string{"where the agent runs as that user, leave its name out: rules call the agent's own user @agent; else an owner lists the name in the rule",
		"which login users the policy allows: tucdesk policy explain USER@HOST shell", "why the machine itself refuses one that it allows stands in the log of its agent"}},
	refusal.CommandNotFound:     {127, []string{"exec runs a program by its name in PATH, or by its whole path; a line of shell is run by: tucdesk ssh HOST 'LINE'"}}, // as shells do it, and the next one
	refusal.NotExecutable:       {126, []string{"the file is there: may this user run it (chmod +x), and is the program that its first line names there?"}},
	refusal.TakenOver:           {ExitTransport, []string{"the shell runs on there; get it back with: tucdesk attach NAME HOST"}},
	refusal.Gone:                {ExitTransport, []string{"the session's process there was killed (is memory short?), or the agent or the whole machine began anew"}},
	refusal.AgentStopped:        {ExitTransport, []string{"the agent there was stopped or began anew, as in an upgrade, and that ends its sessions; once tucdesk ls shows it online, run the command again"}},
	refusal.TooMany:             {ExitTransport, []string{"end another session first, or try again in a minute"}},
	refusal.TooLarge:            {ExitFailed, []string{"where this is a command: with its variables it may have 30,000 bytes; send more to its standard input, or as a file with tucdesk cp"}},
	refusal.RateLimited:         {ExitTransport, []string{"wait a minute, then try again"}},
	refusal.Unreachable:         {ExitTransport, []string{"is the server running, and does a firewall let its port through?"}},
	refusal.Unavailable:         {ExitTransport, []string{"who refused has trouble of its own, and its log says which: the machine's agent where a session or what runs in it was asked for (journalctl -u tucdesk-agent, there), else the server"}},
	refusal.RelayFailed:         {ExitTransport, []string{"no way to a relay works from here; which leg is blocked: tucdesk netcheck"}},
	refusal.PinMismatch:         {ExitTransport, []string{"whoever answered does not hold the server's key; nothing was sent", "if the server was set up anew, get a new team string from an owner"}},
	refusal.ProofTimeSkew:       {ExitFailed, []string{"this machine's clock is off; set it (timedatectl set-ntp true), then try again"}},
	refusal.Stale:               {ExitFailed, []string{"this machine's clock is off; set it (timedatectl set-ntp true), then try again"}},
	refusal.NotYetValid:         {ExitFailed, []string{"one of the clocks is off; compare date on both machines"}},
	refusal.BadTime:             {ExitFailed, []string{"this machine's clock went backwards; set it, then try again"}},
	refusal.HandshakeFailed:     {ExitTransport, []string{tampered}},
	refusal.UnknownAgent:        {ExitTransport, []string{"whoever answered has no certificate of your team; nothing was sent"}},
	refusal.NotEnoughSignatures: {ExitPending, []string{"another owner signs it with: tucdesk team cosign FILE"}},
	refusal.Superseded:          {ExitFailed, []string{"make the change again on the newest roster: tucdesk team show"}},
	refusal.ProgramTooOld:       {ExitFailed, []string{"install a newer release of this program; an owner set the least version for the whole team"}},
	refusal.RosterExpired:       {ExitDenied, []string{"an owner has to renew the roster: tucdesk team renew"}},
	refusal.RosterBehind:        {ExitDenied, []string{"the machine could not get the team's newest roster; is its server up to date?"}},
	refusal.Fork:                {ExitDenied, []string{"two different rosters of one version exist: an owner key may be stolen", "all machines refuse new sessions until the owners have sorted it out"}},
	refusal.AuditFork:           {ExitDenied, []string{twoLogs, setBack}},
	refusal.AuditFull:           {ExitTransport, []string{"the machine does nothing that it cannot write down; try again when its server has taken more of its log, and see there: tucdesk-agent status"}},
	refusal.TokenUsed:           {ExitFailed, []string{"get a new one: tucdesk token create"}},
	refusal.Expired:             {ExitFailed, []string{"it is past its time; make a new one, and compare the clocks of both machines"}},
	refusal.AlreadyJoined:       {ExitFailed, []string{"this machine is in a team already: tucdesk-agent status", "to start anew, remove its state folder, and on an operator's machine: tucdesk agent rm NAME"}},
	refusal.NameTaken:           {ExitFailed, []string{"choose another name: --name NAME"}},
	refusal.KeyInUse:            {ExitFailed, []string{"this key belongs to another machine; was the disk cloned? remove the state folder and join anew"}},

	refusal.EphMismatch:      {ExitTransport, []string{tampered}},
	refusal.WrongAgent:       {ExitTransport, []string{tampered}},
	refusal.OpenFailed:       {ExitTransport, []string{tampered}},
	refusal.TooOld:           {ExitTransport, []string{again}},
	refusal.RekeyRequired:    {ExitTransport, []string{"the session has used up its key; " + again}},
	refusal.NoCommonSuite:    {ExitTransport, []string{"one of the two programs is too old for the other; install the newest release of both"}},
	refusal.Replay:           {ExitFailed, []string{"this was used before; " + again + ", which makes a new one"}},
	refusal.ReplayPressure:   {ExitTransport, []string{"wait a minute, then try again"}},
	refusal.ProtocolError:    {ExitFailed, []string{strangers}},
	refusal.BadRequest:       {ExitFailed, []string{strangers}},
	refusal.BadCursor:        {ExitFailed, []string{strangers}},
	refusal.BadStatement:     {ExitFailed, []string{"it was damaged on its way, or is of a newer program: get it again", strangers}},
	refusal.WrongType:        {ExitFailed, []string{strangers}},
	refusal.BadAlg:           {ExitNotLoggedIn, []string{strangers, "tucdesk login"}},
	refusal.BadHeader:        {ExitNotLoggedIn, []string{strangers, "tucdesk login"}},
	refusal.UnknownKid:       {ExitNotLoggedIn, []string{"the server has new keys; was it set up anew? then get a new team string from an owner", "tucdesk login"}},
	refusal.ProofRequired:    {ExitFailed, []string{strangers}},
	refusal.ProofInvalid:     {ExitFailed, []string{strangers}},
	refusal.ProofMismatch:    {ExitFailed, []string{strangers}},
	refusal.BadSignature:     {ExitFailed, []string{"it was changed after it was signed, or is for another team; nothing of it is used"}},
	refusal.WrongTeam:        {ExitFailed, []string{"which team this is: tucdesk team show; another team's state folder: --state DIR"}},
	refusal.Rollback:         {ExitFailed, []string{badRoster}},
	refusal.Gap:              {ExitFailed, []string{badRoster}},
	refusal.BadChain:         {ExitFailed, []string{badRoster}},
	refusal.PolicyMismatch:   {ExitFailed, []string{"the server hands out rules that no owner has signed; an owner can publish them anew: tucdesk policy publish FILE"}},
	refusal.RosterNotSaved:   {ExitFailed, []string{"is the disk of the state folder full, or read-only?"}},
	refusal.WeakKey:          {ExitFailed, []string{"copy the whole key, as tucdesk login or tucdesk owner create prints it; if that is what you did, have a new one made"}},
	refusal.WrongRole:        {ExitFailed, []string{"who has which role: tucdesk operator ls, tucdesk owner ls"}},
	refusal.WiderThanAllowed: {ExitFailed, []string{"an owner may sign a token for more tags or a longer time: tucdesk token create --owner"}},
	refusal.BadName:          {ExitFailed, []string{"write it in the form that the message names; for a machine, --name web-1"}},
	refusal.BadArgument:      {ExitFailed, []string{"what is taken: the same command with --help"}},
	refusal.NotFound:         {ExitFailed, []string{"what there is: tucdesk ls, tucdesk requests ls, tucdesk operator ls; what belongs to others is not found either"}},
	refusal.NotYours:         {ExitFailed, []string{"who you are: tucdesk whoami"}},
	refusal.BadPath:          {ExitFailed, []string{"name it by a path of its own, in a folder that the policy opens: tucdesk policy explain HOST copy-read (or copy-write)"}},
	refusal.BadFile:          {ExitFailed, []string{"files, folders and links are copied; a folder needs -r"}},
	refusal.NameCollision:    {ExitFailed, []string{"copy them into folders of their own"}},
	refusal.HashMismatch:     {ExitFailed, []string{again}},
	refusal.FileChanged:      {ExitFailed, []string{"something writes to it; " + again + " when it is quiet"}},
	refusal.FileDenied:       {ExitFailed, []string{"as another user, where the policy allows it: USER@HOST:PATH"}},
	refusal.FileFailed:       {ExitFailed, []string{"that system's own log may say why"}},
	refusal.NoSpace:          {ExitFailed, []string{"make room there, then " + again + ": it goes on where it stopped"}},
}
