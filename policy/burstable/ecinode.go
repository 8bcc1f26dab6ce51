package burstable

import (
	"fmt"
	"slices"
	"strings"
)

// ECINode is what a virtual node of Elastic Container Instance lets pods choose by
// annotation of what gives rights. The agent publishes it, so that a pod is judged by it
// before it bursts. What is on none of the lists is closed.
type ECINode struct {
	// RAMRoles are the RAM roles that pods may act as, SecurityGroups the security groups
	// and VSwitches the VSwitches that they may be in: the node's own, and what its
	// operator allows besides. "*" is any that the agent's account may use.
	RAMRoles       []string `json:"ramRoles,omitempty"`
	SecurityGroups []string `json:"securityGroups,omitempty"`
	VSwitches      []string `json:"vSwitches,omitempty"`
	// BandwidthInBytes reads the annotations for a pod's traffic as ACK does, in bytes,
	// and not as Kubernetes does, in bits.
	BandwidthInBytes bool `json:"bandwidthInBytes,omitempty"`
}

// eciGuarded are the annotations whose values need the leave of the node's operator.
var eciGuarded = []struct {
	key, what, setting string
	asks               func(*ECISettings) []string
	allowed            func(*ECINode) []string
}{
	{
		eciPrefix + "ram-role-name", "act as the RAM role", "ECI_ALLOWED_RAM_ROLES",
		func(s *ECISettings) []string { return some(s.RAMRole) },
		func(n *ECINode) []string { return n.RAMRoles },
	},
	{
		eciPrefix + "security-group", "be in the security group", "ECI_ALLOWED_SECURITY_GROUPS",
		func(s *ECISettings) []string { return some(s.SecurityGroupID) },
		func(n *ECINode) []string { return n.SecurityGroups },
	},
	{
		eciPrefix + "vswitch", "be in the VSwitch", "ECI_ALLOWED_VSWITCHES",
		func(s *ECISettings) []string { return s.VSwitchIDs },
		func(n *ECINode) []string { return n.VSwitches },
	},
}

func some(v string) []string {
	if v == "" {
		return nil
	}
	return []string{v}
}

// closed are the values of a pod's own annotations that its node does not allow. An
// annotation that is wrong already is passed over.
func (n *ECINode) closed(annotations map[string]string, s *ECISettings, wrong []Refusal) []Refusal {
	for _, g := range eciGuarded {
		if _, own := annotations[g.key]; !own {
			continue // the operator's choice, not the pod's
		}
		if slices.ContainsFunc(wrong, func(r Refusal) bool { return r.Field == annotationField(g.key) }) {
			continue
		}
		allowed := g.allowed(n)
		if slices.Contains(allowed, "*") {
			continue
		}
		var outside []string
		for _, v := range g.asks(s) {
			if !slices.Contains(allowed, v) {
				outside = append(outside, v)
			}
		}
		if len(outside) > 0 {
			wrong = append(wrong, Refusal{Field: annotationField(g.key), Message: fmt.Sprintf(
				"The virtual node does not let pods %s %s; its operator allows them by %s.", g.what, clip(strings.Join(outside, ", ")), g.setting)})
		}
	}
	return wrong
}

// ECIClosedByDefault are annotations that no pod may bear where the operator of a virtual
// node has not said which: they take addresses and rights that others are known by. See
// docs/eci-annotations.md.
var ECIClosedByDefault = []string{
	aliyun + "acr-service-arns",
	aliyun + "acr-user-arns",
	eciPrefix + "eip-instanceid",
	eciPrefix + "private-ip-address",
	eciPrefix + "resource-group-id",
}
