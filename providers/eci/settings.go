package eci

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// ownPlace are the annotations by which a pod chooses what is else of the agent's
// settings. A refusal of it is then the pod's fault.
var ownPlace = []string{
	"k8s.aliyun.com/eci-vswitch", "k8s.aliyun.com/eci-security-group",
	"k8s.aliyun.com/eci-resource-group-id", "k8s.aliyun.com/eci-ram-role-name",
}

func choosesPlace(annotations map[string]string) bool {
	for _, key := range ownPlace {
		if annotations[key] != "" {
			return true
		}
	}
	return false
}

// addPlace says where the group goes and as whom it acts: by the pod's annotations,
// else by the agent's settings.
func (m *members) addPlace(cfg *Config, s *burstable.ECISettings, o *offer) {
	vSwitches := o.vSwitches
	if vSwitches == nil {
		vSwitches = cfg.vSwitches(s)
	}
	m.set("VSwitchId", strings.Join(vSwitches, ","))
	if len(vSwitches) > 1 {
		m.set("ScheduleStrategy", cmp.Or(s.ScheduleStrategy, "VSwitchOrdered"))
	}
	m.set("SecurityGroupId", cmp.Or(s.SecurityGroupID, cfg.SecurityGroupID))
	m.set("ResourceGroupId", cmp.Or(s.ResourceGroupID, cfg.ResourceGroupID))
	m.set("RamRoleName", cmp.Or(s.RAMRole, cfg.RAMRole))
	m.set("PrivateIpAddress", s.PrivateIP)
}

// addOffer says what machine is bought, and how.
func (m *members) addOffer(s *burstable.ECISettings, o *offer) {
	if len(o.types) > 0 {
		m.set("InstanceType", strings.Join(o.types, ","))
	} else {
		m.float("Cpu", float64(o.size.MilliCPU)/1000)
		m.float("Memory", float64(o.size.MemoryMiB)/1024)
	}
	for i, c := range s.ComputeCategories {
		m.set(element("ComputeCategory", i), c)
	}
	m.count("CpuOptionsCore", s.CPUCores)
	m.count("CpuOptionsThreadsPerCore", s.CPUThreads)
	m.set("GpuDriverVersion", s.GPUDriver)
	if !o.spot {
		return
	}
	m.set("SpotStrategy", s.Spot.Strategy)
	if s.Spot.Strategy == "SpotWithPriceLimit" {
		m.set("SpotPriceLimit", s.Spot.PriceLimit)
	}
	m.set("SpotDuration", s.Spot.Duration)
}

// addSettings adds what else the annotations ask for.
func (m *members) addSettings(s *burstable.ECISettings) {
	m.count("MaxPendingMinute", s.MaxPendingMinutes)
	m.set("ImageSnapshotId", s.ImageCacheID)
	m.flag("AutoMatchImageCache", s.AutoImageCache)
	for i, r := range s.Registries {
		at := element("AcrRegistryInfo", i)
		m.set(at+".InstanceId", r.ID)
		m.set(at+".RegionId", r.Region)
		m.set(at+".ArnService", s.RegistryServiceRoles)
		m.set(at+".ArnUser", s.RegistryUserRole)
	}
	m.set("PlainHttpRegistry", s.PlainHTTPRegistries)
	m.set("InsecureRegistry", s.InsecureRegistries)

	m.set("EipInstanceId", s.EIP.ID)
	m.flag("AutoCreateEip", s.EIP.Create)
	m.count("EipBandwidth", s.EIP.BandwidthMbps)
	m.set("EipCommonBandwidthPackage", s.EIP.BandwidthPackageID)
	m.set("EipISP", s.EIP.ISP)
	if s.IPv6.Address {
		m.integer("Ipv6AddressCount", 1)
	}
	m.flag("Ipv6GatewayBandwidthEnable", s.IPv6.Internet)
	if s.IPv6.BandwidthMbps > 0 {
		m.set("Ipv6GatewayBandwidth", strconv.FormatInt(s.IPv6.BandwidthMbps, 10))
	}
	// In bytes in a second (reference of CreateContainerGroup, Eci 2018-08-08: "Unit:
	// bytes"; the page on the bandwidth of pods multiplies the annotations by 8).
	m.count("IngressBandwidth", s.IngressBandwidth)
	m.count("EgressBandwidth", s.EgressBandwidth)
	m.set("CorePattern", s.CorePattern)
	m.list("NtpServer", s.NTPServers)
}

// addStorage buys disk space beyond what every group has, for the containers'
// requests or for the annotation, whichever is more.
func (m *members) addStorage(spec *providers.GroupSpec, s *burstable.ECISettings) {
	extra := s.ExtraStorageGiB
	if need := sizeOf(spec).EphemeralStorageBytes; need > freeDiskBytes {
		extra = max(extra, (need-freeDiskBytes+1<<30-1)>>30)
	}
	m.count("EphemeralStorage", extra)
}

// addTags adds the owner's tags, what the offer is in place of, and those of the
// annotation.
func (m *members) addTags(owner providers.Owner, s *burstable.ECISettings, o *offer) {
	tags := ownerTags(owner)
	if o.instead != "" {
		tags = append(tags, tag{tagInstead, o.instead})
	}
	for _, t := range s.Tags {
		tags = append(tags, tag(t))
	}
	for i, t := range tags {
		at := element("Tag", i)
		m.set(at+".Key", t.Key)
		m.set(at+".Value", t.Value)
	}
}
