// Package socks reads what a SOCKS client asks for: versions 4, 4a and 5, CONNECT
// alone. Who may come in is the listener's business, as with ssh -D: it is on
// loopback, and no client has to show a password.
//
//	version 4   04 CMD port(2) address(4) user 00
//	version 4a  the same with address 0.0.0.x, x not 0, and behind it: name 00
//	answer      00 5a (yes) or 5b (no), six zeros
//
//	version 5   05 n methods(n)                 answer 05 00, or 05 ff without method 00
//	            05 CMD 00 type address port(2)  answer 05 REASON 00 01, six zeros
//	            type 01: 4 bytes; 03: a length and a name; 04: 16 bytes
//
// Worked example, version 5 to web:80:
//
//	client 05 01 00                           server 05 00
//	client 05 01 00 03 03 77 65 62 00 50      server 05 00 00 01 00 00 00 00 00 00
//
// Not a byte is read beyond the request: what follows is the connection's own.
package socks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// Limits of strings, in bytes. A name in version 5 has one byte for its length; the
// others are our choice.
const (
	maxName = 255
	maxUser = 255
)

// Reason is the answer of version 5; version 4 knows yes and no only.
type Reason byte

// The reasons of RFC 1928, section 6, that we have a use for.
const (
	Granted    Reason = 0 // the connection stands
	Failed     Reason = 1 // something went wrong, nothing in particular
	NotAllowed Reason = 2 // the policy has no rule for the target
	Refused    Reason = 5 // nobody answers at the target
	noCommand  Reason = 7
	noAddress  Reason = 8
)

const (
	version4   = 4
	version5   = 5
	connect    = 1
	granted4   = 0x5a
	refused4   = 0x5b
	noMethod   = 0xff
	openToAll  = 0 // the method of version 5 that asks for no password
	typeIPv4   = 1
	typeName   = 3
	typeIPv6   = 4
	headLength = 4 // of a request of version 5
)

var errMalformed = errors.New("socks: malformed request")

// Request is what a client wants: one TCP connection to Host, a name or an address
// without brackets, and Port.
type Request struct {
	Host string // as the client sent it; not resolved here
	Port uint16 // likewise

	version byte
	w       io.Writer
}

// Accept speaks with a client up to its request, which the caller answers with
// Answer. One that is malformed, or is for anything but a connection (BIND, UDP),
// is answered here and is an error. The caller bounds the time.
func Accept(client io.ReadWriter) (*Request, error) {
	var version [1]byte
	if _, err := io.ReadFull(client, version[:]); err != nil {
		return nil, err
	}
	r := &Request{version: version[0], w: client}
	switch version[0] {
	case version4:
		return r.finish(r.read4(client))
	case version5:
		if err := r.greet(client); err != nil {
			return nil, err
		}
		return r.finish(r.read5(client))
	}
	return nil, fmt.Errorf("socks: no version %d", version[0])
}

// finish tells a client why its request is none.
func (r *Request) finish(reason Reason, err error) (*Request, error) {
	if err != nil {
		_ = r.Answer(reason)
		return nil, err
	}
	return r, nil
}

func (r *Request) read4(in io.Reader) (Reason, error) {
	var head [7]byte // command, port, address
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return Failed, err
	}
	if _, err := readString(in, maxUser); err != nil {
		return Failed, err
	}
	addr := netip.AddrFrom4([4]byte(head[3:]))
	r.Host, r.Port = addr.String(), binary.BigEndian.Uint16(head[1:])
	if b := addr.As4(); b[0] == 0 && b[1] == 0 && b[2] == 0 && b[3] != 0 {
		name, err := readString(in, maxName)
		if err != nil {
			return Failed, err
		}
		r.Host = name
	}
	return r.check(head[0])
}

// greet agrees on a method.
func (r *Request) greet(client io.ReadWriter) error {
	var n [1]byte
	if _, err := io.ReadFull(client, n[:]); err != nil {
		return err
	}
	methods := make([]byte, n[0])
	if _, err := io.ReadFull(client, methods); err != nil {
		return err
	}
	for _, m := range methods {
		if m == openToAll {
			_, err := client.Write([]byte{version5, openToAll})
			return err
		}
	}
	_, _ = client.Write([]byte{version5, noMethod})
	return errors.New("socks: the client offers no method without a password")
}

func (r *Request) read5(in io.Reader) (Reason, error) {
	var head [headLength]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return Failed, err
	}
	if head[0] != version5 || head[2] != 0 {
		return Failed, errMalformed
	}
	size := 0
	switch head[3] {
	case typeIPv4:
		size = 4
	case typeIPv6:
		size = 16
	case typeName:
		var n [1]byte
		if _, err := io.ReadFull(in, n[:]); err != nil {
			return Failed, err
		}
		size = int(n[0])
	default:
		return noAddress, fmt.Errorf("socks: no addresses of type %d", head[3])
	}
	body := make([]byte, size+2)
	if _, err := io.ReadFull(in, body); err != nil {
		return Failed, err
	}
	r.Host, r.Port = string(body[:size]), binary.BigEndian.Uint16(body[size:])
	if addr, ok := netip.AddrFromSlice(body[:size]); ok && head[3] != typeName {
		r.Host = addr.String()
	}
	return r.check(head[1])
}

// check refuses what cannot be connected to. A name goes no further than to the
// machine's resolver, and into what people read; so control bytes are refused here.
func (r *Request) check(command byte) (Reason, error) {
	switch {
	case command != connect:
		return noCommand, fmt.Errorf("socks: no command %d: connections alone, no UDP", command)
	case r.Host == "" || r.Port == 0:
		return Failed, errMalformed
	}
	for i := range len(r.Host) {
		if c := r.Host[i]; c <= ' ' || c == 0x7f {
			return Failed, errMalformed
		}
	}
	return Granted, nil
}

// Answer says how it went. After Granted the connection is the client's.
func (r *Request) Answer(reason Reason) error {
	var answer []byte
	switch {
	case r.version == version5:
		answer = []byte{version5, byte(reason), 0, typeIPv4, 0, 0, 0, 0, 0, 0}
	case reason == Granted:
		answer = []byte{0, granted4, 0, 0, 0, 0, 0, 0}
	default:
		answer = []byte{0, refused4, 0, 0, 0, 0, 0, 0}
	}
	_, err := r.w.Write(answer)
	return err
}

// readString reads up to a zero byte, one byte at a time: a connection's first
// bytes may be right behind it.
func readString(in io.Reader, limit int) (string, error) {
	var b [1]byte
	var s []byte
	for {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return "", err
		}
		if b[0] == 0 {
			return string(s), nil
		}
		if s = append(s, b[0]); len(s) > limit {
			return "", errMalformed
		}
	}
}
