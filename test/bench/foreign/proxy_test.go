package foreign

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// The proxy leads to nothing but what it was told, and ends what goes through it.
func TestProxy(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cloud := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello "+r.Host)
	}))
	defer cloud.Close()
	proxy, err := NewProxy(map[string]string{"example.com:443": strings.TrimPrefix(cloud.URL, "https://")})
	if err != nil {
		t.Fatal(err)
	}
	through, err := url.Parse(proxy.URL())
	if err != nil {
		t.Fatal(err)
	}
	transport := cloud.Client().Transport.(*http.Transport).Clone() // its certificate is good for example.com
	transport.Proxy = http.ProxyURL(through)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	tests := map[string]struct{ url, want string }{
		"known":         {"https://example.com/", "hello example.com"},
		"another host":  {"https://example.org/", ""},
		"another port":  {"https://example.com:8443/", ""},
		"without a TLS": {"http://example.com/", "403"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			resp, err := client.Get(test.url)
			if err != nil {
				if test.want != "" {
					t.Fatal(err)
				}
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if got := resp.Status + string(body); test.want == "" || !strings.Contains(got, test.want) {
				t.Errorf("got %s, want %q", got, test.want)
			}
		})
	}
	if err := proxy.Close(); err != nil {
		t.Error(err)
	}
	if _, err := client.Get("https://example.com/"); err == nil {
		t.Error("the proxy still answers after its end")
	}
}
