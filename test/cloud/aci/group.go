package aci

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// group is one container group resource.
type group struct {
	// As in the request that created it; ARM keeps the caller's letter case.
	id, name, subscription, resourceGroup string

	run *sim.Group

	// Guarded by Server.mu. Lock it before anything of the simulation.
	body     map[string]any // what is echoed; never changed in place
	def      groupDefinition
	address  netip.Addr // zero without one
	change   *operation // the last change
	transit  bool       // a change was accepted and not yet seen to be done
	pool     *addressPool
	deployed time.Time // when the present deployment was asked for
}

// operation is one long-running change of a group. Server.mu guards status and
// err.
type operation struct {
	id, subscription, location string
	group                      *group
	started                    time.Time

	status string       // final, set once; empty while under way
	err    *errorDetail // with status Failed
}

func (o *operation) path(subscription, location string) string {
	return "/subscriptions/" + subscription + "/providers/" + providerName + "/locations/" +
		normalizeLocation(location) + "/operations/" + o.id
}

// settle fixes the operation's result; later calls change nothing.
func (o *operation) settle(status string, err *errorDetail) {
	if o.status == "" {
		o.status, o.err = status, err
	}
}

// Provisioning states (public documentation and recordings).
const (
	statePending   = "Pending"
	stateCreating  = "Creating"
	stateUpdating  = "Updating"
	stateSucceeded = "Succeeded"
	stateFailed    = "Failed"
	stateRepairing = "Repairing"
)

// provisioning is the provisioningState of a group in the given state. A group
// that has not started when its time is over is Failed, although it keeps
// trying.
func provisioning(state sim.State, deployed, now time.Time) string {
	switch {
	case state.Repairing:
		return stateRepairing // another machine for a group that lost its own
	case state.Phase == sim.Restarting, state.Phase == sim.Pending && !state.Started.IsZero():
		return stateUpdating // the containers of a living group are started again
	case state.Phase == sim.ScheduleFailed:
		return stateFailed
	case state.Phase == sim.Failed && state.Started.IsZero():
		return stateFailed // an init container failed for good
	case !state.Started.IsZero(), state.Phase.Ended():
		return stateSucceeded
	case now.Sub(deployed) >= provisioningTimeout:
		return stateFailed
	case state.Phase == sim.Scheduling:
		return statePending
	default:
		return stateCreating
	}
}

// lookupLocked finds a group that is not gone and forgets the one that is.
// Server.mu is held.
func (s *Server) lookupLocked(c *call) (*group, bool) {
	key := strings.ToLower(groupID(c.subscription(), c.resourceGroup(), c.group()))
	g, ok := s.groups[key]
	if ok && g.run.Phase() == sim.Deleted {
		s.forgetLocked(key, g)
		return nil, false
	}
	return g, ok
}

// forgetLocked drops a deleted group. Server.mu is held.
func (s *Server) forgetLocked(key string, g *group) {
	if s.groups[key] != g {
		return
	}
	delete(s.groups, key)
	g.releaseLocked()
	if g.change != nil {
		g.change.settle("Canceled", nil)
	}
}

// addressLocked gives the group a new address if its definition has one, or puts it
// into a subnet: there each group has one, asked for or not (azure-aci, which asks for
// none there, reads the pod's address from the answer). Server.mu is held.
func (s *Server) addressLocked(g *group) {
	g.releaseLocked()
	wanted := g.def.Properties.IPAddress
	switch {
	case wanted == nil && len(g.def.Properties.SubnetIDs) == 0:
		return
	case wanted == nil || wanted.Type == "Private":
		g.pool = s.private
	default:
		g.pool = s.public
	}
	// An exhausted range leaves the group without an address, as a group that
	// still waits for one.
	g.address, _ = g.pool.take()
}

func (g *group) releaseLocked() {
	if g.address.IsValid() {
		g.pool.release(g.address)
		g.address = netip.Addr{}
	}
}

// inTransitLocked reports whether a change of the group is under way, so that others
// are refused. Server.mu is held.
func (s *Server) inTransitLocked(g *group, state sim.State, now time.Time) bool {
	switch state.Phase {
	case sim.Restarting, sim.Stopping, sim.Terminating:
		return true
	}
	if !g.transit {
		return false
	}
	limit := s.settings.transitTime()
	settled := slices.Contains([]string{stateSucceeded, stateFailed}, provisioning(state, g.deployed, now))
	if limit < 0 || now.Sub(g.change.started) >= limit || settled {
		g.transit = false
	}
	return g.transit
}

func errTransitioning(g *group) *apiError {
	return conflict("ContainerGroupTransitioning", "The container group '"+g.name+"' is still transitioning, please retry later.")
}

func errGroupNotFound(c *call) *apiError {
	return notFound("ResourceNotFound", "The Resource '"+groupType+"/"+c.group()+"' under resource group '"+c.resourceGroup()+"' was not found.")
}

// beginLocked records a new change of the group. Server.mu is held.
func (s *Server) beginLocked(g *group, id string, now time.Time) *operation {
	if g.change != nil {
		// A change that was overtaken has done what it could.
		g.change.settle(stateSucceeded, nil)
	}
	op := &operation{id: id, subscription: strings.ToLower(g.subscription), location: normalizeLocation(g.def.Location), group: g, started: now}
	s.operations[id] = op
	g.change, g.transit = op, true
	s.pruneLocked(now)
	return op
}

// pruneLocked drops operations that are no longer readable.
func (s *Server) pruneLocked(now time.Time) {
	retention := s.settings.operationRetention()
	if now.Sub(s.pruned) < retention/4 {
		return
	}
	s.pruned = now
	for id, op := range s.operations {
		if now.Sub(op.started) >= retention {
			delete(s.operations, id)
		}
	}
}

// current is the operation's present status: Pending until its group is
// provisioned. Server.mu is held.
func (o *operation) current(state sim.State, deployed, now time.Time) (string, *errorDetail) {
	switch provisioning(state, deployed, now) {
	case stateSucceeded:
		o.settle(stateSucceeded, nil)
	case stateFailed:
		code, message := "ContainerGroupDeploymentFailed", "The container group '"+o.group.name+"' could not be deployed."
		if state.Reason != "" {
			code, message = state.Reason, state.Message
		}
		o.settle(stateFailed, &errorDetail{Code: code, Message: message})
	}
	if o.status == "" {
		return statePending, nil
	}
	return o.status, o.err
}
