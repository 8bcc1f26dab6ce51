package aci

import (
	"errors"
	"fmt"
	"strings"

	"github.com/autoburst/autoburst/policy/burstable"
)

// groupsFromEnv reads what every group gets and what pods may choose.
func (c *Config) groupsFromEnv(getenv func(string) string) error {
	var problems []error
	wrong := func(name, format string, args ...any) {
		problems = append(problems, fmt.Errorf("environment variable "+name+": "+format, args...))
	}
	choice := func(name, no, yes string) bool {
		value := getenv(name)
		switch {
		case value == "" || strings.EqualFold(value, no):
			return false
		case strings.EqualFold(value, yes):
			return true
		}
		wrong(name, "%q is neither %s nor %s", value, no, yes)
		return false
	}
	c.Spot = choice(envPriority, "Regular", "Spot")
	c.Confidential = choice(envSKU, "Standard", "Confidential")
	c.NoPublicIP = choice(envPublicIP, "true", "false")
	if c.Zone = getenv(envZone); c.Zone != "" && !burstable.IsZone(c.Zone) {
		wrong(envZone, "%q is none of 1 to 9", c.Zone)
	}
	if c.Spot {
		for _, other := range []struct {
			name string
			set  bool
		}{
			{envSubnetID + " or " + envSubnetName, getenv(envSubnetID) != "" || getenv(envSubnetName) != ""},
			{envZone, c.Zone != ""}, {envSKU, c.Confidential},
		} {
			if other.set {
				wrong(envPriority, "Spot groups cannot have what %s asks for", other.name)
			}
		}
	}
	for _, id := range list(getenv(envAllowedSubnetIDs)) {
		if !subnetRule.MatchString(id) {
			wrong(envAllowedSubnetIDs, "%q is not the resource ID of a subnet", id)
		}
		c.AllowedSubnetIDs = append(c.AllowedSubnetIDs, id)
	}
	for _, ids := range []struct {
		name string
		into *[]string
	}{{envPodIdentities, &c.Identities}, {envAllowedIdentities, &c.AllowedIdentities}} {
		for _, id := range list(getenv(ids.name)) {
			if !burstable.IsManagedIdentity(id) && (id != "*" || ids.name != envAllowedIdentities) {
				wrong(ids.name, "%q is not the resource ID of a user-assigned managed identity", id)
			}
			*ids.into = append(*ids.into, id)
		}
	}
	for _, pair := range list(getenv(envRegistryIdentities)) {
		server, id, _ := strings.Cut(pair, "=")
		if server == "" || !burstable.IsManagedIdentity(id) {
			wrong(envRegistryIdentities, "%q is not REGISTRY=RESOURCE-ID", pair)
			continue
		}
		if c.RegistryIdentities == nil {
			c.RegistryIdentities = map[string]string{}
		}
		c.RegistryIdentities[server] = id
	}
	l := LogAnalytics{
		WorkspaceID: getenv(envLogAnalyticsID), Key: getenv(envLogAnalyticsKey), KeyFile: getenv(envLogAnalyticsKeyFile),
		ClusterResourceID: getenv(envClusterResourceID),
	}
	switch hasKey := l.Key != "" || l.KeyFile != ""; {
	case l.WorkspaceID != "" && hasKey:
		c.LogAnalytics = &l
	case l.WorkspaceID != "":
		wrong(envLogAnalyticsID, "the workspace's key is missing; set %s or %s", envLogAnalyticsKey, envLogAnalyticsKeyFile)
	case hasKey:
		wrong(envLogAnalyticsKey, "the workspace is missing; set %s", envLogAnalyticsID)
	}
	return errors.Join(problems...)
}

// list takes a list apart at its commas.
func list(s string) []string {
	var items []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
