package outbound

import (
	"net/netip"
	"strings"
	"testing"
)

// Addresses at which a cloud has its credentials are not connected to, however they are written.
func TestForbiddenAddresses(t *testing.T) {
	for a, want := range map[string]bool{"169.254.0.1": true, "::ffff:169.254.9.9": true, "fe80::2": true,
		"127.0.0.1": false, "10.0.0.1": false, "2001:db8::1": false} {
		if forbiddenIP(netip.MustParseAddr(a)) != want {
			t.Errorf("%s: forbidden %v", a, !want)
		}
	}
	if _, err := Client(1).Get("http://169.254.169.254:1/"); err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("dialled: %v", err)
	}
}
