package process

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Confined calls start: what this system has is in SealPrograms.
func Confined(_ string, start func() error) error { return start() }

// SealPrograms takes from this process, for good, the means to start another one: it
// puts it into a job that has room for one. Nobody can change that, because the job has
// no name and no handle any more.
func SealPrograms() error {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return fmt.Errorf("giving up to run programs: %v", err)
	}
	defer windows.CloseHandle(job)
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_ACTIVE_PROCESS
	limits.BasicLimitInformation.ActiveProcessLimit = 1
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits))); err != nil {
		return fmt.Errorf("giving up to run programs: %v", err)
	}
	if err := windows.AssignProcessToJobObject(job, windows.CurrentProcess()); err != nil {
		return fmt.Errorf("giving up to run programs: %v", err)
	}
	return nil
}

// Missing says what of Linux's Confined is not here.
func Missing() error {
	return errors.New("this system keeps them from running programs alone: they may read and write what their user may")
}
