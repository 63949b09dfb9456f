package outbound

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
)

// The address of an endpoint or of a verifier comes with a recipe, which may come from somebody else. It must not reach the addresses
// at which a cloud gives its machines their credentials, neither by name nor by a redirect.

// metadataHosts are names of such addresses.
var metadataHosts = []string{"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}

// metadataAddresses are those that are not link-local.
var metadataAddresses = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("168.63.129.16")}

// Forbidden reports names of such addresses, and the addresses themselves.
func Forbidden(host string) bool {
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

// ForbiddenError says that a name leads to such an address.
type ForbiddenError struct{ Address string }

func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("the name leads to %s, a link-local or metadata address; nothing is asked there", e.Address)
}

// guard looks at the address that a name leads to when it is connected to.
func guard(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || forbiddenIP(at.Addr()) {
		return &ForbiddenError{address}
	}
	return nil
}
