// Windows is what the tests run on a machine with Windows: it says what reached it.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	switch os.Args[1] {
	case "argv": // what are the arguments?
		for _, a := range os.Args {
			fmt.Printf("%q\n", a)
		}
	case "env":
		for _, e := range os.Environ() {
			fmt.Println(e)
		}
	case "copy": // does input arrive, and end?
		_, _ = io.Copy(os.Stdout, os.Stdin)
		fmt.Fprintln(os.Stderr, "end of input")
	case "exit":
		n, _ := strconv.ParseUint(os.Args[2], 0, 32)
		os.Exit(int(n))
	case "tree": // does what a program leaves behind end?
		for i := range 2 {
			kid := exec.Command(os.Args[0], "linger", fmt.Sprint(os.Args[2], i))
			kid.Stdout = os.Stdout
			if err := kid.Start(); err != nil {
				panic(err)
			}
		}
		fmt.Println("started")
		time.Sleep(time.Hour)
	case "linger":
		time.Sleep(time.Hour)
	case "lines": // lines from a terminal and to it, whatever the standard streams are
		in, err := os.OpenFile("CONIN$", os.O_RDWR, 0)
		if err != nil {
			panic(err)
		}
		out, err := os.OpenFile("CONOUT$", os.O_RDWR, 0)
		if err != nil {
			panic(err)
		}
		var screen struct{ columns, rows, x, y, colours, left, top, right, bottom, mostX, mostY int16 }
		_, _, _ = syscall.NewLazyDLL("kernel32.dll").NewProc("GetConsoleScreenBufferInfo").Call(out.Fd(), uintptr(unsafe.Pointer(&screen)))
		fmt.Fprintf(out, "your turn %dx%d\n", screen.right-screen.left+1, screen.bottom-screen.top+1)
		for lines := bufio.NewScanner(in); lines.Scan(); {
			fmt.Fprintf(out, "got <%s>\n", lines.Text())
			if lines.Text() == "enough" {
				os.Exit(5)
			}
		}
		time.Sleep(time.Hour) // Ctrl-C ends the line as well
	}
}
