package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/tucdesk/tucdesk/agent/pipe"
	"github.com/tucdesk/tucdesk/internal/drive"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// attributeJobs is PROC_THREAD_ATTRIBUTE_JOB_LIST.
const attributeJobs = 0x0002000D

// native is what this system knows of a running program.
type native struct {
	handle windows.Handle // of the program
	job    windows.Handle // of it and all that it starts; the only handle: when it is closed, all of it ends
	pid    int

	// mu is held while Signal, for a program that has not exited, uses any of them, and
	// when run, after the exit, closes them: their numbers may then be somebody else's.
	mu sync.Mutex
}

// Pid returns the program's process id.
func (n *native) Pid() int { return n.pid }

// Start runs spec. The caller must call End. Its errors are refusals: CommandNotFound,
// NotExecutable, BadArgument for the folder or for arguments that this system does not
// take, else Unavailable.
func Start(spec Spec) (*Process, error) {
	if !drive.Own(spec.Dir) { // on a share: see candidates
		return nil, refusal.New(refusal.BadArgument, "the working directory is on no drive of this host")
	}
	release, err := holdProgram(spec.File)
	if err != nil {
		return nil, whyNot(spec, err)
	}
	defer release()
	p := &Process{exited: make(chan struct{}), reap: make(chan struct{}), done: make(chan struct{}), ending: make(chan struct{}), alone: spec.Alone}
	var with streams
	if spec.Terminal != nil {
		with, err = p.attachTerminal(*spec.Terminal)
	} else {
		with, err = p.attachPipes()
	}
	if err == nil {
		err = p.launch(spec, with)
	}
	with.close()
	if err != nil {
		p.abandon()
		return nil, whyNot(spec, err)
	}
	go p.run()
	return p, nil
}

// streams are the program's ends of what it is joined to.
type streams struct {
	std     []windows.Handle // input, output, errors; nil on a terminal
	console windows.Handle   // of the terminal, else 0
}

func (s streams) close() {
	for _, h := range s.std {
		_ = windows.CloseHandle(h)
	}
}

func (p *Process) attachPipes() (s streams, err error) {
	var ours [3]*os.File
	for i, way := range []pipe.Direction{pipe.Out, pipe.In, pipe.In} {
		f, theirs, err := pipe.New(way)
		if err != nil {
			for _, f := range ours[:i] {
				_ = f.Close()
			}
			s.close()
			return streams{}, err
		}
		ours[i], s.std = f, append(s.std, theirs)
	}
	p.stdin = ours[0]
	p.stdout = &output{f: file{ours[1]}, exited: p.exited}
	p.stderr = &output{f: file{ours[2]}, exited: p.exited}
	return s, nil
}

// form is a Spec as CreateProcess takes it.
type form struct{ path, line, dir, env *uint16 }

// formOf writes it. What has no form here is refused with BadArgument.
func formOf(spec Spec) (f form, err error) {
	if f.line, err = commandLine(spec); err != nil {
		return f, err
	}
	if f.env, err = environmentBlock(spec.Env); err != nil {
		return f, err
	}
	path, err := text(spec.File.Path)
	if err != nil {
		return f, err
	}
	dir, err := text(spec.Dir)
	if err != nil {
		return f, err
	}
	f.path, f.dir = &path[0], &dir[0]
	return f, nil
}

// launch starts the program in a job of its own. It is in there from its first
// instruction, and so is every process that it makes itself (attack H2); what it has a
// service of the system make is not: see the package. It inherits its three streams and
// no other handle (attack H6).
func (p *Process) launch(spec Spec, with streams) (err error) {
	f, err := formOf(spec)
	if err != nil {
		return err
	}
	if p.job, err = newJob(); err != nil {
		return err
	}
	list, err := windows.NewProcThreadAttributeList(2)
	if err != nil {
		return fmt.Errorf("starting a program: %w", err)
	}
	defer list.Delete()
	info := windows.StartupInfoEx{ProcThreadAttributeList: list.List()}
	info.Cb = uint32(unsafe.Sizeof(info))
	info.Flags = windows.STARTF_USESTDHANDLES // also on a terminal, with none: it would get ours, which are the pair
	err = list.Update(attributeJobs, unsafe.Pointer(&p.job), unsafe.Sizeof(p.job))
	flags := uint32(windows.CREATE_UNICODE_ENVIRONMENT | windows.EXTENDED_STARTUPINFO_PRESENT)
	if with.console != 0 {
		err = errors.Join(err, list.Update(windows.PROC_THREAD_ATTRIBUTE_PSEUDOCONSOLE, *(*unsafe.Pointer)(unsafe.Pointer(&with.console)), unsafe.Sizeof(with.console)))
	} else {
		flags |= windows.CREATE_NO_WINDOW // a console of its own, for Signal to reach, that nobody sees
		info.StdInput, info.StdOutput, info.StdErr = with.std[0], with.std[1], with.std[2]
		err = errors.Join(err, list.Update(windows.PROC_THREAD_ATTRIBUTE_HANDLE_LIST, unsafe.Pointer(&with.std[0]), uintptr(len(with.std))*unsafe.Sizeof(with.std[0])))
	}
	if err != nil {
		return fmt.Errorf("starting a program: %w", err)
	}
	var started windows.ProcessInformation
	err = windows.CreateProcess(f.path, f.line, nil, nil, with.console == 0, flags, f.env, f.dir, &info.StartupInfo, &started)
	runtime.KeepAlive(with.std)
	if err != nil {
		return err
	}
	_ = windows.CloseHandle(started.Thread)
	p.handle, p.pid = started.Process, int(started.ProcessId)
	return nil
}

// newJob makes a job that ends with its handle.
func newJob() (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, fmt.Errorf("making a job: %w", err)
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits))); err != nil {
		_ = windows.CloseHandle(job)
		return 0, fmt.Errorf("making a job: %w", err)
	}
	return job, nil
}

// abandon frees what a program that was not started would have had.
func (p *Process) abandon() {
	if p.stdin != nil {
		p.hangUp()
		p.closeFiles()
	}
	if p.job != 0 {
		_ = windows.CloseHandle(p.job)
	}
	p.waitTerminal()
}

func (p *Process) waitTerminal() {
	if c, ok := p.tty.(*console); ok {
		c.wait()
	}
}

// run waits for the program. The handle keeps its number from being given to another
// until End is done with it.
func (p *Process) run() {
	defer close(p.done)
	e := p.await()
	p.flush()
	p.finish(e)
	<-p.reap
	p.forget()
	p.waitTerminal()
}

// forget closes what is known of the program. Signal may be on its way.
func (p *Process) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = windows.CloseHandle(p.handle)
	_ = windows.CloseHandle(p.job)
}

// await waits for the program's end. Its code is all that this system says, 32 bits of
// it: a program that was killed or crashed has the code of why, as 0xC0000005.
func (p *Process) await() Exit {
	var code uint32
	if _, err := windows.WaitForSingleObject(p.handle, windows.INFINITE); err != nil {
		return Exit{Code: 255} // there is no truth to be had
	}
	if err := windows.GetExitCodeProcess(p.handle, &code); err != nil {
		return Exit{Code: 255}
	}
	return Exit{Code: int(code)}
}

// killedCode is the exit code of what is ended here: STATUS_CONTROL_C_EXIT, by which
// programs of this system say that somebody else wanted it.
const killedCode = 0xC000013A

// sweep ends every process that is left: what saw its input or terminal close gets a
// moment, the rest is killed. The job leaves none out that the program made.
func (p *Process) sweep() {
	deadline := time.Now().Add(killAfter)
	for pause := time.Millisecond; p.left() > 0 && time.Now().Before(deadline); pause = min(2*pause, 50*time.Millisecond) {
		time.Sleep(pause)
	}
	_ = windows.TerminateJobObject(p.job, killedCode)
}

// Stays reports false: the job ends all that is in it, and no process can leave one.
func (p *Process) Stays() bool { return false }

// left counts the processes of the job; where that is not told, one.
func (p *Process) left() uint32 {
	var counts struct {
		userTime, kernelTime, periodUser, periodKernel int64
		faults, processes, active, terminated          uint32
	}
	if err := windows.QueryInformationJobObject(p.job, windows.JobObjectBasicAccountingInformation, uintptr(unsafe.Pointer(&counts)), uint32(unsafe.Sizeof(counts)), nil); err != nil {
		return 1
	}
	return counts.active
}

// file is a pipe as a source.
type file struct{ *os.File }

// soon is time enough for a read of what is there already; our choice.
const soon = 5 * time.Millisecond

func (f file) readNow(b []byte) int {
	_ = f.SetReadDeadline(time.Now().Add(soon))
	n, _ := f.Read(b)
	return max(n, 0)
}

func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, windows.ERROR_BROKEN_PIPE)
}

// whyNot names why spec did not start.
func whyNot(spec Spec, err error) error {
	if refusal.Of(err) != "" {
		return err
	}
	if info, e := os.Stat(spec.Dir); e != nil || !info.IsDir() {
		return refusal.New(refusal.BadArgument, "the working directory is not there, or its user may not enter it")
	}
	switch {
	case errors.Is(err, windows.ERROR_ACCESS_DENIED), errors.Is(err, windows.ERROR_SHARING_VIOLATION):
		return refusal.New(refusal.NotExecutable, "its user may not run this file, or it is being written to")
	case errors.Is(err, windows.ERROR_BAD_EXE_FORMAT), errors.Is(err, windows.ERROR_EXE_MACHINE_TYPE_MISMATCH):
		return refusal.New(refusal.NotExecutable, "the file is no program of this system")
	case errors.Is(err, windows.ERROR_FILE_NOT_FOUND), errors.Is(err, windows.ERROR_PATH_NOT_FOUND):
		return refusal.New(refusal.CommandNotFound, "no such program on this host")
	case errors.Is(err, windows.ERROR_ELEVATION_REQUIRED):
		return refusal.New(refusal.NotExecutable, "the program wants more rights than the agent's user has")
	}
	var number windows.Errno
	if errors.As(err, &number) {
		return refusal.New(refusal.Unavailable, "the host cannot start a program: %s", number.Error())
	}
	return refusal.New(refusal.Unavailable, "the host cannot start a program")
}
