package drive

import "testing"

func TestAPathToAnotherMachineIsNotOwn(t *testing.T) {
	for _, path := range []string{`C:\`, `c:\a`, `C:/a/b`, `C:\a\..\b`} {
		if !Own(path) {
			t.Errorf("%q is on no drive", path)
		}
	}
	for _, path := range []string{
		"", `\`, "C:", `C:a`, `\a`, `a\b`, `1:\a`, `\\host\share`, `//host/share`, `\/host/share`, `\\?\C:\a`, `\\?\UNC\host\share\a`, `//?/UNC/host/share`,
		`\??\UNC\host\share`, `\\.\pipe\a`, `\\.\C:\a`, `C:\a:b.exe`, `C:\a\b:$DATA`,
		`Y:\`, `y:/a`, // a share where TestWindows runs this
		`B:\a`, // no drive
	} {
		if Own(path) {
			t.Errorf("%q is on a drive", path)
		}
	}
}
