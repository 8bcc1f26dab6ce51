package aci

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// shortLocked is the first shortage of machines that a deployment meets, late or
// at once; nil if there is none. Server.mu is held.
func (s *Server) shortLocked(def groupDefinition, late bool) *Shortage {
	location := normalizeLocation(def.Location)
	cpu, memory := def.size()
	for i := range s.settings.Shortages {
		shortage := &s.settings.Shortages[i]
		if shortage.Late != late || shortage.Location != "" && normalizeLocation(shortage.Location) != location || shortage.SpotOnly && !def.spot() {
			continue
		}
		everySize := shortage.CPU <= 0 && shortage.MemoryGB <= 0
		if everySize || shortage.CPU > 0 && cpu >= shortage.CPU || shortage.MemoryGB > 0 && memory >= shortage.MemoryGB {
			return shortage
		}
	}
	return nil
}

func notAvailable(def groupDefinition) string {
	cpu, memory := def.size()
	return fmt.Sprintf(
		"The requested resource with %g CPU and %g GB memory is not available in the location '%s' at this moment. Please retry with a different resource request or in another location.",
		cpu, memory, def.Location)
}

// deploymentLocked is what the simulation has to run, or to fail at for want of
// machines. Server.mu is held.
func (s *Server) deploymentLocked(def groupDefinition, id, name string) sim.Spec {
	spec := def.simulation(id, name)
	if s.shortLocked(def, true) != nil {
		spec.ScheduleFailure = &sim.ScheduleFailure{Reason: "InsufficientCapacity.", Message: notAvailable(def)}
	}
	return spec
}

// checkRoomLocked refuses a deployment that the region has no machines for or
// that goes over the subscription's quota. groups is how many container groups
// it adds. Server.mu is held.
func (s *Server) checkRoomLocked(subscription string, def groupDefinition, groups int) *apiError {
	location := normalizeLocation(def.Location)
	cpu, _ := def.size()
	if s.shortLocked(def, false) != nil {
		return conflict("ServiceUnavailable", notAvailable(def))
	}
	if len(s.settings.Quota) == 0 {
		return nil
	}
	used := s.usageLocked(subscription, location)
	group, cores := def.usages()
	for _, want := range []struct {
		usage     string
		requested int
	}{{group, groups}, {cores, int(math.Ceil(cpu))}} {
		limit := s.settings.quota(want.usage)
		if used[want.usage]+want.requested > limit {
			return badRequest("ContainerGroupQuotaReached", fmt.Sprintf(
				"Resource type '%s' container group quota '%s' exceeded in region '%s'. Limit: '%d', Usage: '%d' Requested: '%d'.",
				groupType, want.usage, location, limit, used[want.usage], want.requested))
		}
	}
	return nil
}

// usages are the names of the quotas that a group counts against.
func (d groupDefinition) usages() (groups, cores string) {
	switch {
	case d.spot():
		return usageGroups, usageSpotCores
	case d.isConfidential():
		return usageConfidentialGroups, usageConfidentialCores
	}
	return usageGroups, usageCores
}

// usageLocked counts what a subscription holds in a region: every group, and the
// cores of those that are not stopped or ended. Server.mu is held.
func (s *Server) usageLocked(subscription, location string) map[string]int {
	cores := map[string]float64{}
	used := map[string]int{}
	for _, g := range s.groups {
		if !strings.EqualFold(g.subscription, subscription) || normalizeLocation(g.def.Location) != location {
			continue
		}
		phase := g.run.Phase()
		if phase == sim.Deleted {
			continue
		}
		groupUsage, coreUsage := g.def.usages()
		used[groupUsage]++
		if phase.Ended() {
			continue
		}
		cpu, _ := g.def.size()
		cores[coreUsage] += cpu
	}
	for name, sum := range cores {
		used[name] = int(math.Ceil(sum))
	}
	return used
}

// listUsages reports used and allowed amounts of a region.
func (s *Server) listUsages(c *call) (reply, *apiError) {
	if refusal := s.checkLocation(c.location()); refusal != nil {
		return reply{}, refusal
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	used := s.usageLocked(c.subscription(), normalizeLocation(c.location()))
	var value []any
	for _, name := range usageNames {
		value = append(value, map[string]any{
			"id": "/subscriptions/" + c.subscription() + "/providers/" + providerName + "/locations/" +
				normalizeLocation(c.location()) + "/usages/" + name,
			"unit":         "Count",
			"currentValue": used[name],
			"limit":        s.settings.quota(name),
			"name":         map[string]any{"value": name, "localizedValue": splitWords(name)},
		})
	}
	return reply{http.StatusOK, map[string]any{"value": value}}, nil
}

// splitWords turns ContainerGroups into Container Groups.
func splitWords(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// listCapabilities reports the largest sizes of a region.
func (s *Server) listCapabilities(c *call) (reply, *apiError) {
	if refusal := s.checkLocation(c.location()); refusal != nil {
		return reply{}, refusal
	}
	var value []any
	for _, osType := range []string{"Linux", "Windows"} {
		for _, address := range []string{"Public", "Private"} {
			value = append(value, map[string]any{
				"resourceType":  "containerGroups",
				"osType":        osType,
				"location":      normalizeLocation(c.location()),
				"ipAddressType": address,
				"gpu":           "None",
				"capabilities": map[string]any{
					"maxMemoryInGB": maxStandard.memoryGB, "maxCpu": maxStandard.cpu, "maxGpuCount": 0,
				},
			})
		}
	}
	return reply{http.StatusOK, map[string]any{"value": value}}, nil
}

// listOperations reports the operations that this server carries out.
func (s *Server) listOperations(*call) (reply, *apiError) {
	var value []any
	for _, action := range []string{"read", "write", "delete", "restart/action", "stop/action", "start/action", "containers/logs/read"} {
		value = append(value, map[string]any{
			"name": groupType + "/" + action,
			"display": map[string]any{
				"provider": "Microsoft Container Instance", "resource": "Container Groups", "operation": action,
				"description": action + " on container groups.",
			},
			"origin": "User",
		})
	}
	return reply{http.StatusOK, map[string]any{"value": slices.Clip(value)}}, nil
}
