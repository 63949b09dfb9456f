package verify

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// A verifier's address comes with a recipe, which may come from somebody else. It must not reach the addresses at which
// a cloud gives its machines their credentials, neither by name nor by a redirect.

// metadataHosts are names of such addresses.
var metadataHosts = []string{"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}

// metadataAddresses are those that are not link-local.
var metadataAddresses = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("168.63.129.16")}

func forbiddenHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, m := range metadataHosts {
		if host == m {
			return true
		}
	}
	a, err := netip.ParseAddr(host)
	return err == nil && forbiddenIP(a)
}

// forbiddenIP reports link-local addresses (169.254.0.0/16, fe80::/10), also written as IPv6, and those of cloud metadata.
func forbiddenIP(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, m := range metadataAddresses {
		if a == m {
			return true
		}
	}
	return a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast()
}

// forbiddenAddress says that a name leads to such an address.
type forbiddenAddress struct{ address string }

func (e *forbiddenAddress) Error() string {
	return fmt.Sprintf("the name leads to %s, a link-local or metadata address; no verifier is asked there", e.address)
}

// guardedClient follows no redirect, so that a key goes only where it was meant to go, and looks at the address that a
// name leads to when it connects.
func guardedClient(connections int) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || forbiddenIP(at.Addr()) {
			return &forbiddenAddress{address}
		}
		return nil
	}}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = dialer.DialContext
	t.MaxIdleConnsPerHost = connections
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
