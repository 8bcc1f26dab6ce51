package burstable

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// ECIAnnotation is one annotation for ECI, as its documentation page shows it.
type ECIAnnotation struct {
	// Key is the annotation, Example a value of it, Effect what it does, or why it
	// is refused or has none.
	Key, Example, Effect string
}

// eciRow is an annotation that is carried out.
type eciRow struct {
	ECIAnnotation
	// read notes a value and returns what is wrong with it; readFor does so where that
	// depends on the node, which may be nil.
	read    func(s *ECISettings, v string) string
	readFor func(s *ECISettings, v string, node *ECINode) string
}

// problem reads a value, and says what is wrong with it.
func (r *eciRow) problem(s *ECISettings, v string, node *ECINode) string {
	if r.readFor != nil {
		return r.readFor(s, v, node)
	}
	return r.read(s, v)
}

const (
	maxECIVSwitches = 10
	maxECITags      = 3
	maxECITagKey    = 64
	maxECITagValue  = 128
	maxECIStorage   = 5000
	maxECINTP       = 20
	maxECIACR       = 20
	maxECIHosts     = 100
)

// eciRows are all annotations that are carried out. The bounds are those of the
// members of CreateContainerGroup (Eci 2018-08-08) and of the pages of each feature.
var eciRows = []eciRow{
	row("eci-vswitch", "vsw-1,vsw-2", "the VSwitches, up to 10, in place of the node's: each lies in one zone; the node's own, and those that its operator allows", func(s *ECISettings, v string) string {
		s.VSwitchIDs = list(v)
		if n := len(s.VSwitchIDs); n == 0 || n > maxECIVSwitches {
			return "name 1 to 10 VSwitches, separated by commas"
		}
		return all(s.VSwitchIDs, "vsw-", "VSwitch")
	}),
	row("eci-schedule-strategy", "VSwitchOrdered", "which VSwitch is tried first: `VSwitchOrdered`, in their order, or `VSwitchRandom`", func(s *ECISettings, v string) string {
		// One of ACK's pages writes it with a small v.
		for _, known := range []string{"VSwitchOrdered", "VSwitchRandom"} {
			if strings.EqualFold(v, known) {
				s.ScheduleStrategy = known
				return ""
			}
		}
		return "write VSwitchOrdered or VSwitchRandom"
	}),
	row("eci-security-group", "sg-1", "the security group, in the VPC of the VSwitches; one, as the API takes one, though ACK takes five; the node's own, or one that its operator allows", func(s *ECISettings, v string) string {
		s.SecurityGroupID = v
		return one(v, "sg-", "security group")
	}),
	row("eci-resource-group-id", "rg-1", "the resource group", func(s *ECISettings, v string) string {
		s.ResourceGroupID = v
		return one(v, "rg-", "resource group")
	}),
	row("eci-ram-role-name", "PodRole", "the RAM role that the containers may assume; the node's own, or one that its operator allows", func(s *ECISettings, v string) string {
		s.RAMRole = v
		return matches(v, ramRole, "write the name of a RAM role")
	}),
	row("eci-custom-tags", "env:test,team:web", "up to 3 tags of the group", func(s *ECISettings, v string) string {
		s.Tags = nil
		for _, t := range list(v) {
			key, value, _ := strings.Cut(t, ":")
			low := strings.ToLower(key)
			switch {
			case key == "" || len(key) > maxECITagKey || len(value) > maxECITagValue:
				return "write KEY:VALUE, a key of at most 64 and a value of at most 128 characters"
			case strings.HasPrefix(low, "aliyun") || strings.HasPrefix(low, "acs:") || strings.Contains(low, "http"), strings.HasPrefix(low, "autoburst.io/"):
				return "a key must not begin with aliyun, acs: or autoburst.io/, nor hold http"
			case slices.ContainsFunc(s.Tags, func(o ECITag) bool { return o.Key == key }):
				return "the key " + key + " is there twice"
			}
			s.Tags = append(s.Tags, ECITag{key, value})
		}
		if len(s.Tags) == 0 || len(s.Tags) > maxECITags {
			return "write 1 to 3 tags, separated by commas"
		}
		return ""
	}),

	row("eci-use-specs", "2-4Gi,4-8Gi,ecs.c7.xlarge", "sizes and ECS instance types, tried in this order until one is in stock; also counted so by limits", readSpecs),
	row("eci-instance-type", "ecs.c7.xlarge", "the old name of `eci-use-specs`", readSpecs),
	row("eci-compute-category", "economy,general", "`economy` and `general`, in the order to try; not with spot or an instance type", func(s *ECISettings, v string) string {
		s.ComputeCategories = list(v)
		if len(s.ComputeCategories) == 0 || slices.ContainsFunc(s.ComputeCategories, func(c string) bool { return c != "economy" && c != "general" }) {
			return "write economy, general or both, separated by a comma"
		}
		return ""
	}),
	row("eci-cpu-option-core", "2", "physical cores", number(1, 1000, func(s *ECISettings, n int64) { s.CPUCores = n })),
	row("eci-cpu-option-ht", "1", "threads of each core", number(1, 1000, func(s *ECISettings, n int64) { s.CPUThreads = n })),
	row("eci-gpu-driver-version", "tesla=525.85.12", "the version of the GPU driver", func(s *ECISettings, v string) string {
		s.GPUDriver = v
		return matches(v, driver, "write DRIVER=VERSION")
	}),
	row("eci-spot-strategy", "SpotAsPriceGo", "spot: `SpotAsPriceGo` at the market's price, `SpotWithPriceLimit` up to a limit, `NoSpot`", func(s *ECISettings, v string) string {
		switch v {
		case "SpotAsPriceGo", "SpotWithPriceLimit":
			s.Spot.Strategy = v
		case "NoSpot":
			s.Spot.Strategy = ""
		default:
			return "write SpotAsPriceGo, SpotWithPriceLimit or NoSpot"
		}
		return ""
	}),
	row("eci-spot-price-limit", "0.5", "the most to pay for an hour, with `SpotWithPriceLimit`", func(s *ECISettings, v string) string {
		s.Spot.PriceLimit = v
		if f, err := strconv.ParseFloat(v, 64); err != nil || f <= 0 || !price.MatchString(v) {
			return "write a price above 0 with at most three decimal places"
		}
		return ""
	}),
	row("eci-spot-duration", "1", "hours in which a spot instance is not taken away: `1` or `0`", func(s *ECISettings, v string) string {
		s.Spot.Duration = v
		if v != "0" && v != "1" {
			return "write 0 or 1"
		}
		return ""
	}),
	row("eci-spot-fallback", "true", "on demand where no spot instance is in stock or the price is above the limit", flag(func(s *ECISettings, b bool) { s.Spot.Fallback = b })),
	row("eci-max-pending-minute", "30", "minutes until ECI gives a group up that does not start, 10 to 1440", number(10, 1440, func(s *ECISettings, n int64) { s.MaxPendingMinutes = n })),

	row("eci-image-cache", "true", "takes the image cache that matches best", flag(func(s *ECISettings, b bool) { s.AutoImageCache = b })),
	row("eci-auto-imc", "true", "the new name of `eci-image-cache`", flag(func(s *ECISettings, b bool) { s.AutoImageCache = b })),
	row("eci-image-snapshot-id", "imc-1", "the image cache", readCacheID),
	row("eci-imc-id", "imc-1", "the new name of `eci-image-snapshot-id`", readCacheID),
	row("acr-instance-id", "cri-1", "the instance of Container Registry that needs no password, with its region before a colon where that is another one", readRegistries),
	row("acr-instance-ids", "cn-beijing:cri-1,cri-2", "the same for several", readRegistries),
	row("acr-service-arns", "acs:ram::1:role/pull", "the role that opens them in the account of the groups", func(s *ECISettings, v string) string {
		s.RegistryServiceRoles = v
		return matches(v, roleARN, "write the ARN of one RAM role")
	}),
	row("acr-user-arns", "acs:ram::2:role/acr", "the role that opens them in the account of the registry", func(s *ECISettings, v string) string {
		s.RegistryUserRole = v
		return matches(v, roleARN, "write the ARN of one RAM role")
	}),
	row("plain-http-registry", "harbor.example.com,10.0.0.9:5000", "registries without TLS", func(s *ECISettings, v string) string {
		s.PlainHTTPRegistries = strings.Join(list(v), ",")
		return matches(s.PlainHTTPRegistries, hosts, "write hosts, or hosts with ports, separated by commas")
	}),
	row("insecure-registry", "harbor.example.com", "registries whose certificate is not verified", func(s *ECISettings, v string) string {
		s.InsecureRegistries = strings.Join(list(v), ",")
		return matches(s.InsecureRegistries, hosts, "write hosts, or hosts with ports, separated by commas")
	}),

	row("eci-with-eip", "true", "a public address (EIP) of its own, gone with the group", flag(func(s *ECISettings, b bool) { s.EIP.Create = b })),
	row("eip-bandwidth", "5", "its bandwidth in Mbit/s", number(1, 1_000_000, func(s *ECISettings, n int64) { s.EIP.BandwidthMbps = n })),
	row("eip-common-bandwidth-package-id", "cbwp-1", "its shared bandwidth", func(s *ECISettings, v string) string {
		s.EIP.BandwidthPackageID = v
		return one(v, "cbwp-", "shared bandwidth")
	}),
	row("eip-isp", "BGP", "its lines: `BGP` or `BGP_PRO`", func(s *ECISettings, v string) string {
		s.EIP.ISP = v
		if v != "BGP" && v != "BGP_PRO" {
			return "write BGP or BGP_PRO"
		}
		return ""
	}),
	row("eci-eip-instanceid", "eip-1", "a public address that exists", func(s *ECISettings, v string) string {
		s.EIP.ID = v
		return one(v, "eip-", "EIP")
	}),
	row("eci-enable-ipv6", "true", "an IPv6 address; the VSwitch must have them", flag(func(s *ECISettings, b bool) { s.IPv6.Address = b })),
	row("eci-ipv6-bandwidth-enable", "true", "reaches the Internet by it", flag(func(s *ECISettings, b bool) { s.IPv6.Internet = b })),
	row("eci-ipv6-bandwidth", "100M", "its bandwidth in Mbit/s", func(s *ECISettings, v string) string {
		n, err := strconv.ParseInt(strings.TrimSuffix(v, "M"), 10, 32)
		if s.IPv6.BandwidthMbps = n; err != nil || n < 1 {
			return "write a number of Mbit/s, such as 100M"
		}
		return ""
	}),
	row("eci-private-ip-address", "172.16.0.1", "the address in the VSwitch, for a single pod", func(s *ECISettings, v string) string {
		s.PrivateIP = v
		if ip, err := netip.ParseAddr(v); err != nil || !ip.Is4() {
			return "write an IPv4 address"
		}
		return ""
	}),
	bandwidthRow(ingressBandwidth, "40M", "the most that the pod receives in a second", func(s *ECISettings, n int64) { s.IngressBandwidth = n }),
	bandwidthRow(egressBandwidth, "10M", "the most that the pod sends in a second", func(s *ECISettings, n int64) { s.EgressBandwidth = n }),
	row("eci-custom-hosts", `[{"host":"db","ip":"10.1.1.1"}]`, "lines of the hosts file, as `hostAliases`", func(s *ECISettings, v string) string {
		var lines []struct{ Host, IP string }
		if json.Unmarshal([]byte(v), &lines) != nil || len(lines) == 0 || len(lines) > maxECIHosts {
			return `write a JSON list such as [{"host":"db","ip":"10.1.1.1"}]`
		}
		s.Hosts = nil
		for _, l := range lines {
			if _, err := netip.ParseAddr(l.IP); err != nil || l.Host == "" {
				return `each entry needs a host and an ip`
			}
			s.Hosts = append(s.Hosts, corev1.HostAlias{IP: l.IP, Hostnames: []string{l.Host}})
		}
		return ""
	}),

	row("eci-extra-ephemeral-storage", "50Gi", "disk space beyond the 30 GiB that every group has, up to 5000 GiB", func(s *ECISettings, v string) string {
		q, err := resource.ParseQuantity(v)
		if err != nil || q.Value() < 1 || q.Value() > maxECIStorage<<30 {
			return "write a size up to 5000Gi"
		}
		s.ExtraStorageGiB = (q.Value() + 1<<30 - 1) >> 30
		return ""
	}),
	row("eci-core-pattern", "/dump/core", "where core dumps are written", func(s *ECISettings, v string) string {
		s.CorePattern = v
		if !strings.HasPrefix(v, "/") || len(v) > 255 {
			return "write an absolute path"
		}
		return ""
	}),
	row("eci-ntp-server", "100.100.5.1", "time servers, separated by commas", func(s *ECISettings, v string) string {
		s.NTPServers = list(v)
		if n := len(s.NTPServers); n == 0 || n > maxECINTP {
			return "name 1 to 20 servers"
		}
		return matches(strings.Join(s.NTPServers, ","), hosts, "write hosts, separated by commas")
	}),
}

// noFixedIP: of a kept address the API has FixedIp and FixedIpRetainHour, but none of the
// three things by which the new pod must be the old one (page "Configure an Elastic
// Container Instance pod to use a fixed IP address", 2026-03).
const noFixedIP = "ECI keeps an address for the pod of the same ACK cluster, namespace and name, and its API has no members that tell it these"

// eciRefused are annotations that ACK documents and that CreateContainerGroup has no
// member for, or none whose meaning is published, with the reason. The value false
// asks for nothing.
var eciRefused = map[string]string{
	aliyun + "eci-instance-family":            "the API has no such member; name instance types in eci-use-specs",
	aliyun + "eci-instance-generation":        "the API has no such member; name instance types in eci-use-specs",
	aliyun + "eci-privatepool-matchcriteria":  "the API has no such member",
	aliyun + "eci-privatepool-id":             "the API has no such member",
	aliyun + "imc-perfect-match":              "the API has no such member; name the image cache in eci-imc-id",
	aliyun + "imc-match-count-request":        "the API has no such member; name the image cache in eci-imc-id",
	aliyun + "eci-data-cache-bucket":          "a data cache is mounted by hostPath, which no virtual node has",
	aliyun + "eci-data-cache-pl":              "a data cache is mounted by hostPath, which no virtual node has",
	aliyun + "eci-data-cache-provisionedIops": "a data cache is mounted by hostPath, which no virtual node has",
	aliyun + "eci-data-cache-burstingEnabled": "a data cache is mounted by hostPath, which no virtual node has",
	aliyun + "eip-internet-charge-type":       "the API has no such member; use a shared bandwidth, or an EIP that exists",
	aliyun + "eip-public-ip-address-pool-id":  "the API has no such member; use an EIP that exists",
	aliyun + "eci-fixed-ip":                   noFixedIP,
	aliyun + "eci-fixed-ip-retain-hour":       noFixedIP,
	aliyun + "eci-custom-dnsconfig":           "use spec.dnsConfig",
	aliyun + "eci-ephemeral-storage-options":  "the API has no such member",
	aliyun + "eci-eviction-enable":            "the API has no such member; bound the pod by ephemeral-storage",
	aliyun + "eci-sls-enable":                 "no log collector is set up on a virtual node",
	aliyun + "eci-cpu-option-numa":            "its values are not published",
	aliyun + "eci-security-context":           "use spec.securityContext",
}

// eciIgnored are annotations that ask for what Autoburst decides by rules of its own,
// with what holds in their place. The pod says so in an event.
var eciIgnored = map[string]string{
	aliyun + "eci-fail-strategy":       "a pod that ECI has no room for is tried again and then, if it has an owner, replaced elsewhere (docs/failover.md)",
	aliyun + "eci-reschedule-enable":   "a pod that ECI has no room for is tried again and then, if it has an owner, replaced elsewhere (docs/failover.md)",
	aliyun + "pod-fail-on-create-err":  "a pod that ECI refuses for good fails at once, any other is tried again (docs/failover.md)",
	aliyun + "eci-created-by-template": "groups are not made from templates",
}

// eciAnswers are what ACK writes onto a pod that runs, without k8s.aliyun.com/: they
// come along with a copied manifest and ask for nothing.
var eciAnswers = map[string]bool{
	"eci-request-id": true, "eci-instance-id": true, "eci-instance-spec": true, "eci-instance-compute-category": true,
	"eci-vpc": true, "eci-matched-image-cache": true, "eci-schedule-result": true, "eci-instance-zone": true,
}

// eciTogether are what makes annotations that are right alone wrong beside each other.
var eciTogether = []struct {
	key, why string
	// always is whether the pod is wrong also where the node's settings name the key.
	always bool
	wrong  func(*ECISettings) bool
}{
	{eciPrefix + "spot-strategy", "SpotWithPriceLimit needs " + eciPrefix + "spot-price-limit.", true, func(s *ECISettings) bool {
		return s.Spot.Strategy == "SpotWithPriceLimit" && s.Spot.PriceLimit == ""
	}},
	{eciPrefix + "spot-price-limit", "It bounds the price of SpotWithPriceLimit only; set " + eciPrefix + "spot-strategy to that.", false, func(s *ECISettings) bool {
		return s.Spot.Strategy != "SpotWithPriceLimit" && s.Spot.PriceLimit != ""
	}},
	{eciPrefix + "compute-category", "ECI takes it neither for spot instances nor with instance types.", true, func(s *ECISettings) bool {
		return len(s.ComputeCategories) > 0 && (s.Spot.Strategy != "" || slices.ContainsFunc(s.Specs, func(o ECISpec) bool { return o.InstanceType != "" }))
	}},
	{eciPrefix + "gpu-driver-version", "It needs an instance type with GPUs in " + eciPrefix + "use-specs.", false, func(s *ECISettings) bool {
		return s.GPUDriver != "" && !slices.ContainsFunc(s.Specs, func(o ECISpec) bool { return o.GPUs > 0 })
	}},
	{eciPrefix + "eip-instanceid", "A group has one public address: this one, or that of " + eciPrefix + "with-eip.", true, func(s *ECISettings) bool {
		return s.EIP.Create && s.EIP.ID != ""
	}},
	{aliyun + "eip-bandwidth", "It is for the address of " + eciPrefix + "with-eip.", false, func(s *ECISettings) bool { return !s.EIP.Create && s.EIP.BandwidthMbps > 0 }},
	{aliyun + "eip-common-bandwidth-package-id", "It is for the address of " + eciPrefix + "with-eip.", false, func(s *ECISettings) bool { return !s.EIP.Create && s.EIP.BandwidthPackageID != "" }},
	{aliyun + "eip-isp", "It is for the address of " + eciPrefix + "with-eip.", false, func(s *ECISettings) bool { return !s.EIP.Create && s.EIP.ISP != "" }},
	{eciPrefix + "ipv6-bandwidth-enable", "It needs " + eciPrefix + "enable-ipv6.", false, func(s *ECISettings) bool { return s.IPv6.Internet && !s.IPv6.Address }},
	{eciPrefix + "ipv6-bandwidth", "It needs " + eciPrefix + "ipv6-bandwidth-enable.", false, func(s *ECISettings) bool { return s.IPv6.BandwidthMbps > 0 && !s.IPv6.Internet }},
	{aliyun + "acr-user-arns", "It needs " + aliyun + "acr-service-arns.", false, func(s *ECISettings) bool { return s.RegistryUserRole != "" && s.RegistryServiceRoles == "" }},
}

var eciByKey = func() map[string]*eciRow {
	byKey := make(map[string]*eciRow, len(eciRows))
	for i := range eciRows {
		byKey[eciRows[i].Key] = &eciRows[i]
	}
	return byKey
}()

// ECIAnnotationTable lists the annotations that are carried out, those that are refused
// before the pod bursts, and those that have no effect, for a page that shows them.
func ECIAnnotationTable() (carried, refused, ignored []ECIAnnotation) {
	for i := range eciRows {
		carried = append(carried, eciRows[i].ECIAnnotation)
	}
	from := func(table map[string]string) (out []ECIAnnotation) {
		for k, why := range table {
			out = append(out, ECIAnnotation{Key: k, Effect: why})
		}
		slices.SortFunc(out, func(a, b ECIAnnotation) int { return strings.Compare(a.Key, b.Key) })
		return out
	}
	return carried, from(eciRefused), from(eciIgnored)
}

func row(name, example, effect string, read func(*ECISettings, string) string) eciRow {
	return eciRow{ECIAnnotation: ECIAnnotation{aliyun + name, example, effect}, read: read}
}

func flag(set func(*ECISettings, bool)) func(*ECISettings, string) string {
	return func(s *ECISettings, v string) string {
		if v != "true" && v != "false" {
			return "write true or false"
		}
		set(s, v == "true")
		return ""
	}
}

func number(least, most int64, set func(*ECISettings, int64)) func(*ECISettings, string) string {
	return func(s *ECISettings, v string) string {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < least || n > most {
			return fmt.Sprintf("write a number from %d to %d", least, most)
		}
		set(s, n)
		return ""
	}
}

// list are the items between commas, without blanks.
func list(v string) []string {
	var out []string
	for item := range strings.SplitSeq(v, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

var (
	resourceID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`)
	ramRole    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.@_-]{0,63}$`)
	roleARN    = regexp.MustCompile(`^acs:ram::\d+:role/[A-Za-z0-9.@_-]+$`)
	driver     = regexp.MustCompile(`^[a-z]+=[0-9][0-9.]*$`)
	price      = regexp.MustCompile(`^\d+(\.\d{1,3})?$`)
	hosts      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*(:\d+)?(,[A-Za-z0-9][A-Za-z0-9.-]*(:\d+)?)*$`)
	region     = regexp.MustCompile(`^[a-z]{2}-[a-z0-9-]+$`)
)

func matches(v string, form *regexp.Regexp, problem string) string {
	if !form.MatchString(v) {
		return problem
	}
	return ""
}

func one(v, prefix, what string) string {
	if !strings.HasPrefix(v, prefix) || !resourceID.MatchString(v) {
		return "write the ID of one " + what + " (" + prefix + "…)"
	}
	return ""
}

func all(ids []string, prefix, what string) string {
	for _, id := range ids {
		if problem := one(id, prefix, what); problem != "" {
			return problem
		}
	}
	return ""
}

func readCacheID(s *ECISettings, v string) string {
	s.ImageCacheID = v
	return one(v, "imc-", "image cache")
}

func readRegistries(s *ECISettings, v string) string {
	s.Registries = nil
	for _, item := range list(v) {
		r := ECIRegistry{ID: item}
		if where, id, ok := strings.Cut(item, ":"); ok {
			r = ECIRegistry{where, id}
			if !region.MatchString(where) {
				return "write REGION:ID, or ID alone"
			}
		}
		if problem := one(r.ID, "cri-", "instance of Container Registry"); problem != "" {
			return problem
		}
		s.Registries = append(s.Registries, r)
	}
	if n := len(s.Registries); n == 0 || n > maxECIACR {
		return "name 1 to 20 instances of Container Registry"
	}
	return ""
}

var sizeSpec = regexp.MustCompile(`^(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)Gi?$`)

func readSpecs(s *ECISettings, v string) string {
	const most = 10 // as many creates as one pod may cost
	s.Specs = nil
	for _, item := range list(v) {
		if m := sizeSpec.FindStringSubmatch(item); m != nil {
			cpu, _ := strconv.ParseFloat(m[1], 64)
			gib, _ := strconv.ParseFloat(m[2], 64)
			if cpu <= 0 || gib <= 0 || cpu > 1000 || gib > 10_000 {
				return item + " is no size"
			}
			s.Specs = append(s.Specs, ECISpec{Size: Size{MilliCPU: int64(cpu*1000 + 0.5), MemoryBytes: int64(gib * (1 << 30))}})
			continue
		}
		o, ok := InstanceType(item)
		if !ok {
			return item + " is neither a size such as 2-4Gi nor an instance type whose size is known to this version"
		}
		s.Specs = append(s.Specs, o)
	}
	if n := len(s.Specs); n == 0 || n > most {
		return "name 1 to 10 sizes or instance types, separated by commas"
	}
	return ""
}
