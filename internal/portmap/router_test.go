package portmap

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outer is the address that test routers have.
var outer = netip.MustParseAddr("203.0.113.9")

// router is one at an address of loopback that no other test has. It speaks what a
// test starts.
type router struct {
	t    *testing.T
	addr netip.Addr
	wg   sync.WaitGroup

	mu    sync.Mutex
	held  map[uint16]uint16 // guarded by mu; outer port: inner one
	asked int               // guarded by mu; for a mapping
	life  uint32            // guarded by mu; seconds that NAT-PMP grants
	deaf  bool              // guarded by mu; drops what asks for a mapping
	mute  bool              // guarded by mu; makes mappings and does not say so
	lost  int               // guarded by mu; for lack of ears
}

func newRouter(t *testing.T) *router {
	r := &router{t: t, held: map[uint16]uint16{}, life: 600}
	r.addr = netip.AddrFrom4([4]byte{127, byte(1 + rand.N(250)), byte(rand.N(250)), byte(1 + rand.N(250))})
	t.Cleanup(r.wg.Wait)
	return r
}

func (r *router) gateway() (Gateway, error) {
	return Gateway{Addr: r.addr, Source: netip.MustParseAddr("127.0.0.1")}, nil
}

func (r *router) mapped(port uint16) uint16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for out, in := range r.held {
		if in == port {
			return out
		}
	}
	return 0
}

// set changes what the router does.
func (r *router) set(deaf, mute bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf, r.mute = deaf, mute
}

func (r *router) missed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// udp serves a port of the router until the test ends.
func (r *router) udp(port uint16, answer func(q []byte) []byte) {
	r.t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.addr, port)))
	if err != nil {
		r.t.Skipf("this machine lets nobody listen at %v: %v", r.addr, err)
	}
	r.t.Cleanup(func() { c.Close() })
	r.wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if a := answer(buf[:n]); a != nil {
				_, _ = c.WriteToUDPAddrPort(a, from)
			}
		}
	})
}

// pmp answers as RFC 6886, sections 3.2 and 3.3 say.
func (r *router) pmp(q []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case len(q) == 2 && q[0] == 0 && q[1] == 0:
		ip := outer.As4()
		return append([]byte{0, 128, 0, 0, 0, 0, 0, 1}, ip[:]...)
	case len(q) == 12 && q[0] == 0 && q[1] == 1:
		in, wish, life := binary.BigEndian.Uint16(q[4:]), binary.BigEndian.Uint16(q[6:]), binary.BigEndian.Uint32(q[8:])
		if r.deaf && life > 0 {
			r.lost++
			return nil
		}
		for out, port := range r.held {
			if port == in {
				delete(r.held, out)
			}
		}
		if life > 0 {
			r.asked++
			wish++ // another one than was wished for
			r.held[wish] = in
			if life = r.life; r.mute {
				return nil
			}
		}
		a := []byte{0, 129, 0, 0, 0, 0, 0, 1}
		a = binary.BigEndian.AppendUint16(a, in)
		a = binary.BigEndian.AppendUint16(a, wish)
		return binary.BigEndian.AppendUint32(a, life)
	}
	return nil
}

// device is the description of a router of version 1, as short as they come.
const device = `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">%s<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device><deviceList><device><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><serviceId>x</serviceId><SCPDURL>/s</SCPDURL><controlURL>%s</controlURL><eventSubURL>/e</eventSubURL></service></serviceList></device></deviceList></device></deviceList></device></root>`

// upnp starts search and services. The description is what page makes of the
// service's own address.
func (r *router) upnp(page func(control string) string) {
	l, err := net.Listen("tcp4", net.JoinHostPort(r.addr.String(), "0"))
	if err != nil {
		r.t.Skipf("this machine lets nobody listen at %v: %v", r.addr, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/root.xml", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page("/control")) })
	mux.HandleFunc("/control", r.control)
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	s.Start()
	r.t.Cleanup(s.Close)
	r.udp(searchPort, func(q []byte) []byte {
		if !strings.HasPrefix(string(q), "M-SEARCH * HTTP/1.1\r\n") || !strings.Contains(string(q), searchTarget) {
			return nil
		}
		return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: %s\r\nLOCATION: %s/root.xml\r\nEXT:\r\n\r\n", searchTarget, s.URL)
	})
}

var argument = regexp.MustCompile(`<(New\w+)>([^<]*)</`)

// control is WANIPConnection:1; the first port that is asked for is taken.
func (r *router) control(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	in := map[string]string{}
	for _, m := range argument.FindAllStringSubmatch(string(body), -1) {
		in[m[1]] = m[2]
	}
	out, _ := strconv.ParseUint(in["NewExternalPort"], 10, 16)
	inner, _ := strconv.ParseUint(in["NewInternalPort"], 10, 16)
	_, action, _ := strings.Cut(strings.Trim(q.Header.Get("SOAPACTION"), `"`), "#")
	answer := ""
	r.mu.Lock()
	defer r.mu.Unlock()
	switch action {
	case "GetExternalIPAddress":
		answer = "<NewExternalIPAddress>" + outer.String() + "</NewExternalIPAddress>"
	case "AddPortMapping":
		if r.asked++; r.asked == 1 {
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring></s:Fault></s:Body></s:Envelope>`)
			return
		}
		if in["NewProtocol"] != "UDP" || in["NewInternalClient"] != "127.0.0.1" || in["NewLeaseDuration"] != "600" {
			r.t.Errorf("asked for %v", in)
		}
		r.held[uint16(out)] = uint16(inner)
		if r.mute {
			r.mu.Unlock()
			<-q.Context().Done()
			r.mu.Lock()
		}
	case "GetSpecificPortMappingEntry":
		client := "127.0.0.1"
		if r.held[uint16(out)] == 0 {
			client = "192.168.1.77"
		}
		answer = fmt.Sprintf("<NewInternalPort>%d</NewInternalPort><NewInternalClient>%s</NewInternalClient><NewEnabled>1</NewEnabled><NewPortMappingDescription>x</NewPortMappingDescription><NewLeaseDuration>60</NewLeaseDuration>", r.held[uint16(out)], client)
	case "DeletePortMapping":
		if r.held[uint16(out)] == 0 {
			r.t.Errorf("somebody else's port %d was deleted", out)
		}
		delete(r.held, uint16(out))
	}
	fmt.Fprintf(w, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><u:%[1]sResponse xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">%[2]s</u:%[1]sResponse></s:Body></s:Envelope>`, action, answer)
}

// until polls.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
