package aci

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
)

var (
	identityRule = regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/[^/]+$`)
	zoneRule     = regexp.MustCompile(`^[0-9]+$`)
)

// checkMembers applies the documented rules of members that belong together:
// identities, zones, the virtual network, shares, the confidential SKU.
func checkMembers(def groupDefinition) string {
	for _, check := range []func(groupDefinition) string{checkIdentities, checkPlace, checkShares, checkConfidential} {
		if problem := check(def); problem != "" {
			return problem
		}
	}
	return ""
}

// checkIdentities: an image is pulled only by an identity that the group has.
func checkIdentities(def groupDefinition) string {
	assigned := map[string]bool{}
	if i := def.Identity; i != nil {
		for id := range i.UserAssigned {
			if !identityRule.MatchString(id) {
				return fmt.Sprintf("'%s' is not the resource id of a user-assigned identity.", id)
			}
			assigned[strings.ToLower(id)] = true
		}
		if users := strings.Contains(i.Type, "UserAssigned"); users != (len(assigned) > 0) {
			return fmt.Sprintf("the identity type '%s' does not fit %d user-assigned identities.", i.Type, len(assigned))
		}
	}
	for _, c := range def.Properties.Credentials {
		switch {
		case c.Identity != "" && (c.Username != "" || c.Password != ""):
			return fmt.Sprintf("the credential of registry '%s' has an identity and a user.", c.Server)
		case c.Identity != "" && !assigned[strings.ToLower(c.Identity)]:
			return fmt.Sprintf("the identity of registry '%s' is not one of the container group.", c.Server)
		case c.Identity == "" && (c.Username == "" || c.Password == ""):
			return fmt.Sprintf("the credential of registry '%s' needs a username and a password, or an identity.", c.Server)
		}
	}
	return ""
}

// checkPlace: one zone at most, and an address that fits the network. That a group
// in a virtual network has no public address is documented, but an example of the
// Swagger has one.
func checkPlace(def groupDefinition) string {
	if len(def.Zones) > 1 {
		return fmt.Sprintf("%d zones are more than one.", len(def.Zones))
	}
	for _, zone := range def.Zones {
		if !zoneRule.MatchString(zone) {
			return fmt.Sprintf("'%s' is not an availability zone.", zone)
		}
	}
	subnets := def.Properties.SubnetIDs
	if len(subnets) > 1 {
		return fmt.Sprintf("%d subnets are more than one.", len(subnets))
	}
	address := def.Properties.IPAddress
	switch {
	case address == nil:
	case len(address.Ports) == 0:
		return "an IP address needs at least one port."
	case address.Type == "Private" && len(subnets) == 0:
		return "a private IP address needs a virtual network."
	}
	return ""
}

func checkShares(def groupDefinition) string {
	for _, v := range def.Properties.Volumes {
		switch f := v.AzureFile; {
		case f == nil:
		case f.Share == "" || f.Account == "":
			return fmt.Sprintf("volume '%s' names no share or no storage account.", v.Name)
		case f.AccountKey == "":
			return fmt.Sprintf("volume '%s': the key of storage account '%s' is missing.", v.Name, f.Account)
		}
	}
	return ""
}

func checkConfidential(def groupDefinition) string {
	c := def.Properties.ConfidentialProp
	if c == nil {
		return ""
	}
	if !def.isConfidential() {
		return "confidential compute properties need the sku 'Confidential'."
	}
	if _, err := base64.StdEncoding.DecodeString(c.CCEPolicy); err != nil {
		return "the confidential compute policy is not base64."
	}
	return ""
}
