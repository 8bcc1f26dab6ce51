package burstable

import (
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ACINode is what a virtual node of Azure Container Instances gives to every pod,
// and what it lets pods choose by annotation. The agent publishes it, so that a pod
// is judged by it before it bursts.
type ACINode struct {
	// Spot and Confidential are the kind of a group whose pod names none.
	Spot         bool `json:"spot,omitempty"`
	Confidential bool `json:"confidential,omitempty"`
	// Zone is the availability zone of groups, empty for whichever has room.
	Zone string `json:"zone,omitempty"`
	// NoPublicIP gives a pod with ports a public address only if it asks for one. A
	// Spot node gives none.
	NoPublicIP bool `json:"noPublicIP,omitempty"`
	// SubnetID is the subnet of groups, empty for none; Subnets are the resource
	// IDs of others that pods may choose.
	SubnetID string   `json:"subnetID,omitempty"`
	Subnets  []string `json:"subnets,omitempty"`
	// Identities are the resource IDs of managed identities that pods may choose;
	// "*" is any that the agent may assign.
	Identities []string `json:"identities,omitempty"`
}

// ACI is what a container group of ACI is beyond what its pod's specification says:
// the settings of its node, and what the pod's annotations say instead.
type ACI struct {
	Spot, Confidential bool
	// CCEPolicy is the confidential computing enforcement policy, in base64.
	CCEPolicy string
	Zone      string
	SubnetID  string
	// Public is whether the ports of the pod, if it has any, get a public address.
	Public bool
	// DNSLabel is the name of that address below the region's domain, and
	// DNSLabelScope who may use the name again.
	DNSLabel, DNSLabelScope string
	// asks is the annotation that asks for the address, if any.
	asks string
	// Identities are the resource IDs of the managed identities that the pod asks
	// for, RegistryIdentities those that pull its images.
	Identities         []string
	RegistryIdentities []RegistryIdentity
	// ShareClaims are the PersistentVolumeClaims that the pod says are shares of Azure
	// Files.
	ShareClaims []string
}

// RegistryIdentity is the managed identity by which images are pulled from a
// registry.
type RegistryIdentity struct{ Server, Identity string }

// ACIAnnotation is an annotation by which a pod chooses how it runs on ACI.
type ACIAnnotation struct {
	Name string
	// Aliases are the names that other virtual nodes of ACI have for it.
	Aliases []string
	// Values says what it takes, Effect what it does.
	Values, Effect string
}

// aciPrefix begins the names of our annotations for ACI. None that begins so is
// dropped in silence.
const aciPrefix = "autoburst.io/aci-"

// successorPrefix begins those of virtualnodesOnAzureContainerInstances
// (Docs/PodCustomizations.md).
const successorPrefix = "microsoft.containerinstance.virtualnode."

const (
	aciPriority           = aciPrefix + "priority"
	aciZone               = aciPrefix + "zone"
	aciSKU                = aciPrefix + "sku"
	aciCCEPolicy          = aciPrefix + "cce-policy"
	aciSubnet             = aciPrefix + "subnet-id"
	aciPublicIP           = aciPrefix + "public-ip"
	aciDNSLabel           = aciPrefix + "dns-name-label"
	aciDNSLabelScope      = aciPrefix + "dns-name-label-scope"
	aciIdentities         = aciPrefix + "identities"
	aciRegistryIdentities = aciPrefix + "registry-identities"
	aciShareClaims        = aciPrefix + "azure-file-claims"
)

// ACIAnnotations are all of them. The aliases are those of azure-aci, the classic
// virtual node of AKS (pkg/provider), and of its successor.
var ACIAnnotations = []ACIAnnotation{
	{aciPriority, nil, "`Regular` or `Spot`", "what the service does when it runs short: Spot groups cost less and lose their machine"},
	{aciZone, []string{successorPrefix + "zones"}, "one of `1` to `9`", "the availability zone"},
	{aciSKU, []string{"virtual-kubelet.io/container-sku"}, "`Standard` or `Confidential`", "Confidential runs in a trusted execution environment"},
	{aciCCEPolicy, []string{"virtual-kubelet.io/confidential-compute-cce-policy", successorPrefix + "ccepolicy"}, "a policy in base64", "what the confidential group may run; makes it Confidential"},
	{aciSubnet, []string{successorPrefix + "subnets.primary"}, "a resource ID", "the subnet, one of those that the node allows"},
	{aciPublicIP, nil, "`true` or `false`", "whether the ports of the pod get a public address"},
	{aciDNSLabel, []string{"virtualkubelet.io/dnsnamelabel"}, "5 to 63 letters, digits and hyphens", "the name of the public address: LABEL.REGION.azurecontainer.io"},
	{aciDNSLabelScope, nil, "`Unsecure`, `TenantReuse`, `SubscriptionReuse`, `ResourceGroupReuse` or `Noreuse`", "who may take the name once it is free"},
	{aciIdentities, []string{successorPrefix + "identity"}, "resource IDs, separated by commas", "user-assigned managed identities of the pod, of those that the node allows"},
	{aciRegistryIdentities, nil, "`SERVER=RESOURCE-ID`, separated by commas", "managed identities that pull the pod's images, of those that the node allows"},
	{aciShareClaims, nil, "names of claims, separated by commas", "says that these PersistentVolumeClaims of the pod are shares of Azure Files, which nobody can see before it bursts"},
}

var (
	zoneRule     = regexp.MustCompile(`^[1-9]$`)
	dnsLabelRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{3,61}[A-Za-z0-9]$`)
	identityRule = regexp.MustCompile(`(?i)^/subscriptions/[^/,=\s]+/resourceGroups/[^/,=\s]+/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/[^/,=\s]+$`)
	serverRule   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?$`)
)

// dnsLabelScopes are the values of autoGeneratedDomainNameLabelScope (Swagger of
// Microsoft.ContainerInstance 2023-05-01).
var dnsLabelScopes = []string{"Unsecure", "TenantReuse", "SubscriptionReuse", "ResourceGroupReuse", "Noreuse"}

// IsManagedIdentity tells whether s is the resource ID of a user-assigned managed
// identity.
func IsManagedIdentity(s string) bool { return identityRule.MatchString(s) }

// IsZone tells whether s names an availability zone.
func IsZone(s string) bool { return zoneRule.MatchString(s) }

// ACIOf says how the pod with these annotations runs on the node, and which
// annotations the node cannot follow, in the order of their names. What a kind of
// group cannot have is refused too (overview of Spot containers, Microsoft Learn:
// no public address, no virtual network, no confidential SKU, no zone).
func ACIOf(annotations map[string]string, node ACINode) (ACI, []Refusal) {
	result := ACI{
		Spot: node.Spot, Confidential: node.Confidential, Zone: node.Zone, SubnetID: node.SubnetID,
		Public: node.SubnetID == "" && !node.NoPublicIP && !node.Spot,
	}
	if !slices.ContainsFunc(ACIAnnotations, func(a ACIAnnotation) bool { return a.in(annotations) }) && !namesACI(annotations) {
		return result, nil
	}
	r := &aciReader{annotations: annotations, node: &node}
	r.find()
	r.strangers()
	r.kind(&result)
	r.network(&result)
	r.identities(&result)
	value, _ := r.get(aciShareClaims)
	for claim := range strings.SplitSeq(value, ",") {
		if claim = strings.TrimSpace(claim); claim != "" {
			result.ShareClaims = append(result.ShareClaims, claim)
		}
	}
	slices.SortStableFunc(r.refusals, func(a, b Refusal) int { return strings.Compare(a.Field, b.Field) })
	return result, r.refusals
}

func (a *ACIAnnotation) in(annotations map[string]string) bool {
	if _, ok := annotations[a.Name]; ok {
		return true
	}
	for _, alias := range a.Aliases {
		if _, ok := annotations[alias]; ok {
			return true
		}
	}
	return false
}

// namesACI tells whether any annotation has a name of ours or of the successor's.
func namesACI(annotations map[string]string) bool {
	for name := range annotations {
		if strings.HasPrefix(name, aciPrefix) || strings.HasPrefix(name, successorPrefix) {
			return true
		}
	}
	return false
}

// aciReader reads annotations and collects what is wrong with them.
type aciReader struct {
	annotations map[string]string
	node        *ACINode
	found       map[string]aciValue // by our name
	refusals    []Refusal
}

// aciValue is the value of an annotation, and the name that the pod has for it.
type aciValue struct{ value, as string }

func (r *aciReader) refuse(name, format string, args ...any) {
	r.refusals = append(r.refusals, Refusal{Field: annotationField(name), Message: fmt.Sprintf(format, args...)})
}

// find reads every annotation under all its names. An empty value is none; two
// names with different values are refused.
func (r *aciReader) find() {
	r.found = map[string]aciValue{}
	for _, a := range ACIAnnotations {
		for _, name := range append([]string{a.Name}, a.Aliases...) {
			value := strings.TrimSpace(r.annotations[name])
			have, ok := r.found[a.Name]
			switch {
			case value == "" || value == have.value:
			case !ok:
				r.found[a.Name] = aciValue{value, name}
			default:
				r.refuse(name, "It says something else than %s; set one of them.", have.as)
			}
		}
	}
}

func (r *aciReader) get(name string) (value, as string) {
	v := r.found[name]
	return v.value, v.as
}

// strangers refuses annotations that are not known here, but by their names are for
// virtual nodes of ACI.
func (r *aciReader) strangers() {
	known := map[string]bool{}
	for _, a := range ACIAnnotations {
		known[a.Name] = true
		for _, alias := range a.Aliases {
			known[alias] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.annotations)) {
		value := r.annotations[name]
		switch {
		case known[name]:
		case strings.HasPrefix(name, aciPrefix):
			r.refuse(name, "No annotation has this name; docs/aci.md lists those of ACI.")
		case !strings.HasPrefix(name, successorPrefix):
		case name == successorPrefix+"injectkubeproxy" && value == "false":
			// There is none to inject.
		case name == successorPrefix+"injectdns" && value != "false":
			// The cluster's DNS is what pods get unless they say otherwise.
		case name == successorPrefix+"injectdns":
			r.refuse(name, "It is not followed; set spec.dnsPolicy to Default for the resolver of the cloud.")
		default:
			r.refuse(name, "It is not carried out; docs/aci.md lists the annotations of ACI.")
		}
	}
}

// kind reads what machine the group runs on.
func (r *aciReader) kind(a *ACI) {
	switch value, as := r.get(aciPriority); value {
	case "":
	case "Regular":
		a.Spot, a.Public = false, r.node.SubnetID == "" && !r.node.NoPublicIP
	case "Spot":
		a.Spot = true
	default:
		r.refuse(as, "%q is neither Regular nor Spot.", value)
	}
	// The classic virtual node does not mind the case of this one.
	switch value, as := r.get(aciSKU); strings.ToLower(value) {
	case "":
	case "standard":
		a.Confidential = false
	case "confidential":
		a.Confidential = true
	default:
		r.refuse(as, "%q is neither Standard nor Confidential.", value)
	}
	if policy, as := r.get(aciCCEPolicy); policy != "" {
		if _, err := base64.StdEncoding.DecodeString(policy); err != nil {
			r.refuse(as, "The policy is not base64; make it with az confcom acipolicygen.")
		}
		if value, _ := r.get(aciSKU); strings.EqualFold(value, "Standard") {
			r.refuse(as, "A group of the SKU Standard has no such policy; leave %s out.", aciSKU)
		}
		a.Confidential, a.CCEPolicy = true, policy
	}
	if value, as := r.get(aciZone); value != "" {
		if a.Zone = strings.Trim(value, "; "); !IsZone(a.Zone) {
			r.refuse(as, "%q is not one zone, of 1 to 9.", value)
		}
	}
	if !a.Spot {
		return
	}
	if a.Confidential {
		r.refuse(r.blame(aciPriority, aciSKU, aciCCEPolicy), "Spot groups cannot be confidential.")
	}
	if a.Zone != "" {
		r.refuse(r.blame(aciPriority, aciZone), "Spot groups cannot choose their zone, which is %s.", a.Zone)
	}
}

// blame is the first of the annotations that the pod has.
func (r *aciReader) blame(names ...string) string {
	for _, name := range names {
		if value, as := r.get(name); value != "" {
			return as
		}
	}
	return names[0]
}

// network reads where the group's address is.
func (r *aciReader) network(a *ACI) {
	if subnet, as := r.get(aciSubnet); subnet != "" {
		if !contains(append([]string{r.node.SubnetID}, r.node.Subnets...), subnet) {
			r.refuse(as, "The virtual node does not let pods into this subnet; its operator allows subnets by ACI_ALLOWED_SUBNET_IDS.")
		}
		a.SubnetID, a.Public = subnet, false
	}
	if a.Spot && a.SubnetID != "" {
		r.refuse(r.blame(aciPriority, aciSubnet), "Spot groups cannot be in a virtual network, and this one would be in %s.", a.SubnetID)
	}
	switch value, as := r.get(aciPublicIP); value {
	case "":
	case "false":
		a.Public = false
	case "true":
		a.Public, a.asks = true, as
		r.onlyPublic(as, a)
	default:
		r.refuse(as, "%q is neither true nor false.", value)
	}
	label, as := r.get(aciDNSLabel)
	if label != "" {
		if !dnsLabelRule.MatchString(label) {
			r.refuse(as, "%q is not 5 to 63 letters, digits and hyphens, with no hyphen at the ends.", label)
		}
		r.onlyPublic(as, a)
		if value, _ := r.get(aciPublicIP); value == "false" {
			r.refuse(as, "Only a public address has a name, and %s is false.", aciPublicIP)
		}
		a.DNSLabel, a.Public, a.asks = label, true, as
	}
	if scope, as := r.get(aciDNSLabelScope); scope != "" {
		switch {
		case !slices.Contains(dnsLabelScopes, scope):
			r.refuse(as, "%q is none of %s.", scope, strings.Join(dnsLabelScopes, ", "))
		case label == "":
			r.refuse(as, "It says something of %s, which is not set.", aciDNSLabel)
		}
		a.DNSLabelScope = scope
	}
}

// onlyPublic refuses an annotation about a public address where there can be none.
func (r *aciReader) onlyPublic(as string, a *ACI) {
	switch {
	case a.Spot:
		r.refuse(as, "Spot groups have no public address.")
	case a.SubnetID != "":
		r.refuse(as, "Groups in a virtual network have no public address, and this one is in %s.", a.SubnetID)
	}
}

func (r *aciReader) identities(a *ACI) {
	if value, as := r.get(aciIdentities); value != "" {
		for identity := range strings.SplitSeq(value, ",") {
			identity = strings.TrimSpace(identity)
			if r.mayUse(as, identity) && !contains(a.Identities, identity) {
				a.Identities = append(a.Identities, identity)
			}
		}
	}
	if value, as := r.get(aciRegistryIdentities); value != "" {
		for pair := range strings.SplitSeq(value, ",") {
			server, identity, ok := strings.Cut(strings.TrimSpace(pair), "=")
			if !ok || !serverRule.MatchString(server) {
				r.refuse(as, "%q is not SERVER=RESOURCE-ID.", strings.TrimSpace(pair))
				continue
			}
			if r.mayUse(as, identity) {
				a.RegistryIdentities = append(a.RegistryIdentities, RegistryIdentity{Server: server, Identity: identity})
			}
		}
	}
}

func (r *aciReader) mayUse(as, identity string) bool {
	switch {
	case !IsManagedIdentity(identity):
		r.refuse(as, "%q is not the resource ID of a user-assigned managed identity.", identity)
	case !slices.Contains(r.node.Identities, "*") && !contains(r.node.Identities, identity):
		r.refuse(as, "The virtual node does not let pods use the identity %s; its operator allows identities by ACI_ALLOWED_IDENTITIES.", identity)
	default:
		return true
	}
	return false
}

// contains looks for a resource ID, whose case does not matter.
func contains(ids []string, id string) bool {
	return slices.ContainsFunc(ids, func(have string) bool { return strings.EqualFold(have, id) })
}

// The largest groups by kind (Azure Container Instances, resource availability and
// quota limits).
var (
	largestACI          = Size{MilliCPU: 31_000, MemoryBytes: 240_000_000_000}
	largestConfidential = Size{MilliCPU: 31_000, MemoryBytes: 180_000_000_000}
	largestSpot         = Size{MilliCPU: 4_000, MemoryBytes: 16_000_000_000}
)

// Largest is the size of the largest group of this kind.
func (a ACI) Largest() Size {
	switch {
	case a.Spot:
		return largestSpot
	case a.Confidential:
		return largestConfidential
	}
	return largestACI
}

// aci judges a pod's annotations for ACI, and goes on with what the kind of group
// that they choose can do.
func (c *checker) aci(pod *corev1.Pod) {
	if c.caps.ACI == nil {
		return
	}
	settings, refusals := ACIOf(pod.Annotations, *c.caps.ACI)
	c.refusals = append(c.refusals, refusals...)
	largest := settings.Largest()
	c.caps.Limits.MilliCPU, c.caps.Limits.MemoryBytes = largest.MilliCPU, largest.MemoryBytes
	if settings.SubnetID != "" && !c.caps.Has(DNSConfig) {
		c.caps.Features = append(slices.Clone(c.caps.Features), DNSConfig)
	}
	c.resolver(pod)
	c.shareClaims = settings.ShareClaims
	for _, claim := range settings.ShareClaims {
		if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
			return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim
		}) {
			c.refusals = append(c.refusals, Refusal{Field: annotationField(aciShareClaims), Message: fmt.Sprintf("No volume of the pod is of the claim %q.", claim)})
		}
	}
	port := firstPort(pod.Spec.Containers)
	switch {
	case len(refusals) > 0: // of which a port may be a consequence
	case settings.Spot && settings.Public && port != "":
		c.refusals = append(c.refusals, Refusal{Field: port, Message: fmt.Sprintf(
			"Spot groups of the cloud %q have no address. Set the annotation %s to false to run without one, or %s to Regular.", c.caps.Provider, aciPublicIP, aciPriority)})
	case settings.asks != "" && port == "":
		c.refusals = append(c.refusals, Refusal{Field: annotationField(settings.asks), Message: "A public address needs a port, and no container of the pod has one."})
	}
}

// Bounds of a resolver configuration (azure-aci, pkg/network: those of the service's
// dnsConfig).
const (
	maxACINameservers = 3
	maxACISearches    = 6
	maxACISearchText  = 256
)

// resolver judges the pod's own resolver configuration, together with the cluster's:
// its server, and the three domains in which names of services are looked for.
func (c *checker) resolver(pod *corev1.Pod) {
	d := pod.Spec.DNSConfig
	if d == nil {
		return
	}
	nameservers, searches, text := len(d.Nameservers), len(d.Searches), strings.Join(d.Searches, " ")
	if policy := pod.Spec.DNSPolicy; policy != corev1.DNSNone && policy != corev1.DNSDefault {
		nameservers, searches = nameservers+1, searches+3
		text += " " + pod.Namespace + ".svc.cluster.local svc.cluster.local cluster.local"
	}
	spec := path{name: "spec", index: -1}
	at := path{parent: &spec, name: "dnsConfig", index: -1}
	if nameservers == 0 && (searches > 0 || len(d.Options) > 0) {
		c.lacks(&at, "nameservers", "takes a resolver configuration with a nameserver only")
	}
	c.bound(&at, "nameservers", "nameservers, with the cluster's", nameservers, maxACINameservers)
	c.bound(&at, "searches", "search domains, with the cluster's", searches, maxACISearches)
	c.bound(&at, "searches", "characters in all search domains, with the cluster's", len(text), maxACISearchText)
}

// firstPort is the path of the first port of the containers, empty if there is none.
func firstPort(containers []corev1.Container) string {
	for i := range containers {
		if len(containers[i].Ports) > 0 {
			return fmt.Sprintf("spec.containers[%d].ports[0]", i)
		}
	}
	return ""
}
