package outbound

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"plain \u00e9 \u4f60": "plain \u00e9 \u4f60",
		"a\x1b[2Jb":           `a\x1b[2Jb`,
		"a\nb\tc":             `a\nb\tc`,
		"a\x9bb\u202ec\u200b": `a\x9bb\u202ec\u200b`,
		"\xff":                `\xff`,
		"\u009b":              `\u009b`,
	} {
		if got := Visible(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := Masked("a key and another", "key", "", "another"); got != "a (key) and (key)" {
		t.Error(got)
	}
	if got := Short("abc\u00e9def", 4); got != "abc..." {
		t.Error(got)
	}
}

// A redirect is an answer; what was asked goes nowhere else.
func TestNoRedirects(t *testing.T) {
	followed := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer other.Close()
	s := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	resp, err := Client(1).Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusTemporaryRedirect || followed {
		t.Errorf("%d, followed: %v", resp.StatusCode, followed)
	}
}
