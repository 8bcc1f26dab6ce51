package vnode

import (
	"net/http"

	"github.com/autoburst/autoburst/providers"
)

// PermitTransport holds back the writes of an agent that does not lead any more:
// those that the permit of their context refuses. It goes around the transport of
// the client that an [Agent] is given.
func PermitTransport(next http.RoundTripper) http.RoundTripper { return permitTransport{next} }

type permitTransport struct{ next http.RoundTripper }

// RoundTrip sends the request, or does not.
func (t permitTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		if err := providers.Permitted(req.Context()); err != nil {
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return nil, err
		}
	}
	return t.next.RoundTrip(req)
}

// WrappedRoundTripper lets client-go look through.
func (t permitTransport) WrappedRoundTripper() http.RoundTripper { return t.next }
