package aci

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

func (s *Server) getGroup(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.lookupLocked(c)
	if !ok {
		return reply{}, errGroupNotFound(c)
	}
	return reply{http.StatusOK, s.viewLocked(g, g.run.Snapshot(), true)}, nil
}

// listGroups lists the groups of a subscription or resource group by id, without
// instance views, in pages linked by absolute addresses.
func (s *Server) listGroups(c *call) (reply, *apiError) {
	after, refusal := decodeToken(c.query.Get("$skiptoken"))
	if refusal != nil {
		return reply{}, refusal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key, g := range s.groups {
		if key <= after || !strings.EqualFold(g.subscription, c.subscription()) ||
			c.resourceGroup() != "" && !strings.EqualFold(g.resourceGroup, c.resourceGroup()) {
			continue
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	value, last, more := []any{}, "", false
	for _, key := range keys {
		g := s.groups[key]
		state := g.run.Snapshot()
		if state.Phase == sim.Deleted {
			s.forgetLocked(key, g)
			continue
		}
		if len(value) == s.settings.pageSize() {
			more = true
			break
		}
		value, last = append(value, s.viewLocked(g, state, false)), key
	}
	body := map[string]any{"value": value}
	if more {
		query := url.Values{"api-version": {c.query.Get("api-version")}, "$skiptoken": {encodeToken(last)}}
		body["nextLink"] = "https://" + c.request.Host + c.request.URL.EscapedPath() + "?" + query.Encode()
	}
	return reply{http.StatusOK, body}, nil
}

// A skip token is the last id of a page, opaque to clients.
func encodeToken(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

func decodeToken(token string) (string, *apiError) {
	key, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", badRequest("InvalidSkipToken", "The $skiptoken of the request is invalid.")
	}
	return string(key), nil
}

// Bounds of a container's log (documentation of container logs).
const (
	maxRunningLog   = 4 << 20
	maxEndedLog     = 16 << 10
	maxEndedLogRows = 1000
)

// listLogs answers the log of a container's present or last run.
func (s *Server) listLogs(c *call) (reply, *apiError) {
	tail, timestamps, refusal := logParameters(c.query)
	if refusal != nil {
		return reply{}, refusal
	}
	s.mu.Lock()
	g, ok := s.lookupLocked(c)
	if !ok {
		s.mu.Unlock()
		return reply{}, errGroupNotFound(c)
	}
	state := g.run.Snapshot()
	transit := s.inTransitLocked(g, state, s.clock.Now())
	unavailable := cmp.Or(s.settings.LogNotAvailableStatus, http.StatusBadRequest)
	s.mu.Unlock()

	cs, ok := state.Container(c.container())
	if !ok {
		return reply{}, errContainerNotFound(c, g)
	}
	if transit {
		return reply{}, errTransitioning(g)
	}
	if cs.Current.Run == sim.Waiting && cs.RestartCount == 0 && cs.Previous == nil {
		return reply{}, &apiError{status: unavailable, code: "ContainerLogNotAvailable",
			message: "The log of container '" + cs.Name + "' in container group '" + g.name + "' is not available yet."}
	}
	lines, err := g.run.Logs(cs.Name, sim.LogOptions{Tail: tail})
	if err != nil {
		return reply{}, errGroupNotFound(c) // replaced or deleted in between
	}
	limit := maxRunningLog
	if cs.Current.Run != sim.Processing {
		limit = maxEndedLog
		lines = lines[max(0, len(lines)-maxEndedLogRows):]
	}
	content := sim.JoinLines(lines, timestamps)
	if len(content) > limit {
		content = content[len(content)-limit:]
		// A cut line is of no use.
		_, content, _ = strings.Cut(content, "\n")
	}
	return reply{http.StatusOK, map[string]any{"content": content}}, nil
}

func logParameters(query url.Values) (tail int, timestamps bool, refusal *apiError) {
	if text := query.Get("tail"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 1 {
			return 0, false, badRequest("InvalidQueryParameter", "The query parameter 'tail' must be a positive 32-bit integer.")
		}
		tail = int(n)
	}
	if text := query.Get("timestamps"); text != "" {
		parsed, err := strconv.ParseBool(text)
		if err != nil {
			return 0, false, badRequest("InvalidQueryParameter", "The query parameter 'timestamps' must be true or false.")
		}
		timestamps = parsed
	}
	return tail, timestamps, nil
}
