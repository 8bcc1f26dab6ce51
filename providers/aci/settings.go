package aci

import (
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	sdk "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// readAnnotations reads the pod's own settings over those of the node.
func (b *builder) readAnnotations() {
	settings, refusals := burstable.ACIOf(b.spec.Annotations, b.config.node())
	b.settings = settings
	for _, r := range refusals {
		b.refuse(r.Field, "%s", strings.TrimSuffix(r.Message, "."))
	}
}

// setKind says what machine the group runs on. What the service does by default is
// left out.
func (b *builder) setKind(properties *sdk.ContainerGroupPropertiesProperties) {
	if b.settings.Spot {
		properties.Priority = to.Ptr(sdk.ContainerGroupPrioritySpot)
	}
	if b.settings.Confidential {
		properties.SKU = to.Ptr(sdk.ContainerGroupSKUConfidential)
	}
	if b.settings.CCEPolicy != "" {
		properties.ConfidentialComputeProperties = &sdk.ConfidentialComputeProperties{CcePolicy: to.Ptr(b.settings.CCEPolicy)}
	}
}

// identity is every identity that the group needs: those of the node, those that the
// pod asks for, and those that pull its images, which the service takes from the
// group's.
func (b *builder) identity(credentials []*sdk.ImageRegistryCredential) *sdk.ContainerGroupIdentity {
	ids := append(append([]string(nil), b.config.Identities...), b.settings.Identities...)
	for _, c := range credentials {
		if c.Identity != nil {
			ids = append(ids, *c.Identity)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	result := &sdk.ContainerGroupIdentity{
		Type:                   to.Ptr(sdk.ResourceIdentityTypeUserAssigned),
		UserAssignedIdentities: map[string]*sdk.UserAssignedIdentities{},
	}
	seen := map[string]bool{} // resource IDs are the same in any case
	for _, id := range ids {
		if key := strings.ToLower(id); !seen[key] {
			seen[key] = true
			result.UserAssignedIdentities[id] = &sdk.UserAssignedIdentities{}
		}
	}
	return result
}

// pullsFrom tells whether an image of the pod comes from the registry.
func (b *builder) pullsFrom(server string) bool {
	for _, list := range [][]providers.Container{b.spec.InitContainers, b.spec.Containers} {
		for i := range list {
			if host, _, ok := strings.Cut(list[i].Image, "/"); ok && strings.EqualFold(host, server) {
				return true
			}
		}
	}
	return false
}

// Names of the metadata by which Container Insights files a log (azure-aci,
// pkg/analytics).
const (
	logPodUID  = "pod-uuid"
	logNode    = "node-name"
	logCluster = "cluster-resource-id"
)

// diagnostics is where the logs of the group are sent.
func (b *builder) diagnostics() *sdk.ContainerGroupDiagnostics {
	l := b.config.LogAnalytics
	if l == nil {
		return nil
	}
	key := l.Key
	if l.KeyFile != "" {
		var err error
		if key, err = readSecret(l.KeyFile, "the key of the Log Analytics workspace", "mount the Secret there", "put the key into it"); err != nil {
			b.failed = err
			return nil
		}
	}
	b.hidden = append(b.hidden, key)
	result := &sdk.LogAnalytics{WorkspaceID: to.Ptr(l.WorkspaceID), WorkspaceKey: to.Ptr(key)}
	if l.ClusterResourceID != "" {
		result.LogType = to.Ptr(sdk.LogAnalyticsLogTypeContainerInsights)
		result.Metadata = map[string]*string{
			logCluster: to.Ptr(l.ClusterResourceID), logNode: to.Ptr(b.spec.Owner.NodeName), logPodUID: to.Ptr(b.spec.Owner.PodUID),
		}
	}
	return &sdk.ContainerGroupDiagnostics{LogAnalytics: result}
}
