package agent

import "github.com/tucdesk/tucdesk/agent/worker"

// SessionArg is the argument by which a program that embeds the agent is asked to
// call SessionMain.
const SessionArg = worker.Arg

// SessionMain is the whole life of a session process and returns its exit status.
// Call it first thing in main, before anything is opened.
func SessionMain() int { return worker.Main() }

// TuneMemory trades some processor time for memory, as session processes do.
func TuneMemory() { worker.TuneMemory() }
