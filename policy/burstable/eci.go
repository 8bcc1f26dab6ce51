package burstable

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const (
	// eciProvider is the short name of the cloud that these annotations are for.
	eciProvider = "eci"
	// eciPrefix is how all annotations for ECI begin but a few, which are named in
	// full in the tables below.
	eciPrefix = "k8s.aliyun.com/eci-"
	aliyun    = "k8s.aliyun.com/"

	resourceGPU corev1.ResourceName = "nvidia.com/gpu"
)

// ECISettings are what a pod asks of ECI beyond the pod API, by the annotations that
// ACK documents ("ECI pod annotations", 2026-03). A zero value is no wish.
type ECISettings struct {
	// VSwitchIDs are where the group may get its address, and ScheduleStrategy in
	// which order they are tried: VSwitchOrdered or VSwitchRandom.
	VSwitchIDs       []string
	ScheduleStrategy string
	SecurityGroupID  string
	ResourceGroupID  string
	RAMRole          string
	// Tags are added to those of the owner, in the order of the annotation.
	Tags []ECITag

	// Specs are the sizes and instance types to try, in this order.
	Specs []ECISpec
	// ComputeCategories are economy and general, in the order to try.
	ComputeCategories []string
	// CPUCores are physical cores, CPUThreads the threads of each.
	CPUCores, CPUThreads int64
	GPUDriver            string
	Spot                 ECISpot
	// MaxPendingMinutes is how long the group may take to start.
	MaxPendingMinutes int64

	// ImageCacheID is one image cache; AutoImageCache takes the best that there is.
	ImageCacheID   string
	AutoImageCache bool
	// Registries are instances of Container Registry that need no password, with the
	// roles that open those of other accounts.
	Registries                             []ECIRegistry
	RegistryServiceRoles, RegistryUserRole string
	// PlainHTTPRegistries and InsecureRegistries are lists of host names, with commas.
	PlainHTTPRegistries, InsecureRegistries string

	EIP       ECIEIP
	IPv6      ECIIPv6
	PrivateIP string
	Hosts     []corev1.HostAlias

	// ExtraStorageGiB is disk space beyond what every group has.
	ExtraStorageGiB int64
	CorePattern     string
	NTPServers      []string

	// IngressBandwidth and EgressBandwidth bound the traffic, in bytes in a second.
	IngressBandwidth, EgressBandwidth int64
}

// ECITag is a tag of a group.
type ECITag struct{ Key, Value string }

// ECISpec is a size or an instance type to try.
type ECISpec struct {
	// InstanceType is empty where a size alone is asked for.
	InstanceType string
	// Size is what it has at least; Size.EphemeralStorageBytes is not used.
	Size Size
	GPUs int64
}

// ECISpot is how a group is bought as a spot instance.
type ECISpot struct {
	// Strategy is SpotAsPriceGo or SpotWithPriceLimit, empty for none.
	Strategy string
	// PriceLimit is per hour, in the account's currency.
	PriceLimit string
	// Duration is the protected time in hours, "0" or "1"; empty is ECI's default.
	Duration string
	// Fallback makes a group on demand where no spot instance is to be had.
	Fallback bool
}

// ECIEIP is a public address of a group: a new one, or one that exists.
type ECIEIP struct {
	Create             bool
	ID                 string
	BandwidthMbps      int64
	BandwidthPackageID string
	ISP                string
}

// ECIIPv6 is an IPv6 address of a group.
type ECIIPv6 struct {
	Address, Internet bool
	BandwidthMbps     int64
}

// ECIRegistry is an instance of Container Registry; Region is empty for the group's.
type ECIRegistry struct{ Region, ID string }

// isECI tells whether an annotation is for ECI.
func isECI(key string) bool {
	if !strings.HasPrefix(key, aliyun) {
		return isBandwidth(key)
	}
	if strings.HasPrefix(key, eciPrefix) {
		return true
	}
	return eciByKey[key] != nil || eciRefused[key] != "" || eciIgnored[key] != ""
}

func asksECI(pod *corev1.Pod) bool {
	for k := range pod.Annotations {
		if isECI(k) {
			return true
		}
	}
	return false
}

// ECI reads what a pod asks of ECI: its own annotations, over those of the
// capabilities. wrong are the annotations in the way, in the order of their keys. What
// only a node can judge is taken as right where the capabilities name no provider.
func ECI(annotations map[string]string, c *Capabilities) (s ECISettings, wrong []Refusal) {
	refuse := func(key, format string, args ...any) {
		wrong = append(wrong, Refusal{Field: annotationField(key), Message: fmt.Sprintf(format, args...)})
	}
	wishes := make(map[string]string, len(c.Annotations)+len(annotations))
	for k, v := range c.Annotations {
		wishes[k] = v
	}
	for k, v := range annotations {
		if !isECI(k) {
			continue
		}
		if slices.Contains(c.ForbiddenAnnotations, k) {
			refuse(k, "The virtual node does not let pods set it; its operator decides that by ECI_FORBIDDEN_ANNOTATIONS.")
			continue
		}
		wishes[k] = v
	}
	for _, k := range slices.Sorted(maps.Keys(wishes)) {
		v := strings.TrimSpace(wishes[k])
		row := eciByKey[k]
		switch {
		case row != nil:
			if problem := row.problem(&s, v, c.ECI); problem != "" {
				refuse(k, "It is %q: %s.", clip(v), problem)
			}
		case eciIgnored[k] != "" || eciAnswers[strings.TrimPrefix(k, aliyun)]:
		case eciRefused[k] != "":
			if v != "false" {
				refuse(k, "A virtual node cannot carry it out: %s.", eciRefused[k])
			}
		default:
			refuse(k, "It is no annotation of ECI that a virtual node knows; take it away, or correct its name.")
		}
	}
	if c.Provider != "" {
		node := c.ECI
		if node == nil { // an agent that does not tell, or asks for nothing
			node = &ECINode{}
		}
		wrong = node.closed(annotations, &s, wrong)
	}
	for _, r := range eciTogether {
		if r.wrong(&s) {
			if _, own := annotations[r.key]; own || r.always {
				refuse(r.key, "%s", r.why)
			}
		}
	}
	slices.SortStableFunc(wrong, func(a, b Refusal) int { return strings.Compare(a.Field, b.Field) })
	return s, wrong
}

// clip keeps a value short in a message.
func clip(v string) string {
	const most = 60
	if len(v) > most {
		return v[:most] + "…"
	}
	return v
}

// eci asks about the annotations for ECI. A cloud that is another one does not read
// them, as no local node does.
func (c *checker) eci(pod *corev1.Pod) {
	if c.caps.Provider != eciProvider {
		return
	}
	gpus := gpusOf(&pod.Spec)
	if gpus == 0 && len(c.caps.Annotations) == 0 && !asksECI(pod) {
		return
	}
	if !c.caps.Has(ECIAnnotations) {
		for _, k := range slices.Sorted(maps.Keys(pod.Annotations)) {
			if isECI(k) && eciByKey[k] != nil && !isBandwidth(k) {
				c.refusals = append(c.refusals, Refusal{Field: annotationField(k), Message: "The agent of the virtual node does not read it yet; update the agent."})
			}
		}
		return
	}
	s, wrong := ECI(pod.Annotations, &c.caps)
	c.refusals = append(c.refusals, wrong...)
	if len(wrong) > 0 {
		return
	}
	if s.IPv6.Address && c.podIPs != "" {
		c.refusals = append(c.refusals, Refusal{Field: c.podIPs, Message: "ECI tells containers the IPv4 address of a pod only, and this one has an IPv6 address too; use status.podIP."})
	}
	c.eciSizes(&pod.Spec, &s, gpus)
}

// eciSizes compares what is to be bought with what the containers need.
func (c *checker) eciSizes(spec *corev1.PodSpec, s *ECISettings, gpus int64) {
	need := SizeOf(spec)
	refuse := func(key, format string, args ...any) {
		c.refusals = append(c.refusals, Refusal{Field: annotationField(key), Message: fmt.Sprintf(format, args...)})
	}
	const specs = eciPrefix + "use-specs"
	for i := range s.Specs {
		o := &s.Specs[i]
		switch {
		case o.Size.MilliCPU < need.MilliCPU || o.Size.MemoryBytes < need.MemoryBytes:
			refuse(specs, "%s has not what the containers ask for: %dm of cpu and %d bytes of memory.", o, need.MilliCPU, need.MemoryBytes)
		case o.GPUs < gpus:
			refuse(specs, "%s has %d GPUs; the containers ask for %d.", o, o.GPUs, gpus)
		case o.InstanceType == "" && !sells(c.caps.offers(s.Spot.Strategy != ""), o.Size):
			refuse(specs, "%s is larger than any size that ECI sells%s.", o, asSpot(s))
		}
	}
	if len(s.Specs) > 0 {
		return
	}
	if gpus > 0 {
		refuse(specs, "The containers ask for %s, so name an instance type with GPUs, such as ecs.gn7i-c8g1.2xlarge.", resourceGPU)
	}
	if s.Spot.Strategy != "" && !sells(c.caps.SpotOffers, need) {
		refuse(eciPrefix+"spot-strategy", "ECI sells no size as a spot instance that holds %dm of cpu and %d bytes of memory.", need.MilliCPU, need.MemoryBytes)
	}
}

func sells(o *Offers, need Size) bool {
	if o == nil {
		return false
	}
	_, ok := o.Cheapest(need)
	return ok
}

func asSpot(s *ECISettings) string {
	if s.Spot.Strategy == "" {
		return ""
	}
	return " as a spot instance"
}

// offers are the sizes sold, as spot instances or on demand.
func (c *Capabilities) offers(spot bool) *Offers {
	switch {
	case spot:
		return c.SpotOffers
	case c.Sizes != nil:
		return c.Sizes.Offers
	}
	return nil
}

func (s *ECISpec) String() string {
	if s.InstanceType != "" {
		return s.InstanceType
	}
	return fmt.Sprintf("%g-%gGi", float64(s.Size.MilliCPU)/1000, float64(s.Size.MemoryBytes)/(1<<30))
}

// gpusOf counts the GPUs that the containers ask for.
func gpusOf(spec *corev1.PodSpec) int64 {
	var n int64
	for i := range spec.Containers {
		n += GPUs(&spec.Containers[i].Resources)
	}
	for i := range spec.InitContainers {
		if IsSidecar(&spec.InitContainers[i]) {
			n += GPUs(&spec.InitContainers[i].Resources)
		} else {
			n = max(n, GPUs(&spec.InitContainers[i].Resources))
		}
	}
	return n
}

// GPUs is how many GPUs one container asks for.
func GPUs(r *corev1.ResourceRequirements) int64 {
	if len(r.Limits) == 0 && len(r.Requests) == 0 {
		return 0
	}
	limit, request := r.Limits[resourceGPU], r.Requests[resourceGPU]
	return max(limit.Value(), request.Value())
}

// SoldTo is what the cloud sells for a pod, also where an annotation of the pod, or
// of the virtual node, says what to buy: with several sizes to try, the most of each
// resource that may be bought.
func SoldTo(pod *corev1.Pod, c *Capabilities) Size {
	if c == nil || c.Provider != eciProvider || !c.Has(ECIAnnotations) {
		return SoldSize(&pod.Spec, c)
	}
	if len(c.Annotations) == 0 && !asksECI(pod) {
		return SoldSize(&pod.Spec, c)
	}
	s, wrong := ECI(pod.Annotations, c)
	if len(wrong) > 0 { // it does not run there
		return SoldSize(&pod.Spec, c)
	}
	need := SizeOf(&pod.Spec)
	wants := make([]Size, 0, len(s.Specs)+1)
	most := Size{EphemeralStorageBytes: need.EphemeralStorageBytes}
	for i := range s.Specs {
		if s.Specs[i].InstanceType != "" {
			most = most.atLeast(s.Specs[i].Size)
			continue
		}
		wants = append(wants, s.Specs[i].Size)
	}
	if len(s.Specs) == 0 {
		wants = append(wants, need)
	}
	for _, spot := range []bool{false, true} {
		if spot && s.Spot.Strategy == "" || !spot && s.Spot.Strategy != "" && !s.Spot.Fallback {
			continue
		}
		for _, want := range wants {
			if o := c.offers(spot); o != nil {
				if sold, ok := o.Cheapest(want); ok {
					most = most.atLeast(sold)
					continue
				}
			}
			most = most.atLeast(want)
		}
	}
	most.EphemeralStorageBytes = need.EphemeralStorageBytes
	return most
}

// SizeAnnotation tells whether an annotation may change what [SoldTo] returns.
func SizeAnnotation(key string) bool {
	name, is := strings.CutPrefix(key, eciPrefix)
	return is && (name == "use-specs" || name == "instance-type" || strings.HasPrefix(name, "spot-"))
}

// eciRemarks are what a pod that runs on ECI should know: annotations that have no
// effect, and where a sidecar differs.
func eciRemarks(pod *corev1.Pod, c *Capabilities) []Refusal {
	if c.Provider != eciProvider {
		return nil
	}
	var out []Refusal
	for i := range pod.Spec.InitContainers {
		if IsSidecar(&pod.Spec.InitContainers[i]) && pod.Spec.RestartPolicy != "" && pod.Spec.RestartPolicy != corev1.RestartPolicyAlways {
			out = append(out, Refusal{
				Field:   fmt.Sprintf("spec.initContainers[%d].restartPolicy", i),
				Message: fmt.Sprintf("ECI does not start a sidecar again that ends by itself in a pod whose restartPolicy is %s.", pod.Spec.RestartPolicy),
			})
		}
	}
	for _, k := range slices.Sorted(maps.Keys(pod.Annotations)) {
		if why := eciIgnored[k]; why != "" {
			out = append(out, Refusal{Field: annotationField(k), Message: "It has no effect: " + why + "."})
		}
	}
	return out
}

// IsECIAnnotation tells whether a key is one of the annotations that are carried out.
func IsECIAnnotation(key string) bool { return eciByKey[key] != nil }
