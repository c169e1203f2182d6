package keyfile

import "io/fs"

// On Windows the state folders lie in the user's profile, whose access list
// keeps other users out; the mode bits that Go reports there say nothing.

func checkPrivate(string, fs.FileInfo) error    { return nil }
func checkDirPrivate(string, fs.FileInfo) error { return nil }

// syncDir does nothing: NTFS journals names.
func syncDir(string) error { return nil }
