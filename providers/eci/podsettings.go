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
	for key := range strings.SplitSeq(getenv("ECI_FORBIDDEN_ANNOTATIONS"), ",") {
		if key = strings.TrimSpace(key); key != "" {
			c.ForbiddenAnnotations = append(c.ForbiddenAnnotations, key)
		}
	}
	if err := c.checkPodSettings(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkPodSettings names what no pod could run with.
func (c *Config) checkPodSettings() error {
	var errs []error
	known := burstable.Capabilities{Provider: Name, Features: []burstable.Feature{burstable.ECIAnnotations}}
	if _, wrong := burstable.ECI(c.PodAnnotations, &known); len(wrong) > 0 {
		for _, r := range wrong {
			errs = append(errs, fmt.Errorf("PodAnnotations (ECI_POD_ANNOTATIONS): %s", r))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.PodAnnotations)) {
		if !burstable.IsECIAnnotation(key) {
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
	return caps
}
