package aci

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
)

// Limits of a container group (Azure Container Instances service limits and
// resource naming rules).
const (
	maxContainers = 60
	maxVolumes    = 20
	maxPorts      = 5
	minGroupCPU   = 1.0
	minGroupGB    = 1.0
)

// maxSize is the largest group per kind, in vCPU and GB.
var (
	maxStandard     = groupSize{31, 240}
	maxConfidential = groupSize{31, 180}
	maxSpot         = groupSize{4, 16}
)

type groupSize struct{ cpu, memoryGB float64 }

// ARM bounds the tags of any resource.
const (
	maxTags         = 50
	maxTagKeyLength = 512
	maxTagLength    = 256
)

var (
	nameRule       = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	volumeNameRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{3,61}[a-z0-9])$`)
	dnsLabelRule   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{3,61}[A-Za-z0-9])$`)
	envNameRule    = regexp.MustCompile(`^[A-Za-z0-9_]{1,63}$`)
)

type portRange struct{ first, last int }

// reservedPorts are used by the service itself.
var reservedPorts = []portRange{
	{22, 22}, {1025, 1027}, {3389, 3399}, {9999, 9999}, {19000, 19000}, {19080, 19080},
	{19100, 19100}, {19390, 19390}, {20000, 30000}, {49152, 65534},
}

// checkLimits applies the documented rules that the Swagger does not state. The
// service's codes for most of them are not published; they share one.
func checkLimits(name string, def groupDefinition) *apiError {
	refuse := func(format string, args ...any) *apiError {
		return badRequest("InvalidRequestContent", fmt.Sprintf("Container group '%s': ", name)+fmt.Sprintf(format, args...))
	}
	properties := def.Properties
	switch {
	case !nameRule.MatchString(name):
		return refuse("the name must be 1 to 63 lower case letters, digits and hyphens and begin and end with a letter or digit.")
	case len(properties.Containers) == 0:
		return refuse("at least one container is required.")
	case len(properties.Containers) > maxContainers:
		return refuse("%d containers are more than %d.", len(properties.Containers), maxContainers)
	case len(properties.Volumes) > maxVolumes:
		return refuse("%d volumes are more than %d.", len(properties.Volumes), maxVolumes)
	}
	if err := checkTags(def.Tags); err != nil {
		return err
	}
	volumes := map[string]bool{}
	for _, v := range properties.Volumes {
		kinds := 0
		for _, set := range []bool{v.AzureFile != nil, v.EmptyDir != nil, v.Secret != nil, v.GitRepo != nil} {
			if set {
				kinds++
			}
		}
		switch {
		case !volumeNameRule.MatchString(v.Name):
			return refuse("volume name '%s' must be 5 to 63 lower case letters, digits and hyphens.", v.Name)
		case volumes[v.Name]:
			return refuse("volume name '%s' is used twice.", v.Name)
		case kinds != 1:
			return refuse("volume '%s' must have exactly one kind.", v.Name)
		}
		volumes[v.Name] = true
	}
	seen := map[string]bool{}
	for _, list := range [][]container{properties.InitContainers, properties.Containers} {
		for _, c := range list {
			if seen[c.Name] {
				return refuse("container name '%s' is used twice.", c.Name)
			}
			seen[c.Name] = true
			if problem := checkContainer(c, volumes); problem != "" {
				return refuse("container '%s': %s", c.Name, problem)
			}
		}
	}
	if problem := checkAddress(properties); problem != "" {
		return refuse("%s", problem)
	}
	if problem := checkMembers(def); problem != "" {
		return refuse("%s", problem)
	}
	if err := checkSecrets(def); err != nil {
		return err
	}
	if err := checkSpot(name, def); err != nil {
		return err
	}
	if problem := checkSize(def); problem != "" {
		return refuse("%s", problem)
	}
	return nil
}

func checkTags(tags map[string]string) *apiError {
	if len(tags) > maxTags {
		return badRequest("InvalidTagsCount", fmt.Sprintf("The resource has %d tags, more than %d.", len(tags), maxTags))
	}
	for key, value := range tags {
		if key == "" || len(key) > maxTagKeyLength || strings.ContainsAny(key, `<>%&\?/`) {
			return badRequest("InvalidTagNameCharacters", fmt.Sprintf("The tag name '%s' is empty, too long or has a forbidden character.", key))
		}
		if len(value) > maxTagLength {
			return badRequest("InvalidTagValueLength", fmt.Sprintf("The value of tag '%s' has more than %d characters.", key, maxTagLength))
		}
	}
	return nil
}

func checkContainer(c container, volumes map[string]bool) string {
	properties := c.Properties
	if !nameRule.MatchString(c.Name) {
		return "the name must be 1 to 63 lower case letters, digits and hyphens and begin and end with a letter or digit."
	}
	if properties.Image == "" {
		return "the image is missing."
	}
	for _, env := range properties.Env {
		if !envNameRule.MatchString(env.Name) {
			return fmt.Sprintf("environment variable name '%s' must be 1 to 63 letters, digits and underscores.", env.Name)
		}
		if env.Value != nil && env.SecureValue != nil {
			return fmt.Sprintf("environment variable '%s' has a value and a secure value.", env.Name)
		}
	}
	for _, mount := range properties.VolumeMounts {
		if !volumes[mount.Name] {
			return fmt.Sprintf("volume mount '%s' has no volume.", mount.Name)
		}
		if !strings.HasPrefix(mount.MountPath, "/") || strings.Contains(mount.MountPath, ":") {
			return fmt.Sprintf("mount path '%s' must be absolute and without colon.", mount.MountPath)
		}
	}
	for _, p := range properties.Ports {
		if problem := checkPort(p.Port); problem != "" {
			return problem
		}
	}
	if problem := properties.Liveness.problem("liveness"); problem != "" {
		return problem
	}
	return properties.Readiness.problem("readiness")
}

func checkPort(number int) string {
	if number < 1 || number > 65535 {
		return fmt.Sprintf("port %d is not between 1 and 65535.", number)
	}
	for _, reserved := range reservedPorts {
		if number >= reserved.first && number <= reserved.last {
			return fmt.Sprintf("port %d is reserved by the service.", number)
		}
	}
	return ""
}

func checkAddress(properties groupProperties) string {
	address := properties.IPAddress
	if address == nil {
		return ""
	}
	if len(address.Ports) > maxPorts {
		return fmt.Sprintf("%d ports are more than %d per IP address.", len(address.Ports), maxPorts)
	}
	for _, p := range address.Ports {
		if problem := checkPort(p.Port); problem != "" {
			return problem
		}
	}
	if address.DNSNameLabel != "" && !dnsLabelRule.MatchString(address.DNSNameLabel) {
		return fmt.Sprintf("DNS name label '%s' must be 5 to 63 letters, digits and hyphens.", address.DNSNameLabel)
	}
	return ""
}

// checkSpot refuses what Spot container groups cannot have.
func checkSpot(name string, def groupDefinition) *apiError {
	if !def.spot() {
		return nil
	}
	switch properties := def.Properties; {
	case properties.IPAddress != nil || len(properties.SubnetIDs) > 0:
		return badRequest("SpotPriorityContainerGroupNotSupportedForInboundConnectivity",
			fmt.Sprintf("Spot container group '%s' cannot have an IP address or a virtual network.", name))
	case properties.SKU == "Confidential" || properties.SKU == "Dedicated":
		return badRequest("SpotPriorityContainerGroupNotSupportedInSku",
			fmt.Sprintf("Spot container group '%s' cannot have the sku '%s'.", name, properties.SKU))
	case len(def.Zones) > 0:
		return badRequest("InvalidRequestContent", fmt.Sprintf("Spot container group '%s' cannot choose its zone.", name))
	}
	for _, c := range def.Properties.Containers {
		if c.Properties.Resources.Requests.GPU != nil {
			return badRequest("SpotPriorityContainerGroupWithGPUResourcesNotSupported",
				fmt.Sprintf("Spot container group '%s' cannot have GPU resources.", name))
		}
	}
	return nil
}

func checkSize(def groupDefinition) string {
	limit := maxStandard
	switch {
	case def.spot():
		limit = maxSpot
	case def.isConfidential():
		limit = maxConfidential
	}
	for _, c := range def.Properties.Containers {
		requests, limits := c.Properties.Resources.Requests, c.Properties.Resources.Limits
		if requests.CPU <= 0 || requests.MemoryInGB <= 0 {
			return fmt.Sprintf("container '%s' requests no CPU or no memory.", c.Name)
		}
		if limits == nil {
			continue
		}
		if (limits.CPU != 0 && limits.CPU < requests.CPU) || (limits.MemoryInGB != 0 && limits.MemoryInGB < requests.MemoryInGB) {
			return fmt.Sprintf("container '%s' has limits below its requests.", c.Name)
		}
	}
	cpu, memory := def.size()
	switch {
	case cpu < minGroupCPU || memory < minGroupGB:
		return fmt.Sprintf("%g CPU and %g GB are less than %g CPU and %g GB.", cpu, memory, minGroupCPU, minGroupGB)
	case cpu > limit.cpu || memory > limit.memoryGB:
		return fmt.Sprintf("%g CPU and %g GB are more than %g CPU and %g GB.", cpu, memory, limit.cpu, limit.memoryGB)
	}
	return ""
}

// checkSecrets refuses secret volumes whose values are not base64.
func checkSecrets(def groupDefinition) *apiError {
	for _, v := range def.Properties.Volumes {
		for key, value := range v.Secret {
			if _, err := base64.StdEncoding.DecodeString(value); err != nil {
				return badRequest("InvalidRequestContent", fmt.Sprintf("Secret volume '%s': the value of '%s' is not base64.", v.Name, key))
			}
		}
	}
	return nil
}
