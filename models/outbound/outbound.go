// Package outbound is what programs need that speak to servers of others: a client that sends keys and data nowhere else than
// it was told to, and a form for what servers say in which it can stand in messages and on terminals.
package outbound

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Client makes a client with connections kept for so many requests at once. It follows no redirect, as that would send what was
// asked, and perhaps the key, to a host that nobody named: an answer of that kind is an answer. It connects to no address of the
// machine's own network where a cloud has its credentials. Whole requests are bounded by their context.
func Client(concurrency int) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 20 * time.Second, Control: guard}).DialContext,
			TLSHandshakeTimeout:    20 * time.Second,
			MaxIdleConnsPerHost:    concurrency,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 256 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Plain is an error's text without the URL that net/http puts in front, which may hold a key.
func Plain(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err.Error()
}

// Masked is a text without the secrets: some servers repeat a key in their answer.
func Masked(text string, secrets ...string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "(key)")
		}
	}
	return text
}

// Visible is a text in which nothing acts on a terminal: what does not print is written out, as in \x1b, line breaks too.
func Visible(text string) string {
	if !strings.ContainsFunc(text, hidden) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i, width := 0, 0; i < len(text); i += width {
		var r rune
		r, width = utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && width == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(text[i])|0x100, 16)[1:])
		case hidden(r):
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hidden reports control characters, and those that change the direction or the look of their neighbours.
func hidden(r rune) bool { return !unicode.IsPrint(r) }

// Short is a text of at most so many bytes.
func Short(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
