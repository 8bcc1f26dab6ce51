package policy

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// ExplainedLimit is one limit of one resource that binds a pod.
type ExplainedLimit struct {
	Account Account
	// Resource is pods, cpu or memory.
	Resource string
	// Limit, Used, Left and Takes are as users write them: the bound, what counts
	// against it, what is left, and what the pod would take. Used and Left are empty
	// where the usage is not known yet.
	Limit, Used, Left, Takes string
	// Fits is false where the pod would exceed the limit.
	Fits bool
	// Why is one sentence.
	Why string
}

// explainLimits lists the limits of all policies that select the pod, on the
// virtual nodes that it may burst to.
func explainLimits(s *Snapshot, namespace string, pod *corev1.Pod, d *Decision) []ExplainedLimit {
	if len(d.Nodes) == 0 {
		return nil
	}
	var out []ExplainedLimit
	for _, c := range chargesOn(s.rules(namespace), pod, d.Nodes) {
		limits := s.limitsOf(c.Account)
		used, known := s.Usage[c.Account]
		left := limits.Left(used)
		add := func(resource string, limit, used, left, takes int64, text func(int64) string) {
			if limit == Unlimited {
				return
			}
			e := ExplainedLimit{Account: c.Account, Resource: resource, Limit: text(limit), Takes: text(takes), Fits: true}
			switch {
			case !known:
				e.Why = "What counts against it is not known yet."
			case used+takes > limit:
				e.Fits = false
				e.Why = "It leaves no room for the pod."
			default:
				e.Why = "It leaves room for the pod."
			}
			if known {
				e.Used, e.Left = text(used), text(left)
			}
			out = append(out, e)
		}
		add("pods", limits.Pods, used.Pods, left.Pods, c.Amount.Pods, func(n int64) string { return fmt.Sprint(n) })
		add("cpu", limits.MilliCPU, used.MilliCPU, left.MilliCPU, c.Amount.MilliCPU, CPU)
		add("memory", limits.Memory, used.Memory, left.Memory, c.Amount.Memory, Memory)
	}
	return out
}
