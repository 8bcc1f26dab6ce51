package eci

import (
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Identity is what gives temporary keys of the account: the Security Token Service
// for the tokens of an OIDC provider, and the metadata service of an instance. The
// first is spoken to over TLS, the second without.
type Identity struct {
	server *Server
	opts   IdentityOptions

	mu     sync.Mutex
	tokens map[string]time.Time // of the metadata service, to their end
	asked  map[string]int       // keys given, by the kind
}

// IdentityOptions say who may act as whom.
type IdentityOptions struct {
	// RoleARN may be assumed with a token of ProviderARN that Verify accepts.
	RoleARN, ProviderARN string
	Verify               func(token string) bool
	// InstanceRole is the role of the instance; empty for none.
	InstanceRole string
	// Lifetime bounds the life of a key; zero is what is asked for, or an hour.
	Lifetime time.Duration
}

// NewIdentity returns a handler for both services, whose keys the server takes.
func (s *Server) NewIdentity(o IdentityOptions) *Identity {
	return &Identity{server: s, opts: o, tokens: map[string]time.Time{}, asked: map[string]int{}}
}

// Given is how many keys were given: by AssumeRoleWithOIDC, and by metadata.
func (i *Identity) Given(kind string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[kind]
}

// ServeHTTP answers as the one service or the other.
func (i *Identity) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if path, ok := strings.CutPrefix(r.URL.Path, "/latest/"); ok {
		i.metadata(w, r, path)
		return
	}
	c := &call{requestID: newRequestID()}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	form, parseErr := url.ParseQuery(r.URL.RawQuery + "&" + string(body))
	if err != nil || parseErr != nil || r.URL.Path != "/" {
		i.server.answerError(w, r, c, invalidParameter("The request cannot be read."))
		return
	}
	answer, refusal := i.assume(form)
	if refusal != nil {
		i.server.answerError(w, r, c, refusal)
		return
	}
	answer["RequestId"] = c.requestID
	writeJSON(w, http.StatusOK, answer)
}

// assume is AssumeRoleWithOIDC (Sts 2015-04-01), which is not signed.
func (i *Identity) assume(form url.Values) (map[string]any, *apiError) {
	if form.Get("Action") != "AssumeRoleWithOIDC" || form.Get("Version") != "2015-04-01" {
		return nil, refuse(http.StatusNotFound, "InvalidApi.NotFound", "Specified api is not found, please check your url and method.")
	}
	for _, name := range []string{"RoleArn", "OIDCProviderArn", "OIDCToken", "RoleSessionName", "Timestamp"} {
		if form.Get(name) == "" {
			return nil, missingParameter(name)
		}
	}
	seconds := 3600
	if text := form.Get("DurationSeconds"); text != "" {
		var err error
		if seconds, err = strconv.Atoi(text); err != nil || seconds < 900 {
			return nil, refuse(http.StatusBadRequest, "InvalidParameter.DurationSeconds", "The Min/Max value of DurationSeconds is 15min/1hr.")
		}
	}
	switch {
	case form.Get("OIDCProviderArn") != i.opts.ProviderARN:
		return nil, refuse(http.StatusBadRequest, "EntityNotExist.OIDCProvider", "The OIDC provider does not exist.")
	case form.Get("RoleArn") != i.opts.RoleARN:
		return nil, refuse(http.StatusNotFound, "EntityNotExist.Role", "The specified role does not exist.")
	case i.opts.Verify == nil || !i.opts.Verify(form.Get("OIDCToken")):
		return nil, refuse(http.StatusBadRequest, "AuthenticationFail.OIDCToken.Invalid", "This OIDC token is invalid.")
	}
	key := i.give("AssumeRoleWithOIDC", time.Duration(seconds)*time.Second)
	return map[string]any{
		"Credentials":     keyView(key),
		"AssumedRoleUser": map[string]string{"Arn": i.opts.RoleARN + "/" + form.Get("RoleSessionName"), "AssumedRoleId": "3" + key.ID},
	}, nil
}

func (i *Identity) give(kind string, life time.Duration) AccessKey {
	if i.opts.Lifetime > 0 {
		life = min(life, i.opts.Lifetime)
	}
	key := AccessKey{
		ID: "STS." + newID("key"), Secret: newID("secret"), SecurityToken: newID("token"),
		Expires: i.server.fleet.Now().Add(life).Truncate(time.Second),
	}
	i.server.gate.addKey(key)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked[kind]++
	return key
}

func keyView(k AccessKey) map[string]string {
	return map[string]string{
		"AccessKeyId": k.ID, "AccessKeySecret": k.Secret, "SecurityToken": k.SecurityToken, "Expiration": wireTime(k.Expires),
	}
}

// metadata is the metadata service of an instance in its hardened mode: every read
// needs a token.
func (i *Identity) metadata(w http.ResponseWriter, r *http.Request, path string) {
	now := i.server.fleet.Now()
	if path == "api/token" {
		seconds, err := strconv.Atoi(r.Header.Get("X-aliyun-ecs-metadata-token-ttl-seconds"))
		if r.Method != http.MethodPut || err != nil || seconds < 1 || seconds > 21600 {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		token := newID("metadata")
		i.mu.Lock()
		i.tokens[token] = now.Add(time.Duration(seconds) * time.Second)
		i.mu.Unlock()
		_, _ = io.WriteString(w, token)
		return
	}
	i.mu.Lock()
	ends, known := i.tokens[r.Header.Get("X-aliyun-ecs-metadata-token")]
	i.mu.Unlock()
	if !known || !now.Before(ends) {
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	role, ok := strings.CutPrefix(path, "meta-data/ram/security-credentials/")
	switch {
	case !ok || i.opts.InstanceRole == "" || role != "" && role != i.opts.InstanceRole:
		http.NotFound(w, r)
	case role == "":
		_, _ = io.WriteString(w, i.opts.InstanceRole)
	default:
		view := keyView(i.give("metadata", time.Hour))
		view["Code"], view["LastUpdated"] = "Success", wireTime(now)
		writeJSON(w, http.StatusOK, view)
	}
}
