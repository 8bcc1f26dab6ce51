package aci

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxErrorText bounds an error's message, maxEventText an event's (the API
	// server takes 1024 bytes).
	maxErrorText = 400
	maxEventText = 1000
	// minSecret: shorter strings are in every text and give nothing away.
	minSecret = 4

	redacted = "[redacted]"
)

var (
	urlRule   = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+`)
	hostRule  = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s"'<>/@]*@)?([^\s"'<>/?#]*)([^\s"'<>?#]*)[^\s"'<>]*`)
	tokenRule = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}[A-Za-z0-9_.=-]*`)
	pairRule  = regexp.MustCompile(`(?i)\b(bearer\s+|(?:sig|signature|password|passwd|secret|client_secret|token|access_token|accountkey)["']?\s*[=:]\s*["']?)[^\s"',;&]+`)
)

// redactor takes secrets out of text that others wrote. Its elements are values
// that must not appear; what looks like a token, a key or a URL goes in any case.
type redactor []string

// text makes one line of s that is fit for an error.
func (r redactor) text(s string) string {
	return cut(urlRule.ReplaceAllString(r.hide(s), "[URL]"), maxErrorText)
}

// event makes one line of s that is fit for an event. The host and path of a
// URL stay, for it is an image's registry.
func (r redactor) event(s string) string {
	return cut(hostRule.ReplaceAllString(r.hide(s), "$1$2$3"), maxEventText)
}

func (r redactor) hide(s string) string {
	values := slices.Clone(r)
	// Longest first, so that no part of a secret survives a shorter one in it.
	slices.SortFunc(values, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, value := range values {
		if len(value) >= minSecret {
			s = strings.ReplaceAll(s, value, redacted)
		}
	}
	s = strings.Join(strings.Fields(s), " ")
	s = tokenRule.ReplaceAllString(s, redacted)
	return pairRule.ReplaceAllString(s, "$1"+redacted)
}

// cut shortens s to at most n bytes of whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const ellipsis = "…"
	n -= len(ellipsis)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + ellipsis
}
