package aci

import (
	"net/http"
	"strings"
	"time"
)

// registration is where a subscription stands with the resource provider. The
// zero value is registered.
type registration struct {
	missing bool
	asked   time.Time // when registering began; zero if nobody asked
}

// The states of a registration (Azure Resource Manager, resource providers).
const (
	notRegistered = "NotRegistered"
	registering   = "Registering"
	registered    = "Registered"
)

// providerAPIVersions are those of Azure Resource Manager's own provider
// operations that clients use: of azcore, and of the resource management SDKs
// and the command line.
var providerAPIVersions = []string{
	"2018-05-01", "2019-05-01", "2019-10-01", "2020-06-01", "2021-01-01", "2021-04-01", "2022-09-01",
}

// Unregister makes a subscription one that nobody has registered with the
// container instance service yet: its calls are refused until somebody does.
func (s *Server) Unregister(subscription string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registrations[strings.ToLower(subscription)] = registration{missing: true}
}

// registrationLocked is the state of a subscription's registration. Server.mu is
// held.
func (s *Server) registrationLocked(subscription string) string {
	r := s.registrations[strings.ToLower(subscription)]
	switch {
	case !r.missing:
		return registered
	case r.asked.IsZero():
		return notRegistered
	case s.clock.Since(r.asked) < s.settings.RegistrationTime:
		return registering
	default:
		return registered
	}
}

// checkRegistration refuses calls to the service from a subscription that is not
// registered with it.
func (s *Server) checkRegistration(c *call) *apiError {
	if c.subscription() == "" || strings.HasPrefix(c.operation, "Providers_") {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.registrationLocked(c.subscription()) == registered {
		return nil
	}
	refusal := conflict("MissingSubscriptionRegistration",
		"The subscription is not registered to use namespace '"+providerName+"'. See https://aka.ms/rps-not-found for how to register subscriptions.")
	refusal.target, refusal.gateway = providerName, true
	return refusal
}

func (s *Server) getProvider(c *call) (reply, *apiError) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return reply{http.StatusOK, s.providerViewLocked(c)}, nil
}

// registerProvider begins a registration; a registered subscription stays so.
func (s *Server) registerProvider(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(c.subscription())
	if r := s.registrations[key]; r.missing && r.asked.IsZero() {
		r.asked = s.clock.Now()
		s.registrations[key] = r
	}
	return reply{http.StatusOK, s.providerViewLocked(c)}, nil
}

func (s *Server) providerViewLocked(c *call) map[string]any {
	return map[string]any{
		"id":                 "/subscriptions/" + c.subscription() + "/providers/" + providerName,
		"namespace":          providerName,
		"registrationPolicy": "RegistrationRequired",
		"registrationState":  s.registrationLocked(c.subscription()),
		"resourceTypes": []any{map[string]any{
			"resourceType": "containerGroups", "locations": s.options.Locations, "apiVersions": []string{APIVersion, previewVersion},
		}},
	}
}
