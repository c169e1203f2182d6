//go:build !linux

package portmap

import "errors"

// defaultGateway is known on Linux only, yet: elsewhere no router is asked.
func defaultGateway() (Gateway, error) {
	return Gateway{}, errors.New("this program does not know the routes of this system")
}
