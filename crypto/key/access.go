package key

import "crypto"

// AccessSigner lends the rendezvous' access key to a JWT library, which wants
// the standard interface. Only this role has such a door: its signatures are
// JWTs (protocol 4.1, "JWT stays a JWT") and carry no label of ours.
func AccessSigner(p Private[Access]) crypto.Signer { return p.k() }
