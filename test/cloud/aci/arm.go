package aci

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

const (
	providerName = "Microsoft.ContainerInstance"
	groupType    = providerName + "/containerGroups"
	// operationsAPIVersion is the version that the service puts into the URLs
	// of its operations (public recordings).
	operationsAPIVersion = "2018-06-01"
	maxBody              = 4 << 20 // ARM's bound on a request body
)

// call is one request to the resource manager, taken apart.
type call struct {
	request   *http.Request
	app       Application
	operation string
	params    map[string]string // of the route, by lower case name
	query     url.Values
	body      []byte
	header    http.Header // of the answer
	requestID string
}

func (c *call) subscription() string  { return c.params["subscription"] }
func (c *call) resourceGroup() string { return c.params["resourcegroup"] }
func (c *call) group() string         { return c.params["group"] }
func (c *call) container() string     { return c.params["container"] }
func (c *call) location() string      { return c.params["location"] }

// reply is a successful answer; a nil body is an empty one.
type reply struct {
	status int
	body   any
}

type route struct {
	method, pattern, operation string
	handle                     func(*Server, *call) (reply, *apiError)
}

// routes lists what is served, by the Swagger's operationId. Names are compared
// without regard to case, as in all of ARM.
var routes = func() []route {
	const (
		provider = "providers/" + providerName
		location = "subscriptions/{subscription}/" + provider + "/locations/{location}"
		groups   = "subscriptions/{subscription}/resourceGroups/{resourceGroup}/" + provider + "/containerGroups"
		group    = groups + "/{group}"
	)
	return []route{
		{http.MethodGet, provider + "/operations", "Operations_List", (*Server).listOperations},
		{http.MethodGet, "subscriptions/{subscription}/" + provider, "Providers_Get", (*Server).getProvider},
		{http.MethodPost, "subscriptions/{subscription}/" + provider + "/register", "Providers_Register", (*Server).registerProvider},
		{http.MethodGet, location + "/cachedImages", "Location_ListCachedImages", (*Server).listCachedImages},
		{http.MethodGet, location + "/usages", "Location_ListUsage", (*Server).listUsages},
		{http.MethodGet, location + "/capabilities", "Location_ListCapabilities", (*Server).listCapabilities},
		{http.MethodGet, location + "/operations/{operation}", "Operation_Get", (*Server).getOperation},
		{http.MethodGet, "subscriptions/{subscription}/" + provider + "/containerGroups", "ContainerGroups_List", (*Server).listGroups},
		{http.MethodGet, groups, "ContainerGroups_ListByResourceGroup", (*Server).listGroups},
		{http.MethodGet, group, "ContainerGroups_Get", (*Server).getGroup},
		{http.MethodGet, group + "/outboundNetworkDependenciesEndpoints", "ContainerGroups_GetOutboundNetworkDependenciesEndpoints", (*Server).listOutboundDependencies},
		{http.MethodPut, group, "ContainerGroups_CreateOrUpdate", (*Server).putGroup},
		{http.MethodPatch, group, "ContainerGroups_Update", (*Server).patchGroup},
		{http.MethodDelete, group, "ContainerGroups_Delete", (*Server).deleteGroup},
		{http.MethodPost, group + "/restart", "ContainerGroups_Restart", (*Server).restartGroup},
		{http.MethodPost, group + "/stop", "ContainerGroups_Stop", (*Server).stopGroup},
		{http.MethodPost, group + "/start", "ContainerGroups_Start", (*Server).startGroup},
		{http.MethodGet, group + "/containers/{container}/logs", "Containers_ListLogs", (*Server).listLogs},
		{http.MethodGet, group + "/providers/Microsoft.Insights/metrics", "Metrics_List", (*Server).listMetrics},
		{http.MethodPost, group + "/containers/{container}/exec", execOperation, (*Server).execCommand},
		{http.MethodPost, group + "/containers/{container}/attach", "Containers_Attach", (*Server).attach},
	}
}()

// match compares path segments with a route's pattern and returns the values of
// its parameters.
func (r route) match(segments []string) (map[string]string, bool) {
	pattern := strings.Split(r.pattern, "/")
	if len(pattern) != len(segments) {
		return nil, false
	}
	params := map[string]string{}
	for i, want := range pattern {
		if name, ok := strings.CutPrefix(want, "{"); ok {
			params[strings.ToLower(strings.TrimSuffix(name, "}"))] = segments[i]
		} else if !strings.EqualFold(want, segments[i]) {
			return nil, false
		}
	}
	return params, true
}

func findRoute(r *http.Request) (route, map[string]string, *apiError) {
	var segments []string
	for segment := range strings.SplitSeq(r.URL.EscapedPath(), "/") {
		if segment == "" {
			continue // ARM takes doubled slashes
		}
		plain, err := url.PathUnescape(segment)
		if err != nil {
			return route{}, nil, badRequest("InvalidRequestUri", "The request URI is not well formed.")
		}
		segments = append(segments, plain)
	}
	var known bool
	for _, candidate := range routes {
		params, ok := candidate.match(segments)
		if !ok {
			continue
		}
		if candidate.method == r.Method {
			return candidate, params, nil
		}
		known = true
	}
	if known {
		return route{}, nil, &apiError{status: http.StatusMethodNotAllowed, code: "MethodNotAllowed", gateway: true,
			message: "The resource does not support the HTTP method '" + r.Method + "'."}
	}
	return route{}, nil, notFound("InvalidResourceType", "The resource type of the request path could not be found in the namespace '"+providerName+"' for api version '"+APIVersion+"'.")
}

// serveManager answers one request to the resource manager.
func (s *Server) serveManager(w http.ResponseWriter, r *http.Request) {
	started := s.clock.Now()
	c := &call{request: r, header: w.Header(), query: r.URL.Query(), requestID: s.options.Locations[0] + ":" + uuid.NewString()}
	correlation := r.Header.Get("X-Ms-Correlation-Request-Id")
	if correlation == "" {
		correlation = uuid.NewString()
	}
	c.header.Set("X-Ms-Request-Id", c.requestID)
	c.header.Set("X-Ms-Correlation-Request-Id", correlation)
	c.header.Set("X-Ms-Routing-Request-Id",
		strings.ToUpper(s.options.Locations[0])+":"+started.UTC().Format("20060102T150405Z")+":"+uuid.NewString())
	if id := r.Header.Get("X-Ms-Client-Request-Id"); id != "" && strings.EqualFold(r.Header.Get("X-Ms-Return-Client-Request-Id"), "true") {
		c.header.Set("X-Ms-Client-Request-Id", id)
	}

	result, refusal := s.process(c)
	if r.Method != http.MethodGet {
		s.audit(c, started, refusal)
	}
	if refusal != nil {
		writeError(w, refusal)
		return
	}
	if result.body == nil {
		w.WriteHeader(result.status)
		return
	}
	writeJSON(w, result.status, result.body)
}

// process checks what the front end checks and hands the call to the provider.
func (s *Server) process(c *call) (reply, *apiError) {
	var refusal *apiError
	if c.app, refusal = s.authority.authenticate(c.request.Header.Get("Authorization")); refusal != nil {
		return reply{}, refusal
	}
	found, params, refusal := findRoute(c.request)
	if refusal != nil {
		return reply{}, refusal
	}
	c.operation, c.params = found.operation, params
	if refusal := checkVersion(c); refusal != nil {
		return reply{}, refusal
	}
	settings := s.Settings()
	if refusal := s.authorize(c); refusal != nil {
		return reply{}, refusal
	}
	if refusal := s.throttle.take(settings.ARM, c.subscription(), c.app.ClientID, c.request.Method, c.header); refusal != nil {
		return reply{}, refusal
	}
	if refusal := s.checkRegistration(c); refusal != nil {
		return reply{}, refusal
	}
	if refusal := readRequestBody(c); refusal != nil {
		return reply{}, refusal
	}
	s.hooks.Before(sim.Passage{Action: c.operation, Target: c.group()})
	fault, struck := s.faults.next(c.operation, c.group())
	if struck && !fault.AfterEffect {
		if refusal := s.strike(fault, c.request); refusal != nil {
			return reply{}, refusal
		}
	}
	result, refusal := found.handle(s, c)
	s.hooks.After(sim.Passage{Action: c.operation, Target: c.group(), Code: codeOf(refusal)})
	if struck && fault.AfterEffect {
		if refusal := s.strike(fault, c.request); refusal != nil {
			return reply{}, refusal
		}
	}
	return result, refusal
}

func checkVersion(c *call) *apiError {
	versions := []string{APIVersion, previewVersion}
	if strings.HasPrefix(c.operation, "Providers_") {
		versions = providerAPIVersions
	}
	if c.operation == "Operation_Get" {
		versions = append(versions, operationsAPIVersion)
	}
	if c.operation == "Metrics_List" {
		versions = []string{metricsAPIVersion}
	}
	given := c.query.Get("api-version")
	switch {
	case given == "":
		return badRequest("MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	case !slices.Contains(versions, given):
		return badRequest("NoRegisteredProviderFound", fmt.Sprintf(
			"No registered resource provider found for API version '%s' for type '%s'. The supported api-versions are '%s'.",
			given, groupType, strings.Join(versions, ", ")))
	}
	return nil
}

// authorize checks that subscription and resource group exist and that the
// caller may act on the resource.
func (s *Server) authorize(c *call) *apiError {
	if c.subscription() == "" {
		return nil
	}
	scope := "/subscriptions/" + c.subscription()
	if c.resourceGroup() != "" {
		scope += "/resourceGroups/" + c.resourceGroup()
	}
	if c.group() != "" {
		scope += "/providers/" + groupType + "/" + c.group()
	}
	subscription, resourceGroup := s.findScope(c.subscription(), c.resourceGroup())
	if !subscription {
		return notFound("SubscriptionNotFound", "The subscription '"+c.subscription()+"' could not be found.")
	}
	// Operations are readable with any right in the subscription.
	if c.operation != "Operation_Get" && !c.app.allows(scope) {
		return &apiError{status: http.StatusForbidden, code: "AuthorizationFailed", gateway: true, message: fmt.Sprintf(
			"The client '%s' does not have authorization to perform operation '%s' over scope '%s' or the scope is invalid.",
			c.app.ClientID, c.operation, scope)}
	}
	if c.resourceGroup() != "" && !resourceGroup {
		return notFound("ResourceGroupNotFound", "Resource group '"+c.resourceGroup()+"' could not be found.")
	}
	return nil
}

func readRequestBody(c *call) *apiError {
	if c.request.Method != http.MethodPut && c.request.Method != http.MethodPatch && c.operation != execOperation {
		return nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, c.request.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &apiError{status: http.StatusRequestEntityTooLarge, code: "RequestContentTooLarge", gateway: true,
			message: fmt.Sprintf("The request content exceeds %d bytes.", maxBody)}
	case err != nil:
		return badRequest("InvalidRequestContent", "The request content could not be read.")
	}
	c.body = body
	return nil
}

func (s *Server) audit(c *call, at time.Time, refusal *apiError) {
	target := c.group()
	if target != "" {
		target = groupID(c.subscription(), c.resourceGroup(), c.group())
	}
	s.fleet.Ledger().Audit(sim.Call{
		Time: at, Cloud: "aci", Principal: c.app.ClientID, Action: c.operation, Target: target,
		RequestID: c.requestID, Code: codeOf(refusal),
	})
}

// codeOf is how a call ended, for the record.
func codeOf(refusal *apiError) string {
	if refusal != nil {
		return refusal.code
	}
	return "OK"
}

func groupID(subscription, resourceGroup, name string) string {
	return "/subscriptions/" + subscription + "/resourceGroups/" + resourceGroup + "/providers/" + groupType + "/" + name
}

// operationURL is the absolute address of an operation. Since 2024 the service
// signs it with members t, c, s and h that make it about 3 KB long; c looks like
// a certificate.
func (s *Server) operationURL(c *call, location string, op *operation) string {
	values := url.Values{
		"api-version": {operationsAPIVersion},
		"t":           {fmt.Sprint(op.started.UnixNano() / 100)},
		"c":           {s.urlCertificate},
		"s":           {base64.RawURLEncoding.EncodeToString(randomKey())},
		"h":           {base64.RawURLEncoding.EncodeToString(randomKey())},
	}
	return "https://" + c.request.Host + op.path(c.subscription(), location) + "?" + values.Encode()
}
