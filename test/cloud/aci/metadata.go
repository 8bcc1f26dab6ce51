package aci

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// ManagedIdentity is an identity of the machine on which the metadata service
// answers.
type ManagedIdentity struct {
	TenantID, ClientID string
	// ResourceID is empty for the machine's own, system-assigned identity.
	ResourceID string
	// Scopes are as those of an Application.
	Scopes []string
}

func (a *authority) assign(identity ManagedIdentity) {
	a.mu.Lock()
	a.identities = append(a.identities, identity)
	a.mu.Unlock()
	a.put(Application{TenantID: identity.TenantID, ClientID: identity.ClientID, Scopes: identity.Scopes})
}

// Metadata is the metadata service of a machine that has the identities of
// Options.Identities: of it, the endpoint of tokens. Serve it by plain HTTP on an
// address of its own, as 169.254.169.254 is that of every machine.
func (s *Server) Metadata() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault, struck := s.faults.next(OperationMetadata, ""); struck {
			if refusal := s.strike(fault, r); refusal != nil {
				writeError(w, refusal)
				return
			}
		}
		s.authority.metadata(w, r)
	})
}

// metadata answers as the documentation of managed identities says (How to use
// managed identities on an Azure VM to acquire an access token).
func (a *authority) metadata(w http.ResponseWriter, r *http.Request) {
	refuse := func(code, description string) {
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": description})
	}
	query := r.URL.Query()
	resource := query.Get("resource")
	switch {
	case r.URL.Path != "/metadata/identity/oauth2/token":
		writeJSON(w, http.StatusNotFound, map[string]any{"error": "Not found"})
		return
	case r.Method != http.MethodGet:
		writeJSON(w, http.StatusMethodNotAllowed, map[string]any{"error": "Method not allowed"})
		return
	case r.Header.Get("Metadata") != "true" || r.Header.Get("X-Forwarded-For") != "":
		refuse("bad_request_102", "Required metadata header not specified")
		return
	case query.Get("api-version") == "":
		refuse("bad_request_100", "api-version is not specified or not supported.")
		return
	case resource == "":
		refuse("invalid_request", "Required query variable 'resource' is missing")
		return
	case !a.acceptsAudience(resource):
		refuse("invalid_resource", "AADSTS500011: The resource principal named "+resource+" was not found in the tenant.")
		return
	}
	identity, found := a.identityOf(query.Get("client_id"), query.Get("msi_res_id"))
	if !found {
		refuse("invalid_request", "Identity not found")
		return
	}
	app, _, _ := a.lookup(identity.TenantID, identity.ClientID)
	token, err := a.issue(app, resource, "https://sts.windows.net/"+identity.TenantID+"/")
	if err != nil {
		writeJSON(w, http.StatusInternalServerError, map[string]any{"error": "unknown", "error_description": "Failed to retrieve token"})
		return
	}
	now := a.clock.Now()
	lifetime := strconv.Itoa(int(a.lifetime.Seconds()))
	writeJSON(w, http.StatusOK, map[string]any{
		"access_token": token, "client_id": identity.ClientID, "token_type": "Bearer", "resource": resource,
		"expires_in": lifetime, "ext_expires_in": lifetime,
		"expires_on": strconv.FormatInt(now.Add(a.lifetime).Unix(), 10), "not_before": strconv.FormatInt(now.Unix(), 10),
	})
}

// identityOf is the identity that a request names, the machine's own if it names
// none, or else the only one.
func (a *authority) identityOf(client, resource string) (ManagedIdentity, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	i := slices.IndexFunc(a.identities, func(m ManagedIdentity) bool {
		switch {
		case client != "":
			return strings.EqualFold(m.ClientID, client)
		case resource != "":
			return strings.EqualFold(m.ResourceID, resource)
		}
		return m.ResourceID == "" || len(a.identities) == 1
	})
	if i < 0 {
		return ManagedIdentity{}, false
	}
	return a.identities[i], true
}
