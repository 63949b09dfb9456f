// Package inbound is what programs need that answer requests over HTTP on somebody's own machine, where a browser may be made to send
// some by a web page of another site.
package inbound

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// HostName is a host without its port, in small letters. A server looks whether it is a name of its own: a page may have been told that
// its own name is that of this machine (DNS rebinding), and then the name that the browser sends is the page's.
func HostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.Trim(strings.TrimSuffix(host, "."), "[]"))
}

// FromSite says why a request is not answered that a web page of another site has made a browser send; "" of any other.
func FromSite(r *http.Request) string {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return "requests of other web sites are not answered"
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		if u, err := url.Parse(origin); err != nil || u.Host == "" || u.Host != r.Host {
			return fmt.Sprintf("requests of the web site %q are not answered", origin)
		}
	}
	return ""
}
