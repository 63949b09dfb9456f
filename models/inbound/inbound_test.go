package inbound

import (
	"net/http"
	"testing"
)

func TestHostName(t *testing.T) {
	for host, want := range map[string]string{"Localhost:80": "localhost", "[::1]:9": "::1", "[::1]": "::1", "example.org.": "example.org",
		"127.0.0.1": "127.0.0.1", "": ""} {
		if got := HostName(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

func TestFromSite(t *testing.T) {
	for _, c := range []struct {
		header, value string
		refused       bool
	}{
		{"Sec-Fetch-Site", "cross-site", true}, {"Sec-Fetch-Site", "same-site", true}, {"Sec-Fetch-Site", "same-origin", false},
		{"Sec-Fetch-Site", "none", false}, {"Origin", "http://localhost:80", false}, {"Origin", "http://example.org", true},
		{"Origin", "null", true}, {"Origin", "http://localhost:81", true}, {"Accept", "*/*", false},
	} {
		r := &http.Request{Host: "localhost:80", Header: http.Header{c.header: {c.value}}}
		if why := FromSite(r); (why != "") != c.refused {
			t.Errorf("%s %s: %q", c.header, c.value, why)
		}
	}
}
