package link

import "math/rand/v2"

// Ports are UDP ports from First to Last, for machines whose firewall lets these in and
// no others. The zero value is any port. A session takes one of each family.
type Ports struct{ First, Last uint16 }

func (p Ports) has(port uint16) bool { return p.First != 0 && p.First <= port && port <= p.Last }

// maxPorts is how many of them a socket tries; our choice.
const maxPorts = 1000

// order are the ports to try: those of p, shuffled, so that sessions that begin at the
// same time do not race each other through them, and then any.
func (p Ports) order() (list []uint16) {
	if p.First != 0 && p.First <= p.Last {
		for _, i := range rand.Perm(int(p.Last) - int(p.First) + 1) {
			list = append(list, p.First+uint16(i))
		}
	}
	return append(list[:min(len(list), maxPorts)], 0)
}
