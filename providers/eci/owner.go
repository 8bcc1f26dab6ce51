package eci

import "github.com/autoburst/autoburst/providers"

// The tags that say whose a group is. A key may have 64 characters, a value
// 128, and a group 20 tags; a key must not begin with aliyun or acs:.
const (
	tagCluster   = "autoburst.io/cluster"
	tagNode      = "autoburst.io/node"
	tagNamespace = "autoburst.io/namespace"
	tagPod       = "autoburst.io/pod"
	// tagPodRest continues the name of a pod that is longer than one value.
	tagPodRest = "autoburst.io/pod-rest"
	tagUID     = "autoburst.io/pod-uid"
	// tagInstead says why a group is on demand whose pod asks for spot first.
	tagInstead = "autoburst.io/instead-of-spot"
)

type tag struct{ Key, Value string }

func ownerTags(o providers.Owner) []tag {
	name, rest := o.PodName, ""
	if len(name) > maxTagValue {
		name, rest = name[:maxTagValue], name[maxTagValue:]
	}
	tags := []tag{
		{tagCluster, o.ClusterUID}, {tagNode, o.NodeName},
		{tagNamespace, o.Namespace}, {tagPod, name}, {tagUID, o.PodUID},
	}
	if rest != "" {
		tags = append(tags, tag{tagPodRest, rest})
	}
	return tags
}

func valueOf(tags []tag, key string) string {
	for _, t := range tags {
		if t.Key == key {
			return t.Value
		}
	}
	return ""
}

func ownerOf(tags []tag) providers.Owner {
	var o providers.Owner
	var rest string
	for _, t := range tags {
		switch t.Key {
		case tagCluster:
			o.ClusterUID = t.Value
		case tagNode:
			o.NodeName = t.Value
		case tagNamespace:
			o.Namespace = t.Value
		case tagPod:
			o.PodName = t.Value
		case tagPodRest:
			rest = t.Value
		case tagUID:
			o.PodUID = t.Value
		}
	}
	o.PodName += rest
	return o
}
