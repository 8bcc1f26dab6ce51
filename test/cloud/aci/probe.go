package aci

import (
	"net/http"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// probe is a liveness or readiness probe of a container.
type probe struct {
	Exec *struct {
		Command []string `json:"command"`
	} `json:"exec"`
	HTTPGet             *httpGet `json:"httpGet"`
	InitialDelaySeconds int      `json:"initialDelaySeconds"`
	PeriodSeconds       int      `json:"periodSeconds"`
	TimeoutSeconds      int      `json:"timeoutSeconds"`
	FailureThreshold    int      `json:"failureThreshold"`
	SuccessThreshold    int      `json:"successThreshold"`
}

type httpGet struct {
	Path        string `json:"path"`
	Port        int    `json:"port"`
	Scheme      string `json:"scheme"`
	HTTPHeaders []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"httpHeaders"`
}

// simulation is the probe as the package sim asks it.
func (p *probe) simulation() *sim.Probe {
	if p == nil {
		return nil
	}
	result := &sim.Probe{
		InitialDelay:     time.Duration(p.InitialDelaySeconds) * time.Second,
		Period:           time.Duration(p.PeriodSeconds) * time.Second,
		Timeout:          time.Duration(p.TimeoutSeconds) * time.Second,
		FailureThreshold: p.FailureThreshold,
		SuccessThreshold: p.SuccessThreshold,
	}
	if p.Exec != nil {
		result.Exec = p.Exec.Command
	}
	if get := p.HTTPGet; get != nil {
		result.HTTP = &sim.HTTPAction{Port: get.Port, Scheme: get.Scheme, Path: get.Path, Headers: http.Header{}}
		for _, h := range get.HTTPHeaders {
			result.HTTP.Headers.Add(h.Name, h.Value)
		}
	}
	return result
}

// problem is what is wrong with the probe; empty if nothing. The Swagger bounds
// none of its numbers; the documentation has exactly one way of asking.
func (p *probe) problem(use string) string {
	switch {
	case p == nil:
		return ""
	case (p.Exec == nil) == (p.HTTPGet == nil):
		return "the " + use + " probe must have either exec or httpGet."
	case p.Exec != nil && len(p.Exec.Command) == 0:
		return "the " + use + " probe has no command."
	case min(p.InitialDelaySeconds, p.PeriodSeconds, p.TimeoutSeconds, p.FailureThreshold, p.SuccessThreshold) < 0:
		return "a number of the " + use + " probe is negative."
	}
	return ""
}
