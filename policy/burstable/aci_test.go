package burstable

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const (
	testIdentity = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web"
	testSubnet   = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/aci"
	otherSubnet  = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/other"
)

func TestACIOf(t *testing.T) {
	tests := map[string]struct {
		node        ACINode
		annotations map[string]string
		want        ACI
		wantRefused []string // names of annotations
	}{
		"nothing":                           {want: ACI{Public: true}},
		"what others write is not ours":     {annotations: map[string]string{"k8s.aliyun.com/eci-spot-strategy": "SpotAsPriceGo", "autoburst.io/mode": "Overflow"}, want: ACI{Public: true}},
		"the node's settings":               {node: ACINode{Confidential: true, Zone: "2", NoPublicIP: true}, want: ACI{Confidential: true, Zone: "2"}},
		"a node in a subnet":                {node: ACINode{SubnetID: testSubnet}, want: ACI{SubnetID: testSubnet}},
		"Spot":                              {annotations: map[string]string{aciPriority: "Spot"}, want: ACI{Spot: true, Public: true}},
		"a Regular pod on a Spot node":      {node: ACINode{Spot: true}, annotations: map[string]string{aciPriority: "Regular"}, want: ACI{Public: true}},
		"a Standard pod":                    {node: ACINode{Confidential: true}, annotations: map[string]string{aciSKU: "Standard"}, want: ACI{Public: true}},
		"a policy makes it confidential":    {annotations: map[string]string{aciCCEPolicy: "cG9saWN5"}, want: ACI{Confidential: true, CCEPolicy: "cG9saWN5", Public: true}},
		"the classic names":                 {annotations: map[string]string{"virtual-kubelet.io/container-sku": "confidential", "virtualkubelet.io/dnsnamelabel": "shop-web"}, want: ACI{Confidential: true, Public: true, DNSLabel: "shop-web"}},
		"the classic policy":                {annotations: map[string]string{"virtual-kubelet.io/confidential-compute-cce-policy": "cG9saWN5"}, want: ACI{Confidential: true, CCEPolicy: "cG9saWN5", Public: true}},
		"two names that agree":              {annotations: map[string]string{"virtualkubelet.io/dnsnamelabel": "shop-web", aciDNSLabel: "shop-web"}, want: ACI{Public: true, DNSLabel: "shop-web"}},
		"another subnet":                    {node: ACINode{SubnetID: testSubnet, Subnets: []string{otherSubnet}}, annotations: map[string]string{aciSubnet: otherSubnet}, want: ACI{SubnetID: otherSubnet}},
		"the node's own subnet, in capital": {node: ACINode{SubnetID: testSubnet}, annotations: map[string]string{aciSubnet: strings.ToUpper(testSubnet)}, want: ACI{SubnetID: strings.ToUpper(testSubnet)}},
		"no public address":                 {annotations: map[string]string{aciPublicIP: "false"}, want: ACI{}},
		"a public address after all":        {node: ACINode{NoPublicIP: true}, annotations: map[string]string{aciPublicIP: "true"}, want: ACI{Public: true}},
		"a name asks for the address":       {node: ACINode{NoPublicIP: true}, annotations: map[string]string{aciDNSLabel: "shop-web", aciDNSLabelScope: "TenantReuse"}, want: ACI{Public: true, DNSLabel: "shop-web", DNSLabelScope: "TenantReuse"}},
		"identities": {
			node:        ACINode{Identities: []string{strings.ToLower(testIdentity)}},
			annotations: map[string]string{aciIdentities: testIdentity + ", " + testIdentity, aciRegistryIdentities: "shop.azurecr.io=" + testIdentity},
			want:        ACI{Public: true, Identities: []string{testIdentity}, RegistryIdentities: []RegistryIdentity{{"shop.azurecr.io", testIdentity}}},
		},
		"any identity": {node: ACINode{Identities: []string{"*"}}, annotations: map[string]string{aciIdentities: testIdentity}, want: ACI{Public: true, Identities: []string{testIdentity}}},
		"the successor's names": {
			node: ACINode{Identities: []string{"*"}, Subnets: []string{testSubnet}},
			annotations: map[string]string{
				successorPrefix + "identity": testIdentity, successorPrefix + "zones": "1;", successorPrefix + "ccepolicy": "cG9saWN5",
				successorPrefix + "subnets.primary": testSubnet, successorPrefix + "injectkubeproxy": "false", successorPrefix + "injectdns": "true",
			},
			want: ACI{Identities: []string{testIdentity}, Zone: "1", Confidential: true, CCEPolicy: "cG9saWN5", SubnetID: testSubnet},
		},

		"a name that nobody knows":        {annotations: map[string]string{"autoburst.io/aci-prority": "Spot"}, wantRefused: []string{"autoburst.io/aci-prority"}},
		"what the successor alone does":   {annotations: map[string]string{successorPrefix + "customtags": "a=b", successorPrefix + "injectdns": "false"}, wantRefused: []string{successorPrefix + "customtags", successorPrefix + "injectdns"}},
		"two names that differ":           {annotations: map[string]string{"virtualkubelet.io/dnsnamelabel": "shop-web", aciDNSLabel: "web-shop"}, wantRefused: []string{"virtualkubelet.io/dnsnamelabel"}},
		"an unknown priority":             {annotations: map[string]string{aciPriority: "spot"}, wantRefused: []string{aciPriority}},
		"an unknown SKU":                  {annotations: map[string]string{aciSKU: "Dedicated"}, wantRefused: []string{aciSKU}},
		"two zones":                       {annotations: map[string]string{successorPrefix + "zones": "1;2"}, wantRefused: []string{successorPrefix + "zones"}},
		"a policy in plain text":          {annotations: map[string]string{aciCCEPolicy: "package policy"}, wantRefused: []string{aciCCEPolicy}},
		"a policy of a Standard group":    {annotations: map[string]string{aciCCEPolicy: "cG9saWN5", aciSKU: "Standard"}, wantRefused: []string{aciCCEPolicy}},
		"Spot and confidential":           {annotations: map[string]string{aciPriority: "Spot", aciSKU: "Confidential"}, wantRefused: []string{aciPriority}},
		"confidential on a Spot node":     {node: ACINode{Spot: true}, annotations: map[string]string{aciSKU: "Confidential"}, wantRefused: []string{aciSKU}},
		"Spot and a zone":                 {annotations: map[string]string{aciPriority: "Spot", aciZone: "1"}, wantRefused: []string{aciPriority}},
		"a zone on a Spot node":           {node: ACINode{Spot: true}, annotations: map[string]string{aciZone: "1"}, wantRefused: []string{aciZone}},
		"Spot in a zone":                  {node: ACINode{Zone: "1"}, annotations: map[string]string{aciPriority: "Spot"}, wantRefused: []string{aciPriority}},
		"Spot in a subnet":                {node: ACINode{SubnetID: testSubnet}, annotations: map[string]string{aciPriority: "Spot"}, wantRefused: []string{aciPriority}},
		"Spot and a public address":       {annotations: map[string]string{aciPriority: "Spot", aciPublicIP: "true"}, wantRefused: []string{aciPublicIP}},
		"Spot and a name":                 {annotations: map[string]string{aciPriority: "Spot", aciDNSLabel: "shop-web"}, wantRefused: []string{aciDNSLabel}},
		"a subnet that is not allowed":    {annotations: map[string]string{aciSubnet: testSubnet}, wantRefused: []string{aciSubnet}},
		"a public address in a subnet":    {node: ACINode{SubnetID: testSubnet}, annotations: map[string]string{aciPublicIP: "true"}, wantRefused: []string{aciPublicIP}},
		"a name in a subnet":              {node: ACINode{SubnetID: testSubnet}, annotations: map[string]string{aciDNSLabel: "shop-web"}, wantRefused: []string{aciDNSLabel}},
		"a name without an address":       {annotations: map[string]string{aciPublicIP: "false", aciDNSLabel: "shop-web"}, wantRefused: []string{aciDNSLabel}},
		"neither yes nor no":              {annotations: map[string]string{aciPublicIP: "yes"}, wantRefused: []string{aciPublicIP}},
		"a short name":                    {annotations: map[string]string{aciDNSLabel: "shop"}, wantRefused: []string{aciDNSLabel}},
		"a scope of nothing":              {annotations: map[string]string{aciDNSLabelScope: "TenantReuse"}, wantRefused: []string{aciDNSLabelScope}},
		"an unknown scope":                {annotations: map[string]string{aciDNSLabel: "shop-web", aciDNSLabelScope: "Mine"}, wantRefused: []string{aciDNSLabelScope}},
		"an identity by name":             {node: ACINode{Identities: []string{"*"}}, annotations: map[string]string{aciIdentities: "web"}, wantRefused: []string{aciIdentities}},
		"an identity that is not allowed": {annotations: map[string]string{aciIdentities: testIdentity}, wantRefused: []string{aciIdentities}},
		"a registry's identity likewise":  {annotations: map[string]string{aciRegistryIdentities: "shop.azurecr.io=" + testIdentity}, wantRefused: []string{aciRegistryIdentities}},
		"an identity of no registry":      {node: ACINode{Identities: []string{"*"}}, annotations: map[string]string{aciRegistryIdentities: testIdentity}, wantRefused: []string{aciRegistryIdentities}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, refusals := ACIOf(test.annotations, test.node)
			var refused []string
			for _, r := range refusals {
				refused = append(refused, strings.TrimSuffix(strings.TrimPrefix(r.Field, "metadata.annotations["), "]"))
			}
			if diff := cmp.Diff(test.wantRefused, refused); diff != "" {
				t.Errorf("refused annotations (-want +got):\n%s\n%v", diff, refusals)
			}
			if test.wantRefused != nil {
				return
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(ACI{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestCheckReadsAnnotations is about what annotations do to the judgement of the
// rest of the pod.
func TestCheckReadsAnnotations(t *testing.T) {
	with := func(edits ...func(*corev1.Pod)) *corev1.Pod {
		pod := admitted()
		pod.Spec.Containers[0].Ports = nil
		for _, edit := range edits {
			edit(pod)
		}
		return pod
	}
	annotated := func(name, value string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			if p.Annotations == nil {
				p.Annotations = map[string]string{}
			}
			p.Annotations[name] = value
		}
	}
	port := func(p *corev1.Pod) { p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80}} }
	sized := func(cpu, memory string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
			}}
		}
	}
	resolver := func(p *corev1.Pod) { p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"10.0.0.10"}} }
	searches := func(policy corev1.DNSPolicy, n int) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.DNSPolicy, p.Spec.DNSConfig = policy, &corev1.PodDNSConfig{Nameservers: []string{"10.0.0.10"}, Searches: slices.Repeat([]string{"example.com"}, n)}
		}
	}
	claim := func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
		}})
		p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"})
	}
	user := func(p *corev1.Pod) { p.Spec.Containers[0].SecurityContext.RunAsUser = ptr(int64(1000)) }
	tests := map[string]struct {
		node *ACINode
		pod  *corev1.Pod
		want []string
	}{
		"another cloud reads none":            {nil, with(annotated(aciPriority, "spot")), nil},
		"a port of a Spot group":              {&ACINode{}, with(annotated(aciPriority, "Spot"), port), []string{"spec.containers[0].ports[0]"}},
		"a port on a Spot node":               {&ACINode{Spot: true}, with(port), nil},
		"a port without an address":           {&ACINode{}, with(annotated(aciPriority, "Spot"), annotated(aciPublicIP, "false"), port), nil},
		"an address without a port":           {&ACINode{}, with(annotated(aciDNSLabel, "shop-web")), []string{"metadata.annotations[" + aciDNSLabel + "]"}},
		"the largest Spot group":              {&ACINode{}, with(annotated(aciPriority, "Spot"), sized("4", "16G")), nil},
		"larger than that":                    {&ACINode{}, with(annotated(aciPriority, "Spot"), sized("5", "17G")), []string{"spec.containers", "spec.containers"}},
		"as large, but Regular":               {&ACINode{Spot: true}, with(annotated(aciPriority, "Regular"), sized("5", "17G")), nil},
		"a confidential group of 190 GB":      {&ACINode{Confidential: true}, with(sized("5", "190G")), []string{"spec.containers"}},
		"a Standard group of 190 GB":          {&ACINode{}, with(sized("5", "190G")), nil},
		"a resolver without a subnet":         {&ACINode{Subnets: []string{testSubnet}}, with(resolver), []string{"spec.dnsConfig"}},
		"a resolver in the pod's own subnet":  {&ACINode{Subnets: []string{testSubnet}}, with(resolver, annotated(aciSubnet, testSubnet)), nil},
		"a claim":                             {&ACINode{}, with(claim), []string{"spec.volumes[1].persistentVolumeClaim"}},
		"a claim of a share":                  {&ACINode{}, with(claim, annotated(aciShareClaims, "data")), nil},
		"a claim of a share, not for root":    {&ACINode{}, with(claim, user, annotated(aciShareClaims, "data")), []string{"spec.containers[0].securityContext.runAsUser"}},
		"a claim that the pod has not":        {&ACINode{}, with(claim, annotated(aciShareClaims, "data,logs")), []string{"metadata.annotations[" + aciShareClaims + "]"}},
		"three domains and the cluster's":     {&ACINode{SubnetID: testSubnet}, with(searches(corev1.DNSClusterFirst, 3)), nil},
		"four and the cluster's":              {&ACINode{SubnetID: testSubnet}, with(searches(corev1.DNSClusterFirst, 4)), []string{"spec.dnsConfig.searches"}},
		"six of its own":                      {&ACINode{SubnetID: testSubnet}, with(searches(corev1.DNSDefault, 6)), nil},
		"domains without a server":            {&ACINode{SubnetID: testSubnet}, with(searches(corev1.DNSDefault, 1), func(p *corev1.Pod) { p.Spec.DNSConfig.Nameservers = nil }), []string{"spec.dnsConfig.nameservers"}},
		"seven of its own":                    {&ACINode{SubnetID: testSubnet}, with(searches(corev1.DNSDefault, 7)), []string{"spec.dnsConfig.searches"}},
		"annotations are named with the rest": {&ACINode{}, with(annotated(aciZone, "9b"), func(p *corev1.Pod) { p.Spec.HostNetwork = true }), []string{"metadata.annotations[" + aciZone + "]", "spec.hostNetwork"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			features := []Feature{AzureFile, RunAsUser}
			caps := Capabilities{Provider: "aci", ACI: test.node, Features: features}
			refusals := Check(test.pod, caps)
			var got []string
			for _, r := range refusals {
				got = append(got, r.Field)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("refused fields (-want +got):\n%s\n%v", diff, refusals)
			}
			if len(caps.Features) != len(features) {
				t.Error("the caller's capabilities were changed")
			}
		})
	}
}

// TestACIAnnotationsAreDocumented compares docs/aci.md with the table.
func TestACIAnnotationsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/aci.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, a := range ACIAnnotations {
		row := "| `" + a.Name + "` | " + a.Values + " | " + a.Effect + " |"
		if !strings.Contains(string(page), row+"\n") {
			t.Errorf("docs/aci.md lacks the row\n%s", row)
		}
		for _, alias := range a.Aliases {
			if row := "| `" + alias + "` | `" + a.Name + "` |"; !strings.Contains(string(page), row+"\n") {
				t.Errorf("docs/aci.md lacks the row\n%s", row)
			}
		}
		want = append(want, a.Name)
	}
	for _, name := range regexp.MustCompile(`autoburst\.io/aci-[a-z-]+`).FindAllString(string(page), -1) {
		if !slices.Contains(want, name) {
			t.Errorf("docs/aci.md speaks of %s, which no annotation is called", name)
		}
	}
}
