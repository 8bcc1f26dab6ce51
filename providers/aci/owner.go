package aci

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"

	"github.com/autoburst/autoburst/providers"
)

const groupNamePrefix = "autoburst-"

// uidRule is what a UID must be to stand in a group's name as it is: with the
// prefix at most 63 lower case letters, digits and hyphens, no hyphen at the
// end (naming rules of Microsoft.ContainerInstance). The API server's UIDs are.
var uidRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$`)

// groupName is the name of a pod's group. It depends on the UID alone, for a
// PUT to the same name cannot make a second group.
func groupName(podUID string) string {
	if uidRule.MatchString(podUID) {
		return groupNamePrefix + podUID
	}
	sum := sha256.Sum256([]byte(podUID))
	return groupNamePrefix + "h" + hex.EncodeToString(sum[:20])
}

// Tags that carry the owner of a group. Azure forbids < > % & \ ? / in their
// names and ignores the case of them.
const (
	tagCluster   = "autoburst-cluster-uid"
	tagNode      = "autoburst-node"
	tagNamespace = "autoburst-namespace"
	tagPod       = "autoburst-pod"
	tagPodUID    = "autoburst-pod-uid"
)

func ownerTags(o providers.Owner) map[string]*string {
	return map[string]*string{
		tagCluster:   to.Ptr(o.ClusterUID),
		tagNode:      to.Ptr(o.NodeName),
		tagNamespace: to.Ptr(o.Namespace),
		tagPod:       to.Ptr(o.PodName),
		tagPodUID:    to.Ptr(o.PodUID),
	}
}

func ownerOf(tags map[string]*string) providers.Owner {
	var o providers.Owner
	for name, value := range tags {
		if value == nil {
			continue
		}
		switch strings.ToLower(name) {
		case tagCluster:
			o.ClusterUID = *value
		case tagNode:
			o.NodeName = *value
		case tagNamespace:
			o.Namespace = *value
		case tagPod:
			o.PodName = *value
		case tagPodUID:
			o.PodUID = *value
		}
	}
	return o
}

// owns tells whether a group with these tags belongs to this virtual node.
func (p *Provider) owns(o providers.Owner) bool {
	return o.ClusterUID == p.config.ClusterUID && o.NodeName == p.config.NodeName && o.PodUID != ""
}
