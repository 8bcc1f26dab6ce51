package controller

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// usageStatus is what counts against the limits of an account; nil where it has
// none, or it is not counted yet.
func usageStatus(of policy.Account, l policy.Limits, usage map[policy.Account]policy.Amount) *v1alpha1.Usage {
	used, counted := usage[of]
	if l == policy.NoLimits || !counted {
		return nil
	}
	return &v1alpha1.Usage{
		Pods:   used.Pods,
		CPU:    *resource.NewMilliQuantity(used.MilliCPU, resource.DecimalSI),
		Memory: *resource.NewQuantity(used.Memory, resource.BinarySI),
	}
}

// standing of a policy under its limits, the condition WithinLimits.
type standing struct {
	limited, counted, within bool
	message                  string
}

// standingOf compares what counts with all limits of the policy.
func standingOf(p *policy.Policy, usage map[policy.Account]policy.Amount) standing {
	var s standing
	var full []string
	look := func(of policy.Account, what string, l policy.Limits) {
		if l == policy.NoLimits {
			return
		}
		s.limited = true
		used, counted := usage[of]
		if !counted {
			return
		}
		s.counted = true
		full = append(full, atLimit(what, used, l)...)
	}
	look(policy.Account{Policy: p.Ref}, "spec.limits", p.Limits)
	for i := range p.Targets {
		look(policy.Account{Policy: p.Ref, Target: p.Targets[i].Name}, fmt.Sprintf("spec.targets[%d].limits", i), p.Targets[i].Limits)
	}
	if s.within = len(full) == 0; s.within {
		s.message = "Every limit leaves room."
	} else {
		s.message = strings.Join(full, " ") + " Pods that run are left alone; others wait, as candidates for local nodes too, and are granted by priority and age when pods end or the limit is raised."
	}
	return s
}

// atLimit tells of each resource that is at its limit or over it.
func atLimit(what string, used policy.Amount, l policy.Limits) []string {
	var out []string
	tell := func(name string, used, limit int64, text func(int64) string) {
		switch {
		case limit == policy.Unlimited || used < limit:
		case used == limit:
			out = append(out, fmt.Sprintf("%s.%s: all of %s is taken.", what, name, text(limit)))
		default:
			out = append(out, fmt.Sprintf("%s.%s: %s is taken, %s more than the limit of %s.", what, name, text(used), text(used-limit), text(limit)))
		}
	}
	tell("pods", used.Pods, l.Pods, func(n int64) string { return fmt.Sprint(n) })
	tell("cpu", used.MilliCPU, l.MilliCPU, policy.CPU)
	tell("memory", used.Memory, l.Memory, policy.Memory)
	return out
}
