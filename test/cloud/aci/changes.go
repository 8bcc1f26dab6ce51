package aci

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// asyncHeader names the header that carries an operation's address.
const asyncHeader = "Azure-AsyncOperation"

// putGroup is create or replace. A new group answers 201 with an operation; a
// living one is restarted in place and answers 200 with one; a stopped or ended
// one is deployed anew.
func (s *Server) putGroup(c *call) (reply, *apiError) {
	settings := s.Settings()
	body, refusal := readBody(s.specification.containerGroup, c.body, settings.RefuseUnknownMembers)
	if refusal != nil {
		return reply{}, refusal
	}
	def, refusal := decodeDefinition(body)
	if refusal != nil {
		return reply{}, refusal
	}
	if refusal := s.checkLocation(def.Location); refusal != nil {
		return reply{}, refusal
	}
	if refusal := s.throttle.admit(settings.Provider, c.subscription(), normalizeLocation(def.Location), "creates", c.header); refusal != nil {
		return reply{}, refusal
	}
	if refusal := checkLimits(c.group(), def); refusal != nil {
		return reply{}, refusal
	}
	if refusal := checkRegistry(c.group(), def, settings); refusal != nil {
		return reply{}, refusal
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if g, ok := s.lookupLocked(c); ok {
		return s.replaceLocked(c, g, body, def)
	}
	return s.createLocked(c, body, def)
}

func (s *Server) checkLocation(location string) *apiError {
	if location == "" {
		return badRequest("LocationRequired", "The location property is required for this definition.")
	}
	if !slices.ContainsFunc(s.options.Locations, func(known string) bool {
		return normalizeLocation(known) == normalizeLocation(location)
	}) {
		return badRequest("LocationNotAvailableForResourceType", fmt.Sprintf(
			"The provided location '%s' is not available for resource type '%s'. List of available regions for the resource type is '%s'.",
			location, groupType, strings.Join(s.options.Locations, ",")))
	}
	return nil
}

// checkRegistry refuses what the service finds out from the registry before it
// accepts a group.
func checkRegistry(name string, def groupDefinition, settings Settings) *apiError {
	for _, list := range [][]container{def.Properties.InitContainers, def.Properties.Containers} {
		for _, c := range list {
			image := c.Properties.Image
			if settings.RegistryTrouble {
				registry, _, found := strings.Cut(image, "/")
				if !found || !strings.ContainsAny(registry, ".:") {
					registry = "index.docker.io"
				}
				return conflict("RegistryErrorResponse", "An error response is received from the docker registry '"+registry+"'. Please retry later.")
			}
			if settings.InaccessibleImage != nil && settings.InaccessibleImage(image) {
				return badRequest("InaccessibleImage", "The image '"+image+"' in container group '"+name+"' is not accessible. Please check the image and registry credential.")
			}
		}
	}
	return nil
}

func (s *Server) createLocked(c *call, body map[string]any, def groupDefinition) (reply, *apiError) {
	if refusal := s.checkRoomLocked(c.subscription(), def, 1); refusal != nil {
		return reply{}, refusal
	}
	g := &group{
		id:            groupID(c.subscription(), c.resourceGroup(), c.group()),
		name:          c.group(),
		subscription:  c.subscription(),
		resourceGroup: c.resourceGroup(),
		body:          echo(body),
		def:           def,
	}
	run, err := s.fleet.Start(s.deploymentLocked(def, g.id, g.name))
	if err != nil {
		// The definition was checked; what is left is a server being closed.
		return reply{}, &apiError{status: http.StatusServiceUnavailable, code: "ServiceUnavailable", message: "The service is shutting down."}
	}
	g.run, g.deployed = run, run.Created()
	s.groups[strings.ToLower(g.id)] = g
	s.addressLocked(g)
	op := s.beginLocked(g, uuid.NewString(), g.deployed)
	c.header.Set(asyncHeader, s.operationURL(c, def.Location, op))
	return reply{http.StatusCreated, s.viewAcceptedLocked(g, statePending)}, nil
}

func (s *Server) replaceLocked(c *call, g *group, body map[string]any, def groupDefinition) (reply, *apiError) {
	if normalizeLocation(def.Location) != normalizeLocation(g.def.Location) {
		return reply{}, conflict("InvalidResourceLocation", fmt.Sprintf(
			"The resource '%s' already exists in location '%s' in resource group '%s'. A resource with the same name cannot be created in location '%s'.",
			g.name, g.def.Location, g.resourceGroup, def.Location))
	}
	state, now := g.run.Snapshot(), s.clock.Now()
	if s.inTransitLocked(g, state, now) {
		return reply{}, errTransitioning(g)
	}
	shown := stateUpdating
	if state.Phase.Ended() {
		if refusal := s.checkRoomLocked(c.subscription(), def, 0); refusal != nil {
			return reply{}, refusal
		}
		shown = statePending
	} else if what := immutableChange(g.def, def); what != "" {
		return reply{}, badRequest("InvalidContainerGroupUpdate", fmt.Sprintf(
			"The updates on container group '%s' are invalid: %s cannot be changed while the group exists. Delete it first or stop it.", g.name, what))
	}
	if err := g.run.Replace(s.deploymentLocked(def, g.id, g.name), s.settings.stopGrace()); err != nil {
		return reply{}, errTransitioning(g)
	}
	g.body, g.def = echo(body), def
	g.deployed = now
	s.addressLocked(g) // the old address is not promised
	op := s.beginLocked(g, uuid.NewString(), now)
	c.header.Set(asyncHeader, s.operationURL(c, def.Location, op))
	return reply{http.StatusOK, s.viewAcceptedLocked(g, shown)}, nil
}

// patchGroup replaces the tags; nothing else can be patched.
func (s *Server) patchGroup(c *call) (reply, *apiError) {
	body, refusal := readBody(s.specification.resource, c.body, s.Settings().RefuseUnknownMembers)
	if refusal != nil {
		return reply{}, refusal
	}
	def, refusal := decodeDefinition(map[string]any{"tags": body["tags"]})
	if refusal != nil {
		return reply{}, refusal
	}
	if refusal := checkTags(def.Tags); refusal != nil {
		return reply{}, refusal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.lookupLocked(c)
	if !ok {
		return reply{}, errGroupNotFound(c)
	}
	state := g.run.Snapshot()
	if s.inTransitLocked(g, state, s.clock.Now()) {
		return reply{}, errTransitioning(g)
	}
	if tags, given := body["tags"]; given {
		updated := cloneJSON(g.body).(map[string]any)
		updated["tags"] = tags
		g.body, g.def.Tags = updated, def.Tags
		g.run.SetTags(def.Tags)
	}
	return reply{http.StatusOK, s.viewLocked(g, state, true)}, nil
}

// deleteGroup answers when the group is gone: 200 with what it was, or 204 if
// there was none.
func (s *Server) deleteGroup(c *call) (reply, *apiError) {
	s.mu.Lock()
	g, ok := s.lookupLocked(c)
	if !ok {
		s.mu.Unlock()
		return reply{status: http.StatusNoContent}, nil
	}
	view, refusal := s.deleteLocked(c, g)
	s.mu.Unlock()
	if refusal != nil {
		return reply{}, refusal
	}
	// A caller that goes away does not stop the deletion.
	select {
	case <-g.run.Done():
		return reply{http.StatusOK, view}, nil
	case <-c.request.Context().Done():
	case <-s.closing:
	}
	return reply{}, errAbandoned()
}

func (s *Server) deleteLocked(c *call, g *group) (map[string]any, *apiError) {
	location := normalizeLocation(g.def.Location)
	if refusal := s.throttle.admit(s.settings.Provider, c.subscription(), location, "deletes", c.header); refusal != nil {
		return nil, refusal
	}
	state := g.run.Snapshot()
	if s.inTransitLocked(g, state, s.clock.Now()) {
		return nil, errTransitioning(g)
	}
	view := s.viewLocked(g, state, false)
	if err := g.run.Delete(s.settings.stopGrace()); err != nil {
		return nil, errTransitioning(g)
	}
	return view, nil
}

// stopGroup answers 204 when the group is stopped.
func (s *Server) stopGroup(c *call) (reply, *apiError) {
	g, refusal := s.changing(c, func(g *group, _ sim.State) *apiError {
		if err := g.run.Stop(s.settings.stopGrace()); err != nil {
			return errTransitioning(g)
		}
		return nil
	})
	if refusal != nil {
		return reply{}, refusal
	}
	if !s.await(c.request.Context(), func() bool { return g.run.Phase() != sim.Stopping }) {
		return reply{}, errAbandoned()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.run.Phase() == sim.Stopped {
		g.releaseLocked()
	}
	return reply{status: http.StatusNoContent}, nil
}

// startGroup deploys a stopped or ended group anew, 202 with an operation; a
// living group answers 204.
func (s *Server) startGroup(c *call) (reply, *apiError) {
	status := http.StatusNoContent
	_, refusal := s.changing(c, func(g *group, state sim.State) *apiError {
		if !state.Phase.Ended() {
			return nil
		}
		status = http.StatusAccepted
		return s.redeployLocked(c, g)
	})
	if refusal != nil {
		return reply{}, refusal
	}
	return reply{status: status}, nil
}

// restartGroup restarts all containers in place, 204 with an operation.
func (s *Server) restartGroup(c *call) (reply, *apiError) {
	_, refusal := s.changing(c, func(g *group, state sim.State) *apiError {
		if state.Phase.Ended() {
			return s.redeployLocked(c, g)
		}
		if err := g.run.Restart(s.settings.stopGrace()); err != nil {
			return errTransitioning(g)
		}
		op := s.beginLocked(g, uuid.NewString(), s.clock.Now())
		c.header.Set(asyncHeader, s.operationURL(c, g.def.Location, op))
		return nil
	})
	if refusal != nil {
		return reply{}, refusal
	}
	return reply{status: http.StatusNoContent}, nil
}

// redeployLocked starts an ended group again.
func (s *Server) redeployLocked(c *call, g *group) *apiError {
	if refusal := s.checkRoomLocked(c.subscription(), g.def, 0); refusal != nil {
		return refusal
	}
	if _, err := g.run.Start(); err != nil {
		return errTransitioning(g)
	}
	g.deployed = s.clock.Now()
	s.addressLocked(g)
	op := s.beginLocked(g, uuid.NewString(), g.deployed)
	c.header.Set(asyncHeader, s.operationURL(c, g.def.Location, op))
	return nil
}

// changing finds the group of a call and lets change work on it unless another
// change is under way. Server.mu is held during change.
func (s *Server) changing(c *call, change func(*group, sim.State) *apiError) (*group, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.lookupLocked(c)
	if !ok {
		return nil, errGroupNotFound(c)
	}
	state := g.run.Snapshot()
	if s.inTransitLocked(g, state, s.clock.Now()) {
		return nil, errTransitioning(g)
	}
	return g, change(g, state)
}

// errAbandoned ends a call that nobody waits for any more.
func errAbandoned() *apiError { return &apiError{code: "Abandoned", cut: true} }

// await waits for a condition; false if the caller goes away or the server
// closes before.
func (s *Server) await(ctx context.Context, done func() bool) bool {
	for !done() {
		timer := s.clock.NewTimer(20 * time.Millisecond)
		select {
		case <-timer.C():
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-s.closing:
			timer.Stop()
			return false
		}
	}
	return true
}

// getOperation reads a long-running operation.
func (s *Server) getOperation(c *call) (reply, *apiError) {
	id := strings.ToLower(c.params["operation"])
	s.mu.Lock()
	defer s.mu.Unlock()
	op, ok := s.operations[id]
	now := s.clock.Now()
	if !ok || op.subscription != strings.ToLower(c.subscription()) || op.location != normalizeLocation(c.location()) ||
		now.Sub(op.started) >= s.settings.operationRetention() {
		return reply{}, &apiError{status: http.StatusNotFound, code: "OperationNotFound", message: "The operation '" + id + "' was not found."}
	}
	state := op.group.run.Snapshot()
	if state.Phase == sim.Deleted {
		op.settle("Canceled", nil)
	}
	status, failure := op.current(state, op.group.deployed, now)
	body := map[string]any{
		"id":         op.path(c.subscription(), c.location()),
		"name":       op.id,
		"status":     status,
		"startTime":  timestamp(op.started),
		"properties": map[string]any{"events": eventViews(state.Events, "")},
	}
	if failure != nil {
		body["error"] = failure
	}
	return reply{http.StatusOK, body}, nil
}
