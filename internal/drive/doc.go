// Package drive tells paths on a machine's own drives from those by which Windows asks
// another machine or a device. There `\\host\share\file` is an absolute path as any other,
// and merely looking whether it is there has Windows show the credentials of the process'
// user to host. So whoever is given a path by somebody who may have no right here asks
// Own before anything looks at it.
package drive
