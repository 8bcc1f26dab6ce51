package aci

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	sdk "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// builder makes the body of a PUT from a specification and collects what the
// service could not carry out.
type builder struct {
	config   *Config
	spec     *providers.GroupSpec
	settings burstable.ACI
	volumes  map[string]string // Kubernetes' name → the service's
	refusals []string
	hidden   redactor // secrets of the node's own settings that are in the body
	failed   error    // not the pod's fault
}

// refuse notes that the service cannot carry out a field. The specification has
// passed burstable.Check; what is refused here is only seen once everything is
// resolved, or is a second line of defence against dropping it in silence.
func (b *builder) refuse(field, format string, args ...any) {
	b.refusals = append(b.refusals, field+": "+fmt.Sprintf(format, args...))
}

// groupRequest is the body of a PUT and what else is to be known of it.
type groupRequest struct {
	body sdk.ContainerGroup
	// hidden are the secrets in it that are not the pod's.
	hidden redactor
	// special is set where the pod asks for another kind of group than the node's
	// others are, which has a quota and a stock of its own.
	special bool
}

// buildGroup makes the container group of a pod. Its error is of class InvalidPod
// and names every field in the way, or of class Misconfigured.
func buildGroup(config *Config, spec *providers.GroupSpec) (groupRequest, error) {
	b := &builder{config: config, spec: spec}
	b.readAnnotations()
	b.checkPod()
	properties := &sdk.ContainerGroupPropertiesProperties{
		OSType:                   to.Ptr(sdk.OperatingSystemTypesLinux),
		RestartPolicy:            b.restartPolicy(),
		Volumes:                  b.buildVolumes(),
		ImageRegistryCredentials: b.registryCredentials(),
		DNSConfig:                b.dns(),
		Diagnostics:              b.diagnostics(),
	}
	b.setKind(properties)
	cpu, memory := cpuShares(spec), memoryShares(spec)
	b.checkSize(sum(cpu), sum(memory))
	for i := range spec.InitContainers {
		properties.InitContainers = append(properties.InitContainers, b.initContainer(i))
	}
	for i := range spec.Containers {
		properties.Containers = append(properties.Containers, b.container(i, cpu[i], memory[i]))
	}
	if b.settings.SubnetID != "" {
		properties.SubnetIDs = []*sdk.ContainerGroupSubnetID{{ID: to.Ptr(b.settings.SubnetID)}}
	}
	properties.IPAddress = b.address()
	identity := b.identity(properties.ImageRegistryCredentials)
	switch {
	case len(b.refusals) > 0:
		return groupRequest{}, &providers.Error{
			Class:   providers.InvalidPod,
			Message: "Azure Container Instances cannot run the pod: " + strings.Join(b.refusals, "; "),
		}
	case b.failed != nil:
		return groupRequest{}, b.failed
	}
	group := sdk.ContainerGroup{
		Location:   to.Ptr(config.Region),
		Tags:       ownerTags(spec.Owner),
		Identity:   identity,
		Properties: properties,
	}
	if b.settings.Zone != "" {
		group.Zones = []*string{to.Ptr(b.settings.Zone)}
	}
	return groupRequest{
		body: group, hidden: b.hidden,
		special: config.special(b.settings.Spot, b.settings.Confidential, b.settings.Zone),
	}, nil
}

// special tells whether a group is of another kind than those of the node, or in another
// zone: it has a quota or a stock of its own.
func (c *Config) special(spot, confidential bool, zone string) bool {
	return spot != c.Spot || confidential != c.Confidential || zone != "" && zone != c.Zone
}

func (b *builder) checkPod() {
	spec := b.spec
	if spec.Hostname != "" {
		b.refuse("spec.hostname", "cannot be set")
	}
	if len(spec.HostAliases) > 0 {
		b.refuse("spec.hostAliases", "cannot be set")
	}
	switch n := len(spec.Containers) + len(spec.InitContainers); {
	case len(spec.Containers) == 0:
		b.refuse("spec.containers", "there are none")
	case n > maxContainers:
		b.refuse("spec.containers", "%d containers and init containers are more than %d", n, maxContainers)
	}
	// Whether a pod may do without what only guards it, such as fsGroup, is for
	// burstable.Check to say.
	if s := spec.SecurityContext; s != nil {
		for _, field := range []struct {
			name string
			set  bool
		}{
			{"sysctls", len(s.Sysctls) > 0},
			{"windowsOptions", s.WindowsOptions != nil},
		} {
			if field.set {
				b.refuse("spec.securityContext."+field.name, "cannot be set")
			}
		}
	}
	for tag, value := range ownerTags(spec.Owner) {
		if len(*value) > maxTagValue {
			b.refuse("metadata", "the value of tag %s has %d characters, more than %d", tag, len(*value), maxTagValue)
		}
	}
}

func (b *builder) checkSize(cpu, memory int64) {
	largest := b.settings.Largest()
	if most := largest.MilliCPU / milliCPUPerStep; cpu > most {
		b.refuse("spec.containers", "%g vCPU together are more than %g", steps(cpu, 100), steps(most, 100))
	}
	if most := largest.MemoryBytes / bytesPerStep; memory > most {
		b.refuse("spec.containers", "%g GB of memory together are more than %g", steps(memory, 10), steps(most, 10))
	}
}

// steps turns a count of steps into the service's unit.
func steps(n int64, perUnit float64) float64 { return float64(n) / perUnit }

func (b *builder) restartPolicy() *sdk.ContainerGroupRestartPolicy {
	switch b.spec.RestartPolicy {
	case corev1.RestartPolicyAlways, "":
		return to.Ptr(sdk.ContainerGroupRestartPolicyAlways)
	case corev1.RestartPolicyOnFailure:
		return to.Ptr(sdk.ContainerGroupRestartPolicyOnFailure)
	case corev1.RestartPolicyNever:
		return to.Ptr(sdk.ContainerGroupRestartPolicyNever)
	}
	b.refuse("spec.restartPolicy", "%q is not known", b.spec.RestartPolicy)
	return nil
}

// registryCredentials: the pod's own words win over the node's, an identity that it
// names over its pull secrets.
func (b *builder) registryCredentials() []*sdk.ImageRegistryCredential {
	var result []*sdk.ImageRegistryCredential
	seen := map[string]bool{}
	byIdentity := func(server, identity string) {
		if !seen[server] {
			seen[server] = true
			result = append(result, &sdk.ImageRegistryCredential{Server: to.Ptr(server), Identity: to.Ptr(identity)})
		}
	}
	for _, r := range b.settings.RegistryIdentities {
		byIdentity(r.Server, r.Identity)
	}
	for _, c := range b.spec.RegistryCredentials {
		server := registryServer(c.Server)
		// The service takes one credential per registry; as with a kubelet, the
		// first is the one of the first pull secret.
		if server == "" || seen[server] {
			continue
		}
		seen[server] = true
		result = append(result, &sdk.ImageRegistryCredential{
			Server: to.Ptr(server), Username: to.Ptr(c.Username), Password: to.Ptr(c.Password),
		})
	}
	for _, server := range slices.Sorted(maps.Keys(b.config.RegistryIdentities)) {
		if b.pullsFrom(server) {
			byIdentity(server, b.config.RegistryIdentities[server])
		}
	}
	return result
}

// registryServer takes the protocol and path off a registry's address: pull
// secrets write Docker Hub as https://index.docker.io/v1/.
func registryServer(address string) string {
	if _, rest, found := strings.Cut(address, "://"); found {
		address = rest
	}
	server, _, _ := strings.Cut(address, "/")
	return server
}

func (b *builder) dns() *sdk.DNSConfiguration {
	d := b.spec.DNS
	if d == nil || d.Default && b.settings.SubnetID == "" {
		// Outside of a virtual network there is no way to the cluster's resolver.
		return nil
	}
	searches := strings.Join(d.Searches, " ")
	switch {
	case b.settings.SubnetID == "":
		b.refuse("spec.dnsConfig", "a resolver can be set in a virtual network only")
	case len(d.Nameservers) == 0:
		b.refuse("spec.dnsConfig.nameservers", "at least one is needed")
	case len(d.Nameservers) > maxNameservers:
		b.refuse("spec.dnsConfig.nameservers", "%d are more than %d", len(d.Nameservers), maxNameservers)
	case len(d.Searches) > maxSearches || len(searches) > maxSearchText:
		b.refuse("spec.dnsConfig.searches", "are more than %d or have more than %d characters together", maxSearches, maxSearchText)
	}
	result := &sdk.DNSConfiguration{NameServers: pointers(d.Nameservers)}
	if searches != "" {
		result.SearchDomains = to.Ptr(searches)
	}
	var options []string
	for _, option := range d.Options {
		if option.Value != nil {
			options = append(options, option.Name+":"+*option.Value)
			continue
		}
		options = append(options, option.Name)
	}
	if len(options) > 0 {
		result.Options = to.Ptr(strings.Join(options, " "))
	}
	return result
}

// address opens the containers' ports: to the internet, or in the subnet. A
// group without ports has no public address; in a subnet it has one anyway.
func (b *builder) address() *sdk.IPAddress {
	type endpoint struct {
		port     int32
		protocol corev1.Protocol
	}
	holder := map[endpoint]string{}
	var ports []*sdk.Port
	for i := range b.spec.Containers {
		for j, p := range b.spec.Containers[i].Ports {
			field := fmt.Sprintf("spec.containers[%d].ports[%d]", i, j)
			e := endpoint{p.ContainerPort, cmp.Or(p.Protocol, corev1.ProtocolTCP)}
			_, reserved := limits.ReservedPort(e.port)
			switch {
			case e.protocol != corev1.ProtocolTCP && e.protocol != corev1.ProtocolUDP:
				b.refuse(field, "protocol %s is not supported", e.protocol)
			case p.HostPort != 0:
				b.refuse(field, "there are no host ports")
			case reserved:
				b.refuse(field, "port %d is reserved by the service", e.port)
			case holder[e] != "":
				b.refuse(field, "port %d/%s is already used by %s, and the containers share one address", e.port, e.protocol, holder[e])
			}
			holder[e] = field
			ports = append(ports, &sdk.Port{Port: to.Ptr(e.port), Protocol: to.Ptr(sdk.ContainerGroupNetworkProtocol(e.protocol))})
		}
	}
	if len(ports) > maxPorts {
		b.refuse("spec.containers", "%d ports together are more than %d", len(ports), maxPorts)
	}
	if len(ports) == 0 || !b.addressed() {
		return nil
	}
	if b.settings.SubnetID != "" {
		return &sdk.IPAddress{Type: to.Ptr(sdk.ContainerGroupIPAddressTypePrivate), Ports: ports}
	}
	result := &sdk.IPAddress{Type: to.Ptr(sdk.ContainerGroupIPAddressTypePublic), Ports: ports}
	if b.settings.Spot {
		b.refuse("spec.containers", "Spot groups have no address for ports")
	}
	if b.settings.DNSLabel != "" {
		result.DNSNameLabel = to.Ptr(b.settings.DNSLabel)
	}
	if b.settings.DNSLabelScope != "" {
		result.AutoGeneratedDomainNameLabelScope = to.Ptr(sdk.DNSNameLabelReusePolicy(b.settings.DNSLabelScope))
	}
	return result
}

// addressed tells whether the ports of the pod get an address.
func (b *builder) addressed() bool { return b.settings.SubnetID != "" || b.settings.Public }

var (
	volumeRule  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{3,61}[a-z0-9]$`)
	hyphensRule = regexp.MustCompile(`-{2,}`)
)

const maxVolumeName = 63

// volumeNames gives every volume a name that the service takes: 5 to 63 lower
// case letters, digits and hyphens, no two hyphens in a row. Names that fit
// stay; the others are made longer or shorter, and unique.
func volumeNames(volumes []providers.Volume) map[string]string {
	fits := func(s string) bool { return volumeRule.MatchString(s) && !strings.Contains(s, "--") }
	result := make(map[string]string, len(volumes))
	taken := map[string]bool{}
	for _, v := range volumes {
		if fits(v.Name) {
			result[v.Name] = v.Name
			taken[v.Name] = true
		}
	}
	for _, v := range volumes {
		if result[v.Name] != "" {
			continue
		}
		base := strings.Trim(hyphensRule.ReplaceAllString(v.Name, "-"), "-")
		if len(base) < 5 {
			base = "vol-" + base
		}
		candidate := base
		for n := 2; !fits(candidate) || taken[candidate]; n++ {
			suffix := fmt.Sprintf("-%d", n)
			candidate = strings.TrimRight(base[:min(len(base), maxVolumeName-len(suffix))], "-") + suffix
		}
		result[v.Name] = candidate
		taken[candidate] = true
	}
	return result
}

func (b *builder) buildVolumes() []*sdk.Volume {
	b.volumes = volumeNames(b.spec.Volumes)
	if n := len(b.spec.Volumes); n > maxVolumes {
		b.refuse("spec.volumes", "%d are more than %d", n, maxVolumes)
	}
	var result []*sdk.Volume
	for i, v := range b.spec.Volumes {
		field := fmt.Sprintf("spec.volumes[%d]", i)
		volume := &sdk.Volume{Name: to.Ptr(b.volumes[v.Name])}
		switch {
		case v.EmptyDir != nil:
			if v.EmptyDir.Medium != corev1.StorageMediumDefault {
				b.refuse(field+".emptyDir.medium", "is the group's disk only")
			}
			if v.EmptyDir.SizeLimit != nil && !v.EmptyDir.SizeLimit.IsZero() {
				b.refuse(field+".emptyDir.sizeLimit", "cannot be set")
			}
			volume.EmptyDir = map[string]any{}
		case v.Files != nil && len(v.Files.Items) == 0:
			volume.EmptyDir = map[string]any{}
		case v.Files != nil:
			// The service's secret volumes hold any files, whether secret or not.
			volume.Secret = make(map[string]*string, len(v.Files.Items))
			for _, file := range v.Files.Items {
				if strings.Contains(file.Path, "/") || file.Path == "" || file.Path == "." || file.Path == ".." {
					b.refuse(field, "file %q is not directly in the volume", file.Path)
					continue
				}
				volume.Secret[file.Path] = to.Ptr(encode(file.Data))
			}
		case v.AzureFile != nil:
			volume.AzureFile = &sdk.AzureFileVolume{
				ShareName: to.Ptr(v.AzureFile.Share), ReadOnly: to.Ptr(v.AzureFile.ReadOnly),
				StorageAccountName: to.Ptr(v.AzureFile.AccountName), StorageAccountKey: to.Ptr(v.AzureFile.AccountKey),
			}
		default:
			b.refuse(field, "has no source that the service knows")
		}
		result = append(result, volume)
	}
	return result
}

func pointers(values []string) []*string {
	if len(values) == 0 {
		return nil
	}
	result := make([]*string, len(values))
	for i, value := range values {
		result[i] = to.Ptr(value)
	}
	return result
}

// encode is the form in which the service takes the content of files.
func encode(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
