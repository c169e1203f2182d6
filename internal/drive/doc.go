// Package drive tells paths on a machine's own drives from those by which Windows asks
// another machine or a device. There `\\host\share\file` is an absolute path as any other,
// and merely looking whether it is there has Windows show the credentials of the process'
// user to host. So whoever is given a path by somebody who may have no right here asks
// Own before anything looks at it.
//
// A share that somebody on the machine gave a letter (`net use`) is another machine's all
// the same. To learn that of a letter Windows may ask the share's server, but that is one
// whom the machine's own people chose, not whoever names the path. A link or a junction on
// a drive of the machine can lead to a share as well, and is not looked for here.
package drive
