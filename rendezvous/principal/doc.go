// Package principal says who is calling: it mints and verifies the operators'
// JWTs, opens agents' registrations, and is the only place where a TeamID can
// be made, so that "which team" is always the result of a verification and
// never a field of a request (attacks C16, K10).
//
// An operator's token is a compact JWS with exactly this header and these
// claims, in this order and in no other spelling:
//
//	{"alg":"EdDSA","kid":"<access key id>","typ":"tucdesk-access+jwt"}
//	{"iss","aud","jti","iat","nbf","exp","team_id","email","person","role","cnf":{"kid"}}
//
// iss is the access key's id, aud the same id behind "tucdesk-api:", times are
// whole seconds, role is a name of package policy, and cnf.kid is the operator's
// key: whoever presents the token at a sensitive route must also sign a proof
// with that key, so a stolen token alone is worth little (protocol 4.2).
//
// The JWT library looks at header and claims before it checks anything, ignores
// crit, typ, cty and b64, takes fractional and quoted times, and lets the last
// of two duplicate claims win. All of that is refused here, before or after it.
//
// Source: protocol 4.2; attacks C.
package principal
