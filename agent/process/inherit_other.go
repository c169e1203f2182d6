//go:build !unix

package process

// ForgetStarter does nothing: there is neither a mask nor a SIGHUP here.
func ForgetStarter() {}
