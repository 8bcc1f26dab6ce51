package eci

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/autoburst/autoburst/policy/burstable"
)

// podSettings reads what holds for the annotations of pods.
func (c *Config) podSettings(getenv func(string) string) error {
	var errs []error
	if text := strings.TrimSpace(getenv("ECI_POD_ANNOTATIONS")); text != "" {
		if err := json.Unmarshal([]byte(text), &c.PodAnnotations); err != nil {
			errs = append(errs, errors.New(`ECI_POD_ANNOTATIONS is no JSON object of texts: write {"k8s.aliyun.com/eci-spot-strategy": "SpotAsPriceGo"}, or the like`))
		}
	}
	switch forbidden := items(getenv("ECI_FORBIDDEN_ANNOTATIONS")); {
	case len(forbidden) == 0:
		c.ForbiddenAnnotations = burstable.ECIClosedByDefault
	case !slices.Equal(forbidden, []string{"none"}):
		c.ForbiddenAnnotations = forbidden
	}
	c.AllowedRAMRoles = items(getenv("ECI_ALLOWED_RAM_ROLES"))
	c.AllowedSecurityGroups = items(getenv("ECI_ALLOWED_SECURITY_GROUPS"))
	c.AllowedVSwitches = items(getenv("ECI_ALLOWED_VSWITCHES"))
	switch unit := strings.TrimSpace(getenv("ECI_BANDWIDTH_UNIT")); unit {
	case "", "Bits":
	case "Bytes":
		c.BandwidthInBytes = true
	default:
		errs = append(errs, fmt.Errorf("ECI_BANDWIDTH_UNIT is %q: write Bits, as Kubernetes has it, or Bytes, as ACK has", unit))
	}
	if err := c.checkPodSettings(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// items are what a list names, between commas.
func items(list string) []string {
	var out []string
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

// checkPodSettings names what no pod could run with.
func (c *Config) checkPodSettings() error {
	var errs []error
	// What the operator chooses needs nobody's leave: it is not judged as a pod's.
	own := burstable.Capabilities{ECI: &burstable.ECINode{BandwidthInBytes: c.BandwidthInBytes}}
	_, wrong := burstable.ECI(c.PodAnnotations, &own)
	for _, r := range wrong {
		errs = append(errs, fmt.Errorf("PodAnnotations (ECI_POD_ANNOTATIONS): %s", r))
	}
	for _, key := range slices.Sorted(maps.Keys(c.PodAnnotations)) {
		told := slices.ContainsFunc(wrong, func(r burstable.Refusal) bool { return strings.Contains(r.Field, key) })
		if !told && !burstable.IsECIAnnotation(key) {
			errs = append(errs, fmt.Errorf("PodAnnotations (ECI_POD_ANNOTATIONS): %s is no annotation that ECI reads", key))
		}
	}
	for _, key := range c.ForbiddenAnnotations {
		if !burstable.IsECIAnnotation(key) {
			errs = append(errs, fmt.Errorf("ForbiddenAnnotations (ECI_FORBIDDEN_ANNOTATIONS): %s is no annotation that ECI reads", key))
		}
	}
	if _, bad := burstable.ParseWaived(strings.Join(c.Waived, ",")); len(bad) > 0 {
		errs = append(errs, fmt.Errorf("Waived: %s cannot be waived; what can is %s", strings.Join(bad, ", "), strings.Join(burstable.Waivable(), ", ")))
	}
	return errors.Join(errs...)
}

// capabilities are what ECI can run, with the settings for pods.
func (c *Config) capabilities() burstable.Capabilities {
	caps := Capabilities()
	caps.Annotations, caps.ForbiddenAnnotations, caps.Waived = c.PodAnnotations, c.ForbiddenAnnotations, c.Waived
	caps.ECI = c.node()
	return caps
}

// node is what the virtual node says of itself to those who judge pods.
func (c *Config) node() *burstable.ECINode {
	// What every pod has may also be named by one.
	common, _ := burstable.ECI(c.PodAnnotations, &burstable.Capabilities{})
	list := func(lists ...[]string) (all []string) {
		for _, v := range slices.Concat(lists...) {
			if v != "" && !slices.Contains(all, v) {
				all = append(all, v)
			}
		}
		return all
	}
	return &burstable.ECINode{
		RAMRoles:         list([]string{c.RAMRole, common.RAMRole}, c.AllowedRAMRoles),
		SecurityGroups:   list([]string{c.SecurityGroupID, common.SecurityGroupID}, c.AllowedSecurityGroups),
		VSwitches:        list(c.VSwitchIDs, common.VSwitchIDs, c.AllowedVSwitches),
		BandwidthInBytes: c.BandwidthInBytes,
	}
}
