package eci

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/policy/burstable"
)

func TestWhatPodsMayChoose(t *testing.T) {
	const role, bandwidth = "k8s.aliyun.com/eci-ram-role-name", "kubernetes.io/ingress-bandwidth"
	own := burstable.ECINode{SecurityGroups: []string{"sg-1"}, VSwitches: []string{"vsw-1", "vsw-2"}}
	with := func(edit func(*burstable.ECINode)) burstable.ECINode {
		n := own
		edit(&n)
		return n
	}
	tests := map[string]struct {
		env       map[string]string
		want      burstable.ECINode
		forbidden []string
		err       string
	}{
		"nothing said":       {nil, own, burstable.ECIClosedByDefault, ""},
		"nothing forbidden":  {map[string]string{"ECI_FORBIDDEN_ANNOTATIONS": "none"}, own, nil, ""},
		"another forbidden":  {map[string]string{"ECI_FORBIDDEN_ANNOTATIONS": role}, own, []string{role}, ""},
		"traffic, forbidden": {map[string]string{"ECI_FORBIDDEN_ANNOTATIONS": bandwidth}, own, []string{bandwidth}, ""},
		"the node's role":    {map[string]string{"ECI_RAM_ROLE": "Node"}, with(func(n *burstable.ECINode) { n.RAMRoles = []string{"Node"} }), burstable.ECIClosedByDefault, ""},
		"the role of all":    {map[string]string{"ECI_POD_ANNOTATIONS": `{"` + role + `": "All"}`}, with(func(n *burstable.ECINode) { n.RAMRoles = []string{"All"} }), burstable.ECIClosedByDefault, ""},
		"more": {map[string]string{"ECI_ALLOWED_RAM_ROLES": "A, B,", "ECI_ALLOWED_SECURITY_GROUPS": "sg-2,sg-1", "ECI_ALLOWED_VSWITCHES": "*"}, with(func(n *burstable.ECINode) {
			n.RAMRoles, n.SecurityGroups, n.VSwitches = []string{"A", "B"}, []string{"sg-1", "sg-2"}, []string{"vsw-1", "vsw-2", "*"}
		}), burstable.ECIClosedByDefault, ""},
		"bits":             {map[string]string{"ECI_BANDWIDTH_UNIT": "Bits"}, own, burstable.ECIClosedByDefault, ""},
		"bytes":            {map[string]string{"ECI_BANDWIDTH_UNIT": "Bytes", "ECI_POD_ANNOTATIONS": `{"` + bandwidth + `": "10MB"}`}, with(func(n *burstable.ECINode) { n.BandwidthInBytes = true }), burstable.ECIClosedByDefault, ""},
		"bytes as bits":    {map[string]string{"ECI_POD_ANNOTATIONS": `{"` + bandwidth + `": "10MB"}`}, own, nil, "write bits in a second"},
		"another unit":     {map[string]string{"ECI_BANDWIDTH_UNIT": "Mbit"}, own, nil, `ECI_BANDWIDTH_UNIT is "Mbit"`},
		"none and another": {map[string]string{"ECI_FORBIDDEN_ANNOTATIONS": "none," + role}, own, nil, "none is no annotation that ECI reads"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := Config{VSwitchIDs: []string{"vsw-1", "vsw-2"}, SecurityGroupID: "sg-1", RAMRole: tt.env["ECI_RAM_ROLE"]}
			err := c.podSettings(func(name string) string { return tt.env[name] })
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			caps := c.capabilities()
			if diff := cmp.Diff(&tt.want, caps.ECI); diff != "" {
				t.Errorf("what pods may choose (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.forbidden, caps.ForbiddenAnnotations); diff != "" {
				t.Errorf("forbidden (-want +got):\n%s", diff)
			}
		})
	}
}
