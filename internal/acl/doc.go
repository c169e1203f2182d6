// Package acl writes access lists of Windows that name the user of this process, for what
// is made with one from its first moment. It is empty on other systems: they have mode bits.
package acl
