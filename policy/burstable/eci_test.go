package burstable

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const eci = "k8s.aliyun.com/eci-"

// eciCapabilities are those of a virtual node of ECI that sells a few sizes.
func eciCapabilities() Capabilities {
	c := everything()
	c.Provider = "eci"
	c.Sizes = &Sizes{Offers: &Offers{
		Rows:    []Offer{{1000, []int64{2 << 30, 4 << 30}}, {2000, []int64{4 << 30, 8 << 30}}, {4000, []int64{8 << 30, 16 << 30}}},
		Default: Size{MilliCPU: 2000, MemoryBytes: 4 << 30}, CPUWeight: 8, MemoryWeight: 1,
	}}
	c.SpotOffers = &Offers{
		Rows:    []Offer{{2000, []int64{4 << 30, 8 << 30}}, {4000, []int64{8 << 30}}},
		Default: Size{MilliCPU: 2000, MemoryBytes: 4 << 30}, CPUWeight: 8, MemoryWeight: 1,
	}
	return c
}

func annotated(cpu, memory string, annotations ...string) *corev1.Pod {
	pod := smallPod()
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	pod.Annotations = map[string]string{"other/annotation": "x"}
	for i := 0; i+1 < len(annotations); i += 2 {
		pod.Annotations[annotations[i]] = annotations[i+1]
	}
	return pod
}

func allows(n ECINode) func(*Capabilities) { return func(c *Capabilities) { c.ECI = &n } }

// Every example of the table is read, and every annotation reads something.
func TestEveryECIAnnotationIsRead(t *testing.T) {
	carried, refused, ignored := ECIAnnotationTable()
	none, _ := ECI(nil, &Capabilities{})
	for _, a := range carried {
		var s ECISettings
		if problem := eciByKey[a.Key].problem(&s, a.Example, nil); problem != "" {
			t.Errorf("%s: the example %q is refused: %s", a.Key, a.Example, problem)
		}
		if cmp.Equal(none, s) {
			t.Errorf("%s: the example %q changes no setting", a.Key, a.Example)
		}
		if problem := eciByKey[a.Key].problem(&s, "", nil); problem == "" {
			t.Errorf("%s takes an empty value", a.Key)
		}
	}
	for _, a := range slices.Concat(refused, ignored) {
		if eciByKey[a.Key] != nil || a.Effect == "" {
			t.Errorf("%s is carried out as well, or has no reason", a.Key)
		}
	}
}

func TestECIAnnotations(t *testing.T) {
	tests := map[string]struct {
		pod  *corev1.Pod
		edit func(*Capabilities)
		want []string // annotations without k8s.aliyun.com/
	}{
		"none":                      {pod: annotated("1", "1Gi")},
		"sizes and a type":          {pod: annotated("1", "1Gi", eci+"use-specs", "2-4Gi, 4-8Gi,ecs.c6.xlarge")},
		"a size too small":          {pod: annotated("3", "1Gi", eci+"use-specs", "2-4Gi"), want: []string{"eci-use-specs"}},
		"a size that nobody sells":  {pod: annotated("3", "1Gi", eci+"use-specs", "64-4Gi"), want: []string{"eci-use-specs"}},
		"a type too small":          {pod: annotated("3", "1Gi", eci+"use-specs", "ecs.c6.large"), want: []string{"eci-use-specs"}},
		"a type of unknown size":    {pod: annotated("1", "1Gi", eci+"use-specs", "ecs.ebmg7.32xlarge"), want: []string{"eci-use-specs"}},
		"spot":                      {pod: annotated("1", "1Gi", eci+"spot-strategy", "SpotAsPriceGo", eci+"spot-fallback", "true", eci+"spot-duration", "0")},
		"spot up to a price":        {pod: annotated("1", "1Gi", eci+"spot-strategy", "SpotWithPriceLimit", eci+"spot-price-limit", "0.125")},
		"spot without the price":    {pod: annotated("1", "1Gi", eci+"spot-strategy", "SpotWithPriceLimit"), want: []string{"eci-spot-strategy"}},
		"a price too exact":         {pod: annotated("1", "1Gi", eci+"spot-strategy", "SpotWithPriceLimit", eci+"spot-price-limit", "0.1251"), want: []string{"eci-spot-price-limit"}},
		"a price for nothing":       {pod: annotated("1", "1Gi", eci+"spot-price-limit", "0.1"), want: []string{"eci-spot-price-limit"}},
		"spot larger than sold":     {pod: annotated("4", "16Gi", eci+"spot-strategy", "SpotAsPriceGo"), want: []string{"eci-spot-strategy"}},
		"a misspelt strategy":       {pod: annotated("1", "1Gi", eci+"spot-strategy", "spot"), want: []string{"eci-spot-strategy"}},
		"an unknown one":            {pod: annotated("1", "1Gi", eci+"spot-strateyg", "SpotAsPriceGo"), want: []string{"eci-spot-strateyg"}},
		"one without a member":      {pod: annotated("1", "1Gi", eci+"instance-family", "ecs.c6"), want: []string{"eci-instance-family"}},
		"one without a member, off": {pod: annotated("1", "1Gi", eci+"eviction-enable", "false")},
		"one of ACK's answers":      {pod: annotated("1", "1Gi", eci+"instance-id", "eci-1")},
		"one without effect":        {pod: annotated("1", "1Gi", eci+"fail-strategy", "fail-fast")},
		"another product's":         {pod: annotated("1", "1Gi", "k8s.aliyun.com/pod-with-eip", "true")},
		"two public addresses":      {pod: annotated("1", "1Gi", eci+"with-eip", "true", eci+"eip-instanceid", "eip-1"), want: []string{"eci-eip-instanceid"}},
		"bandwidth of no address":   {pod: annotated("1", "1Gi", "k8s.aliyun.com/eip-bandwidth", "5"), want: []string{"eip-bandwidth"}},
		"a category of spot":        {pod: annotated("1", "1Gi", eci+"compute-category", "economy", eci+"spot-strategy", "SpotAsPriceGo"), want: []string{"eci-compute-category"}},
		"eleven VSwitches":          {pod: annotated("1", "1Gi", eci+"vswitch", strings.Repeat("vsw-1,", 11)), want: []string{"eci-vswitch"}},
		"the owner's tag":           {pod: annotated("1", "1Gi", eci+"custom-tags", "autoburst.io/pod-uid:x"), want: []string{"eci-custom-tags"}},
		"a forbidden one":           {pod: annotated("1", "1Gi", eci+"ram-role-name", "Admin"), edit: func(c *Capabilities) { c.ForbiddenAnnotations = []string{eci + "ram-role-name"} }, want: []string{"eci-ram-role-name"}},
		"the node's own":            {pod: annotated("1", "1Gi"), edit: func(c *Capabilities) { c.Annotations = map[string]string{eci + "spot-strategy": "SpotAsPriceGo"} }},
		"over the node's own":       {pod: annotated("4", "16Gi", eci+"spot-strategy", "NoSpot"), edit: func(c *Capabilities) { c.Annotations = map[string]string{eci + "spot-strategy": "SpotAsPriceGo"} }},
		"too large for the node's":  {pod: annotated("4", "16Gi"), edit: func(c *Capabilities) { c.Annotations = map[string]string{eci + "spot-strategy": "SpotAsPriceGo"} }, want: []string{"eci-spot-strategy"}},
		"a role that is not open":   {pod: annotated("1", "1Gi", eci+"ram-role-name", "Admin"), want: []string{"eci-ram-role-name"}},
		"a role that is open":       {pod: annotated("1", "1Gi", eci+"ram-role-name", "Reader"), edit: allows(ECINode{RAMRoles: []string{"Reader"}})},
		"another than is open":      {pod: annotated("1", "1Gi", eci+"ram-role-name", "Admin"), edit: allows(ECINode{RAMRoles: []string{"Reader"}}), want: []string{"eci-ram-role-name"}},
		"any role":                  {pod: annotated("1", "1Gi", eci+"ram-role-name", "Admin"), edit: allows(ECINode{RAMRoles: []string{"*"}})},
		"the role of all pods":      {pod: annotated("1", "1Gi"), edit: func(c *Capabilities) { c.Annotations = map[string]string{eci + "ram-role-name": "Reader"} }},
		"a group that is not open":  {pod: annotated("1", "1Gi", eci+"security-group", "sg-2"), edit: allows(ECINode{SecurityGroups: []string{"sg-1"}}), want: []string{"eci-security-group"}},
		"a group that is open":      {pod: annotated("1", "1Gi", eci+"security-group", "sg-1"), edit: allows(ECINode{SecurityGroups: []string{"sg-1"}})},
		"one VSwitch is not open":   {pod: annotated("1", "1Gi", eci+"vswitch", "vsw-1,vsw-2"), edit: allows(ECINode{VSwitches: []string{"vsw-1"}}), want: []string{"eci-vswitch"}},
		"both VSwitches are open":   {pod: annotated("1", "1Gi", eci+"vswitch", "vsw-1,vsw-2"), edit: allows(ECINode{VSwitches: []string{"vsw-2", "vsw-1"}})},
		"an agent that reads none":  {pod: annotated("1", "1Gi", eci+"with-eip", "true"), edit: func(c *Capabilities) { c.Features = without(ECIAnnotations).Features }, want: []string{"eci-with-eip"}},
		"another cloud":             {pod: annotated("1", "1Gi", eci+"with-eip", "perhaps"), edit: func(c *Capabilities) { c.Provider = "aci" }},
		"several at once, in order": {pod: annotated("1", "1Gi", eci+"with-eip", "1", eci+"image-cache", "yes"), want: []string{"eci-image-cache", "eci-with-eip"}},
	}
	key := regexp.MustCompile(`k8s\.aliyun\.com/([^\]]*)`)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			caps := eciCapabilities()
			if tt.edit != nil {
				tt.edit(&caps)
			}
			var got []string
			for _, r := range Check(tt.pod, caps) {
				if m := key.FindStringSubmatch(r.Field); m != nil {
					got = append(got, m[1])
				} else {
					got = append(got, r.Field)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGPUsNeedATypeThatHasThem(t *testing.T) {
	tests := map[string]struct {
		gpus, specs string
		want        int
	}{
		"a type":        {"1", "ecs.gn7i-c8g1.2xlarge", 0},
		"no type":       {"1", "", 1},
		"not enough":    {"2", "ecs.gn7i-c8g1.2xlarge", 1},
		"a type of CPU": {"1", "ecs.gn7i-c8g1.2xlarge,ecs.c7.2xlarge", 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := annotated("1", "1Gi")
			if tt.specs != "" {
				pod.Annotations[eci+"use-specs"] = tt.specs
			}
			pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse(tt.gpus)}
			if got := Check(pod, eciCapabilities()); len(got) != tt.want {
				t.Errorf("refused %v, want %d", got, tt.want)
			}
		})
	}
}

func TestSoldTo(t *testing.T) {
	tests := map[string]struct {
		pod         *corev1.Pod
		cpu, memory int64
	}{
		"no wish":             {annotated("500m", "1Gi"), 1000, 2},
		"a size":              {annotated("500m", "1Gi", eci+"use-specs", "2-8Gi"), 2000, 8},
		"the most of several": {annotated("500m", "1Gi", eci+"use-specs", "1-4Gi,ecs.r6.large"), 2000, 16},
		"a size rounded up":   {annotated("500m", "1Gi", eci+"use-specs", "2-5Gi"), 2000, 8},
		"spot has no small":   {annotated("500m", "1Gi", eci+"spot-strategy", "SpotAsPriceGo"), 2000, 4},
		"a wrong wish":        {annotated("500m", "1Gi", eci+"use-specs", "much"), 1000, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			caps := eciCapabilities()
			got := SoldTo(tt.pod, &caps)
			if got.MilliCPU != tt.cpu || got.MemoryBytes != tt.memory<<30 {
				t.Errorf("%d and %d, want %d and %d GiB", got.MilliCPU, got.MemoryBytes, tt.cpu, tt.memory)
			}
		})
	}
}

func TestInstanceType(t *testing.T) {
	tests := map[string]struct {
		cpu, gib, gpus int64
	}{
		"ecs.c6.large": {2, 4, 0}, "ecs.g7.xlarge": {4, 16, 0}, "ecs.r7.4xlarge": {16, 128, 0}, "ecs.c6.3xlarge": {12, 24, 0},
		"ecs.hfg7.2xlarge": {8, 32, 0}, "ecs.c8i.xlarge": {4, 8, 0}, "ecs.gn6i-c4g1.xlarge": {4, 15, 1},
	}
	for name, want := range tests {
		got, ok := InstanceType(name)
		if !ok || got.Size != (Size{MilliCPU: want.cpu * 1000, MemoryBytes: want.gib << 30}) || got.GPUs != want.gpus {
			t.Errorf("%s is %+v, %v", name, got, ok)
		}
	}
	for _, name := range []string{"ecs.t6-c1m1.large", "c6.large", "ecs.c6.0xlarge", "ecs.c6", "ecs.c6.medium"} {
		if got, ok := InstanceType(name); ok {
			t.Errorf("%s is %+v, want it unknown", name, got)
		}
	}
}

func TestECIRemarks(t *testing.T) {
	pod := annotated("1", "1Gi", eci+"fail-strategy", "fail-over", eci+"image-cache", "true")
	pod.Spec.InitContainers = []corev1.Container{{Name: "init"}, {Name: "proxy", RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways)}}
	pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	if got := Remarks(pod, eciCapabilities()); len(got) != 1 || !strings.Contains(got[0].Field, "eci-fail-strategy") {
		t.Errorf("remarks %v, want one about eci-fail-strategy", got)
	}
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	if got := Remarks(pod, eciCapabilities()); len(got) != 2 || got[0].Field != "spec.initContainers[1].restartPolicy" {
		t.Errorf("remarks %v, want one about the sidecar of a Job as well", got)
	}
}
