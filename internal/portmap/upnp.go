package portmap

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/dcps/internetgateway2"
	"github.com/huin/goupnp/soap"
)

// Limits of UPnP; our choice.
const (
	maxReply    = 2 << 10   // bytes of an answer to a search
	maxReplies  = 8         // that are looked at
	maxBody     = 128 << 10 // bytes of XML
	maxHeaders  = 8 << 10
	searchWait  = time.Second // for an answer to a search
	portTries   = 3           // where another machine has the port
	description = "TucDesk"   // what the router's owner sees
)

// Addresses and names of UPnP Device Architecture 1.1.
const (
	searchPort   = 1900
	searchTarget = "urn:schemas-upnp-org:device:InternetGatewayDevice:1" // what routers of version 2 answer to as well
)

var searchGroup = netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 255, 255, 250}), searchPort)

// forwarder is a service of the router that forwards ports, in one of its versions.
type forwarder interface {
	AddPortMappingCtx(ctx context.Context, remote string, external uint16, proto string, internal uint16, client string, enabled bool, description string, lease uint32) error
	GetSpecificPortMappingEntryCtx(ctx context.Context, remote string, external uint16, proto string) (internal uint16, client string, enabled bool, description string, lease uint32, err error)
	DeletePortMappingCtx(ctx context.Context, remote string, external uint16, proto string) error
	GetExternalIPAddressCtx(ctx context.Context) (string, error)
}

// uPnP asks by UPnP. The library's own discovery believes everybody in the network
// and reads answers of any length; so search and description are ours, and the
// library has the services.
func uPnP(ctx context.Context, g Gateway, port, wish uint16) (mapping, error) {
	at, err := search(ctx, g)
	if err != nil {
		return mapping{}, fmt.Errorf("looking for a router by UPnP: %v", err)
	}
	client := boundedClient(g.Addr)
	root, err := describe(ctx, client, at)
	if err != nil {
		return mapping{}, fmt.Errorf("reading what the router says of itself: %v", err)
	}
	for _, f := range forwarders(root, at, client) {
		var m mapping
		if m, err = forward(ctx, f, g, port, wish); err == nil {
			return m, nil
		}
	}
	if err == nil {
		err = errors.New("the router has no service that forwards ports")
	}
	return mapping{}, fmt.Errorf("asking %v by UPnP: %v", g.Addr, err)
}

// search asks the gateway, and its network because many routers answer nothing
// else, and returns where the gateway describes itself.
func search(ctx context.Context, g Gateway) (*url.URL, error) {
	ctx, cancel := context.WithTimeout(ctx, searchWait)
	defer cancel()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.Source, 0)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	ask := fmt.Sprintf("M-SEARCH * HTTP/1.1\r\nHOST: %v\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: %s\r\n\r\n", searchGroup, searchTarget)
	for _, to := range []netip.AddrPort{netip.AddrPortFrom(g.Addr, searchPort), searchGroup} {
		_, _ = conn.WriteToUDPAddrPort([]byte(ask), to) // one of the two will do
	}
	buf := make([]byte, maxReply)
	for range maxReplies {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return nil, errors.New("no answer")
		}
		if from.Addr().Unmap() != g.Addr {
			continue
		}
		if at := location(buf[:n], g.Addr); at != nil {
			return at, nil
		}
	}
	return nil, errors.New("no answer of use")
}

// location takes the address of the description from an answer to a search, if it
// is one and leads to the gateway itself.
func location(reply []byte, gateway netip.Addr) *url.URL {
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(reply)), nil)
	if err != nil {
		return nil
	}
	defer r.Body.Close()
	at, err := url.Parse(r.Header.Get("Location"))
	if err != nil || r.StatusCode != http.StatusOK || !leadsTo(at, gateway) {
		return nil
	}
	return at
}

// leadsTo reports whether a call of u reaches nobody but the gateway.
func leadsTo(u *url.URL, gateway netip.Addr) bool {
	host, err := netip.ParseAddr(u.Hostname())
	return err == nil && host == gateway && u.Scheme == "http" && u.User == nil
}

// bounded is a transport to one host that ends every answer after maxBody.
type bounded struct {
	http.Transport
	gateway netip.Addr
}

// boundedClient calls the gateway only, whatever XML says, and follows nobody
// elsewhere.
func boundedClient(gateway netip.Addr) http.Client {
	return http.Client{
		Timeout:       searchLimit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &bounded{gateway: gateway, Transport: http.Transport{
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeaders,
		}},
	}
}

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if !leadsTo(r.URL, b.gateway) {
		return nil, fmt.Errorf("calling %q: not the router", r.URL.Host)
	}
	resp, err := b.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxBody), resp.Body}
	return resp, nil
}

// describe fetches what the router says of itself.
func describe(ctx context.Context, client http.Client, at *url.URL) (*goupnp.RootDevice, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	return parseDescription(resp.Body, at)
}

func parseDescription(r io.Reader, at *url.URL) (*goupnp.RootDevice, error) {
	root := new(goupnp.RootDevice)
	d := xml.NewDecoder(r)
	d.DefaultSpace = goupnp.DeviceXMLNamespace
	if err := d.Decode(root); err != nil {
		return nil, errors.New("it is no description of a device")
	}
	base := at
	if root.URLBaseStr != "" {
		var err error
		if base, err = url.Parse(root.URLBaseStr); err != nil {
			return nil, errors.New("its base is no address")
		}
	}
	root.SetURLBase(base)
	return root, nil
}

// forwarders are the services of the router that forward ports, the newest first.
func forwarders(root *goupnp.RootDevice, at *url.URL, client http.Client) (list []forwarder) {
	v2, _ := internetgateway2.NewWANIPConnection2ClientsFromRootDevice(root, at)
	for _, c := range v2 {
		c.SOAPClient.HTTPClient = client
		list = append(list, c)
	}
	v1, _ := internetgateway2.NewWANIPConnection1ClientsFromRootDevice(root, at)
	for _, c := range v1 {
		c.SOAPClient.HTTPClient = client
		list = append(list, c)
	}
	ppp, _ := internetgateway2.NewWANPPPConnection1ClientsFromRootDevice(root, at)
	for _, c := range ppp {
		c.SOAPClient.HTTPClient = client
		list = append(list, c)
	}
	return list
}

// forward asks one service.
func forward(ctx context.Context, f forwarder, g Gateway, port, wish uint16) (mapping, error) {
	text, err := f.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return mapping{}, plain(err)
	}
	external, err := netip.ParseAddr(text)
	if err != nil {
		return mapping{}, errors.New("its outer address is none")
	}
	for try, at := range [portTries]uint16{cmp.Or(wish, port), dynamic(), dynamic()} {
		err = f.AddPortMappingCtx(ctx, "", at, "UDP", port, g.Source.String(), true, description, uint32(lease/time.Second))
		if err == nil {
			return mapping{
				external: netip.AddrPortFrom(external, at), life: lease,
				release: func(ctx context.Context) error { return f.DeletePortMappingCtx(ctx, "", at, "UDP") },
			}, nil
		}
		var refused *soap.SOAPFaultError
		if !errors.As(err, &refused) && (try > 0 || wish == 0) {
			undo(ctx, f, g, port, at)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return mapping{}, plain(err)
}

// dynamic is a port that nobody has a right to (RFC 6335, section 6).
func dynamic() uint16 { return uint16(49152 + rand.N(16384)) }

// undo takes back a mapping whose answer did not come, as when the session ended
// meanwhile. The port may be another machine's, and many routers let anybody
// delete anything; so it is looked at first.
func undo(ctx context.Context, f forwarder, g Gateway, port, external uint16) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellLimit)
	defer cancel()
	internal, client, _, _, _, err := f.GetSpecificPortMappingEntryCtx(ctx, "", external, "UDP")
	if err == nil && internal == port && client == g.Source.String() {
		_ = f.DeletePortMappingCtx(ctx, "", external, "UDP") // it ends by itself
	}
}

// plain keeps what a stranger wrote, which the library quotes, out of errors.
func plain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return errors.New("it refused, or its answer cannot be read")
}
