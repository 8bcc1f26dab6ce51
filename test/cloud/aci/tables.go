package aci

import "net/http"

// usageNames are all usages that the service lists. GPU cores and dedicated
// hosts are not handed out here: nothing of them is ever used.
var usageNames = []string{
	usageGroups, usageCores, usageSpotCores, "StandardK80Cores", "StandardP100Cores", "StandardV100Cores",
	"DedicatedContainerGroups", "DedicatedCores", usageConfidentialGroups, usageConfidentialCores,
}

// listCachedImages reports the images that the machines of a region have.
func (s *Server) listCachedImages(c *call) (reply, *apiError) {
	if refusal := s.checkLocation(c.location()); refusal != nil {
		return reply{}, refusal
	}
	value := []any{}
	for _, image := range s.Settings().cachedImages() {
		value = append(value, map[string]any{"osType": "Linux", "image": image})
	}
	return reply{http.StatusOK, map[string]any{"value": value}}, nil
}

// listOutboundDependencies answers an empty list, as the Swagger says it always
// is.
func (s *Server) listOutboundDependencies(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.lookupLocked(c); !ok {
		return reply{}, errGroupNotFound(c)
	}
	return reply{http.StatusOK, []any{}}, nil
}
