package eci

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
)

// stringToSign is the text that a request's signature covers: all members of
// query and form except Signature, sorted by name.
func stringToSign(method string, form url.Values) string {
	names := make([]string, 0, len(form))
	for name := range form {
		if name != "Signature" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var canonical strings.Builder
	for i, name := range names {
		if i > 0 {
			canonical.WriteByte('&')
		}
		canonical.WriteString(percentEncode(name))
		canonical.WriteByte('=')
		canonical.WriteString(percentEncode(form.Get(name)))
	}
	return method + "&%2F&" + percentEncode(canonical.String())
}

// signature is the signature of a string to sign: HMAC-SHA1 with the secret
// and an ampersand as the key, in base64.
func signature(secret, text string) string {
	mac := hmac.New(sha1.New, []byte(secret+"&"))
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// percentEncode is RFC 3986 encoding, the vendor's variant of form encoding.
func percentEncode(s string) string {
	return strings.NewReplacer("+", "%20", "*", "%2A", "%7E", "~").Replace(url.QueryEscape(s))
}
