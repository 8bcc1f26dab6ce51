package aci

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestA01Tokens(t *testing.T) {
	s := open(t)
	t.Run("https only", func(t *testing.T) {
		request, err := http.NewRequest(http.MethodPost, strings.Replace(s.authority, "https://", "http://", 1)+"/"+s.tenant+"/oauth2/v2.0/token",
			strings.NewReader(s.tokenForm().Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if got, err := s.send(t, request); err == nil && at(got.body, "access_token") != nil {
			t.Error("a token was issued over plain HTTP")
		}
	})
	t.Run("configuration", func(t *testing.T) {
		for tenant, status := range map[string]int{s.tenant: http.StatusOK, "66666666-6666-6666-6666-666666666666": http.StatusBadRequest} {
			request, err := http.NewRequest(http.MethodGet, s.authority+"/"+tenant+"/v2.0/.well-known/openid-configuration", nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.send(t, request)
			if err != nil {
				t.Fatal(err)
			}
			if got.status != status {
				t.Errorf("tenant %s: status %d, want %d: %s", tenant, got.status, status, got.raw)
			}
			if status != http.StatusOK {
				continue
			}
			for _, name := range []string{"token_endpoint", "authorization_endpoint", "issuer"} {
				if address, _ := at(got.body, name).(string); !strings.HasPrefix(address, "https://") || !strings.Contains(address, tenant) {
					t.Errorf("%s is %q", name, address)
				}
			}
		}
	})
	t.Run("token", func(t *testing.T) {
		got := s.askToken(t, s.tenant, s.tokenForm())
		if got.status != http.StatusOK {
			t.Fatalf("status %d: %s", got.status, got.raw)
		}
		wantAt(t, got.body, "Bearer", "token_type")
		for _, name := range []string{"expires_in", "ext_expires_in"} {
			if seconds, _ := at(got.body, name).(float64); seconds < 60 {
				t.Errorf("%s is %v", name, at(got.body, name))
			}
		}
		if text, _ := at(got.body, "access_token").(string); text == "" {
			t.Error("there is no token")
		}
	})
	for name, test := range map[string]struct {
		tenant, error string
		edits         []string
	}{
		"no client":        {s.tenant, "invalid_request", []string{"client_id", ""}},
		"no grant":         {s.tenant, "invalid_request", []string{"grant_type", ""}},
		"no scope":         {s.tenant, "invalid_request", []string{"scope", ""}},
		"no secret":        {s.tenant, "invalid_client", []string{"client_secret", ""}},
		"another grant":    {s.tenant, "unsupported_grant_type", []string{"grant_type", "barter"}},
		"scope of no kind": {s.tenant, "invalid_scope", []string{"scope", s.audience}},
		"unknown resource": {s.tenant, "invalid_resource", []string{"scope", "https://nowhere.example/.default"}},
		"unknown client":   {s.tenant, "unauthorized_client", []string{"client_id", "66666666-6666-6666-6666-666666666666"}},
		"unknown tenant":   {"66666666-6666-6666-6666-666666666666", "invalid_request", nil},
	} {
		t.Run(name, func(t *testing.T) {
			wantRefusal(t, s.askToken(t, test.tenant, s.tokenForm(test.edits...)), test.error)
		})
	}
	t.Run("secret in the address", func(t *testing.T) {
		form := s.tokenForm("client_secret", "")
		request, err := http.NewRequest(http.MethodPost, s.authority+"/"+s.tenant+"/oauth2/v2.0/token?client_secret="+url.QueryEscape(s.secret),
			strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if got, err := s.send(t, request); err != nil || at(got.body, "access_token") != nil {
			t.Errorf("a secret in the address counts: %v", err)
		}
	})
	t.Run("azidentity", func(t *testing.T) {
		token, err := s.credential(t, s.secret, s.http).GetToken(t.Context(), s.tokenOptions())
		if err != nil || token.Token == "" || !token.ExpiresOn.After(time.Now()) {
			t.Errorf("azidentity has no token: %v", err)
		}
	})
}

// wantRefusal checks all that a refusal of the token endpoint says.
func wantRefusal(t *testing.T, got answer, code string) {
	t.Helper()
	if got.status < 400 || got.status > 499 || at(got.body, "error") != code {
		t.Errorf("status %d %v, want 4xx %s: %s", got.status, at(got.body, "error"), code, got.raw)
	}
	if text, _ := at(got.body, "error_description").(string); !regexp.MustCompile(`^AADSTS[0-9]+: `).MatchString(text) {
		t.Errorf("error_description is %q", text)
	}
	if codes, _ := at(got.body, "error_codes").(list); len(codes) == 0 {
		t.Error("there are no error_codes")
	}
	for _, name := range []string{"timestamp", "trace_id", "correlation_id"} {
		if at(got.body, name) == nil {
			t.Errorf("there is no %s", name)
		}
	}
}

// hosts notes which hosts a client speaks to.
type hosts struct {
	next http.RoundTripper

	mu   sync.Mutex
	seen map[string]int
}

func (h *hosts) RoundTrip(r *http.Request) (*http.Response, error) {
	h.mu.Lock()
	h.seen[r.URL.Host]++
	h.mu.Unlock()
	return h.next.RoundTrip(r)
}

// A client that sets DisableInstanceDiscovery needs no host but the authority.
func TestA02NoOtherHostIsAsked(t *testing.T) {
	s := open(t)
	noted := &hosts{next: s.http.Transport, seen: map[string]int{}}
	if _, err := s.credential(t, s.secret, &http.Client{Transport: noted}).GetToken(t.Context(), s.tokenOptions()); err != nil {
		t.Fatal(err)
	}
	authority := strings.TrimPrefix(s.authority, "https://")
	// The configuration and the token.
	if len(noted.seen) != 1 || noted.seen[authority] != 2 {
		t.Errorf("asked %v, want twice %s", noted.seen, authority)
	}
}

func TestA03RefusedCredentials(t *testing.T) {
	t.Run("wrong secret", func(t *testing.T) {
		s := open(t)
		got := s.askToken(t, s.tenant, s.tokenForm("client_secret", "a-wrong-secret"))
		wantRefusal(t, got, "invalid_client")
		if got.status != http.StatusUnauthorized || !strings.Contains(got.raw, "AADSTS7000215") || strings.Contains(got.raw, "a-wrong-secret") {
			t.Errorf("status %d: %s", got.status, got.raw)
		}
		_, err := s.credential(t, "a-wrong-secret", s.http).GetToken(t.Context(), s.tokenOptions())
		if err == nil || !strings.Contains(err.Error(), "AADSTS7000215") {
			t.Errorf("azidentity reports %v", err)
		}
	})
	t.Run("bad tokens", func(t *testing.T) {
		s := open(t)
		good := s.token
		for name, token := range map[string]string{
			"garbage": "garbage", "another signature": good[:len(good)-12] + "AAAAAAAAAAAA", "no signature": good[:strings.LastIndex(good, ".")],
		} {
			s.token = token
			got := s.call(t, http.MethodGet, s.groups(), nil)
			if got.status != http.StatusUnauthorized || got.code() != "InvalidAuthenticationToken" || got.header.Get("Www-Authenticate") == "" {
				t.Errorf("%s: status %d: %s", name, got.status, got.raw)
			}
		}
		request := s.request(t, http.MethodGet, s.groups(), nil)
		request.Header.Del("Authorization")
		if got, err := s.send(t, request); err != nil || got.status != http.StatusUnauthorized {
			t.Errorf("no token: %v, status %d: %s", err, got.status, got.raw)
		}
		s.token = good
		s.call(t, http.MethodGet, s.groups(), nil).want(t, "a good token", http.StatusOK, "")
	})
	t.Run("expired token", func(t *testing.T) {
		s := openLab(t)
		s.call(t, http.MethodGet, s.groups(), nil).want(t, "a fresh token", http.StatusOK, "")
		lifetime, _ := at(s.askToken(t, s.tenant, s.tokenForm()).body, "expires_in").(float64)
		s.lab.Advance(time.Duration(lifetime-1) * time.Second)
		s.call(t, http.MethodGet, s.groups(), nil).want(t, "an old token", http.StatusOK, "")
		s.lab.Advance(2 * time.Second)
		s.call(t, http.MethodGet, s.groups(), nil).want(t, "an expired token", http.StatusUnauthorized, "InvalidAuthenticationToken")
	})
}
