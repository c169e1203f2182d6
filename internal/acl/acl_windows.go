package acl

import (
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// The lists that there are, in the language of security descriptors: P takes nothing over
// from the folder above, OI and CI hand entries on to what is made in a folder.
const (
	// OneUser is for what nobody else has business with, administrators included.
	OneUser = "D:P(A;;GA;;;USER)"
	// Private is for files and folders: the system and its administrators, who may take
	// any right anyway, can back them up.
	Private = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;USER)"
)

// Attributes makes one of the lists into what calls that make something take. Nothing
// inherits a handle of it.
func Attributes(list string) (*windows.SecurityAttributes, error) {
	self, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("making an access list: whose process this is: %v", err)
	}
	sd, err := windows.SecurityDescriptorFromString(strings.ReplaceAll(list, "USER", self.User.Sid.String()))
	if err != nil {
		return nil, fmt.Errorf("making an access list: %v", err)
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	return sa, nil
}
