package vnode

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

const (
	// taintsAnnotation holds the taints that the agent put on the node, so that
	// it can take back one that its settings do not name any more.
	taintsAnnotation = "autoburst.io/agent-taints"

	excludeBalancersLabel = "node.kubernetes.io/exclude-from-external-load-balancers"
)

// NodeSettings are what the Node object shows.
type NodeSettings struct {
	// Name is the node's name.
	Name string
	// InternalIP is the address at which the API server reaches the kubelet API,
	// and KubeletPort its port.
	InternalIP  string
	KubeletPort int32
	// KubeletVersion is shown by kubectl get nodes.
	KubeletVersion string
	// Taint is the hard taint that keeps pods away which were not granted.
	Taint corev1.Taint
	// Capacity is what the scheduler may place; cpu, memory and pods at least.
	Capacity corev1.ResourceList
	// OS and Arch are those of the containers; linux and amd64 by default.
	OS, Arch string
	// Labels are added to the node's own.
	Labels map[string]string
}

// DefaultCapacity is large enough that the cloud's own limits bind first.
func DefaultCapacity() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("10000"),
		corev1.ResourceMemory:           resource.MustParse("40Ti"),
		corev1.ResourceEphemeralStorage: resource.MustParse("400Ti"),
		corev1.ResourcePods:             resource.MustParse("5000"),
	}
}

func (s NodeSettings) withDefaults() NodeSettings {
	if s.OS == "" {
		s.OS = "linux"
	}
	if s.Arch == "" {
		s.Arch = "amd64"
	}
	capacity := DefaultCapacity()
	maps.Copy(capacity, s.Capacity)
	s.Capacity = capacity
	return s
}

func (s NodeSettings) validate() error {
	var errs []error
	if problems := validation.IsDNS1123Subdomain(s.Name); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("node name %q: %s", s.Name, strings.Join(problems, "; ")))
	}
	if net.ParseIP(s.InternalIP) == nil {
		errs = append(errs, fmt.Errorf("node address %q is not an IP address", s.InternalIP))
	}
	if s.KubeletPort < 1 || s.KubeletPort > 65535 {
		errs = append(errs, fmt.Errorf("kubelet port %d is not between 1 and 65535", s.KubeletPort))
	}
	if problems := validation.IsQualifiedName(s.Taint.Key); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("taint key %q: %s", s.Taint.Key, strings.Join(problems, "; ")))
	}
	if problems := validation.IsValidLabelValue(s.Taint.Value); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("taint value %q: %s", s.Taint.Value, strings.Join(problems, "; ")))
	}
	switch s.Taint.Effect {
	case corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule:
	default:
		errs = append(errs, fmt.Errorf("taint effect %q is not NoSchedule, NoExecute or PreferNoSchedule", s.Taint.Effect))
	}
	for name, q := range s.Capacity {
		if q.Sign() < 0 {
			errs = append(errs, fmt.Errorf("capacity of %s is %s, must not be negative", name, q.String()))
		}
	}
	return errors.Join(errs...)
}

// health is what the conditions of the node say.
type health struct {
	ready, reachable, capacity condition
	// partly is true while the cloud answers some calls and fails at others.
	partly bool
	// full is true while nothing can start.
	full bool
	// allocatable is what the scheduler may place; nil is the capacity of the settings.
	allocatable corev1.ResourceList
}

type condition struct {
	ok              bool
	reason, message string
	since           time.Time
}

// set changes a condition and tells whether anything changed; the time of
// transition moves with the truth only.
func (c *condition) set(ok bool, reason, message string, now time.Time) bool {
	if c.ok == ok && c.reason == reason && c.message == message && !c.since.IsZero() {
		return false
	}
	if c.ok != ok || c.since.IsZero() {
		c.since = now
	}
	c.ok, c.reason, c.message = ok, reason, message
	return true
}

func (c condition) node(kind corev1.NodeConditionType, now time.Time) corev1.NodeCondition {
	status := corev1.ConditionFalse
	if c.ok {
		status = corev1.ConditionTrue
	}
	return corev1.NodeCondition{
		Type: kind, Status: status, Reason: c.reason, Message: c.message,
		LastTransitionTime: metav1.NewTime(c.since), LastHeartbeatTime: metav1.NewTime(now),
	}
}

// nodeObject is the node as the agent wants it.
func nodeObject(s NodeSettings, provider providers.Provider, h health, now time.Time) *corev1.Node {
	location := provider.Location()
	labels := map[string]string{
		v1alpha1.VirtualNodeLabel: v1alpha1.VirtualNodeValue,
		v1alpha1.ProviderLabel:    provider.Name(),
		"kubernetes.io/role":      "agent",
		corev1.LabelHostname:      s.Name,
		corev1.LabelOSStable:      s.OS,
		"beta.kubernetes.io/os":   s.OS,
		corev1.LabelArchStable:    s.Arch,
		"beta.kubernetes.io/arch": s.Arch,
		excludeBalancersLabel:     "true",
	}
	if location.Region != "" {
		labels[corev1.LabelTopologyRegion] = location.Region
	}
	if location.Zone != "" {
		labels[corev1.LabelTopologyZone] = location.Zone
	}
	maps.Copy(labels, s.Labels)

	taints := agentTaints(s, h)
	allocatable := h.allocatable
	if allocatable == nil {
		allocatable = s.Capacity
	}
	pressure := func(kind corev1.NodeConditionType, reason, message string) corev1.NodeCondition {
		return condition{reason: reason, message: message, since: h.ready.since}.node(kind, now)
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:   s.Name,
			Labels: labels,
			Annotations: map[string]string{
				v1alpha1.CapabilitiesAnnotation: provider.Capabilities().String(),
				taintsAnnotation:                taintKeys(taints),
			},
		},
		Spec: corev1.NodeSpec{Taints: taints},
		Status: corev1.NodeStatus{
			Capacity:    s.Capacity.DeepCopy(),
			Allocatable: allocatable.DeepCopy(),
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: s.InternalIP},
				{Type: corev1.NodeHostName, Address: s.Name},
			},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: s.KubeletPort}},
			NodeInfo: corev1.NodeSystemInfo{
				KubeletVersion: s.KubeletVersion, OperatingSystem: s.OS, Architecture: s.Arch,
				OSImage: "container groups of " + provider.Name(), ContainerRuntimeVersion: provider.Name() + "://",
				MachineID: s.Name, SystemUUID: s.Name,
			},
			Conditions: []corev1.NodeCondition{
				h.ready.node(corev1.NodeReady, now),
				h.reachable.node(v1alpha1.CloudReachableCondition, now),
				h.capacity.node(v1alpha1.CapacityAvailableCondition, now),
				pressure(corev1.NodeMemoryPressure, "VirtualNodeHasNoMemory", "A virtual node has no memory of its own."),
				pressure(corev1.NodeDiskPressure, "VirtualNodeHasNoDisk", "A virtual node has no disk of its own."),
				pressure(corev1.NodePIDPressure, "VirtualNodeHasNoProcesses", "A virtual node has no processes of its own."),
				pressure(corev1.NodeNetworkUnavailable, "NetworkOfTheCloud", "The pods' network is the cloud's."),
			},
		},
	}
}

// agentTaints are the taints that the agent keeps on the node, in this order.
func agentTaints(s NodeSettings, h health) []corev1.Taint {
	taints := []corev1.Taint{s.Taint}
	for i := range v1alpha1.SoftTaints {
		taints = append(taints, corev1.Taint{
			Key: v1alpha1.SoftTaintPrefix + strconv.Itoa(i+1), Effect: corev1.TaintEffectPreferNoSchedule,
		})
	}
	if h.ready.ok && !h.reachable.ok && !h.partly {
		taints = append(taints, corev1.Taint{Key: v1alpha1.CloudUnreachableTaintKey, Effect: corev1.TaintEffectNoSchedule})
	}
	if h.full {
		taints = append(taints, corev1.Taint{Key: v1alpha1.NoCapacityTaintKey, Effect: corev1.TaintEffectNoSchedule})
	}
	return taints
}

func taintKeys(taints []corev1.Taint) string {
	keys := make([]string, len(taints))
	for i, t := range taints {
		keys[i] = t.Key + ":" + string(t.Effect)
	}
	return strings.Join(keys, ",")
}

// mergeTaints returns the node's taints with the agent's own as they should be
// and all others as they are, and whether anything changes. before is the
// agent's annotation on the node.
func mergeTaints(current, wanted []corev1.Taint, before string) ([]corev1.Taint, bool) {
	own := map[string]bool{
		v1alpha1.CloudUnreachableTaintKey + ":" + string(corev1.TaintEffectNoSchedule): true,
		v1alpha1.NoCapacityTaintKey + ":" + string(corev1.TaintEffectNoSchedule):       true,
	}
	for _, key := range strings.Split(before, ",") {
		own[key] = true
	}
	for _, t := range wanted {
		own[t.Key+":"+string(t.Effect)] = true
	}
	var merged []corev1.Taint
	for _, t := range current {
		if !own[t.Key+":"+string(t.Effect)] {
			merged = append(merged, t)
		}
	}
	merged = append(merged, wanted...)
	same := func(a, b []corev1.Taint) bool {
		return len(a) == len(b) && !slices.ContainsFunc(a, func(t corev1.Taint) bool {
			return !slices.ContainsFunc(b, func(u corev1.Taint) bool {
				return t.Key == u.Key && t.Value == u.Value && t.Effect == u.Effect
			})
		})
	}
	return merged, !same(merged, current)
}
