package aci

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/autoburst/autoburst/providers"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const subnet = "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/aci"

func identityOf(name string) string {
	return "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name
}

func ptr[T any](v T) *T { return &v }

func resources(cpu, memory string) corev1.ResourceList {
	list := corev1.ResourceList{}
	if cpu != "" {
		list[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		list[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return list
}

func testOwner() providers.Owner {
	return providers.Owner{
		ClusterUID: "8f3f", NodeName: "burst-aci", Namespace: "shop", PodName: "web-0",
		PodUID: "c0ffee00-1234-4abc-9def-000000000001",
	}
}

func minimal() *providers.GroupSpec {
	return &providers.GroupSpec{
		Owner:         testOwner(),
		RestartPolicy: corev1.RestartPolicyAlways,
		Containers:    []providers.Container{{Name: "app", Image: "nginx"}},
	}
}

// full uses everything that the service can carry out.
func full() *providers.GroupSpec {
	return &providers.GroupSpec{
		Owner:         testOwner(),
		RestartPolicy: corev1.RestartPolicyOnFailure,
		InitContainers: []providers.Container{{
			Name: "migrate", Image: "registry.example.com/migrate:1",
			Command:   []string{"migrate"},
			Args:      []string{"--up"},
			Env:       []providers.EnvVar{{Name: "DSN", Value: "postgres://u:p@db", Secret: true}},
			Mounts:    []corev1.VolumeMount{{Name: "config", MountPath: "/etc/app", ReadOnly: true}},
			Resources: corev1.ResourceRequirements{Requests: resources("3", "")},
		}},
		Containers: []providers.Container{
			{
				Name: "app", Image: "registry.example.com/app:1",
				Command: []string{"/app"}, Args: []string{"serve", "--verbose"},
				Env: []providers.EnvVar{
					{Name: "MODE", Value: "overridden"},
					{Name: "EMPTY", Value: ""},
					{Name: "PASSWORD", Value: "hunter22", Secret: true},
					{Name: "MODE", Value: "production"},
				},
				Ports: []corev1.ContainerPort{
					{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP},
					{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP},
				},
				Resources: corev1.ResourceRequirements{Requests: resources("1255m", "1Gi"), Limits: resources("2", "1Gi")},
				Mounts: []corev1.VolumeMount{
					{Name: "tmp", MountPath: "/tmp"},
					{Name: "config", MountPath: "/etc/app", ReadOnly: true},
				},
				LivenessProbe: &corev1.Probe{
					ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
						Path: "/live", Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTPS,
						HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Probe", Value: "1"}},
					}},
					InitialDelaySeconds: 5, PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
				},
				ReadinessProbe: &corev1.Probe{
					ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/ready"}}},
					PeriodSeconds: 3,
				},
				SecurityContext: &corev1.SecurityContext{
					RunAsUser: ptr(int64(1000)), AllowPrivilegeEscalation: ptr(false),
					Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_BIND_SERVICE"}},
					SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
				},
			},
			{Name: "sidecar", Image: "sidecar:1"},
		},
		Volumes: []providers.Volume{
			{Name: "tmp", EmptyDir: &corev1.EmptyDirVolumeSource{}},
			{Name: "config", Files: &providers.Files{Items: []providers.File{
				{Path: "app.yaml", Data: []byte("a: 1\n"), Mode: 0o644},
				{Path: "empty", Data: nil, Mode: 0o644},
			}}},
		},
		RegistryCredentials: []providers.RegistryCredential{
			{Server: "registry.example.com", Username: "puller", Password: "pull-password"},
			{Server: "https://index.docker.io/v1/", Username: "hub", Password: "hub-password"},
			{Server: "registry.example.com", Username: "second", Password: "second-password"},
		},
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: ptr(true), RunAsUser: ptr(int64(2000)), RunAsGroup: ptr(int64(3000)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined},
		},
	}
}

func TestRequestBodies(t *testing.T) {
	tests := map[string]struct {
		config Config
		spec   *providers.GroupSpec
	}{
		"minimal": {Config{Region: "japaneast"}, minimal()},
		"full":    {Config{Region: "westeurope"}, full()},
		"subnet": {Config{Region: "westeurope", SubnetID: subnet}, func() *providers.GroupSpec {
			s := minimal()
			s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80}}
			s.DNS = &providers.DNS{
				Nameservers: []string{"10.0.0.10"},
				Searches:    []string{"shop.svc.cluster.local", "svc.cluster.local"},
				Options:     []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr("5")}, {Name: "edns0"}},
			}
			return s
		}()},
		"spot": {Config{Region: "westeurope", Spot: true}, func() *providers.GroupSpec {
			s := minimal()
			s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80}}
			s.DNS = &providers.DNS{Default: true, Nameservers: []string{"10.0.0.10"}}
			return s
		}()},
		"settings": {Config{
			Region: "westeurope", Zone: "2", Identities: []string{identityOf("node")}, AllowedIdentities: []string{"*"},
			RegistryIdentities: map[string]string{"shop.azurecr.io": identityOf("puller"), "unused.azurecr.io": identityOf("unused")},
			LogAnalytics:       &LogAnalytics{WorkspaceID: "workspace", Key: "workspace-key", ClusterResourceID: "/subscriptions/s/cluster"},
		}, func() *providers.GroupSpec {
			s := minimal()
			s.Containers[0].Image = "shop.azurecr.io/web:1"
			s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80}}
			s.Annotations = map[string]string{
				"autoburst.io/aci-cce-policy": "cG9saWN5", "autoburst.io/aci-identities": identityOf("web"),
				"virtualkubelet.io/dnsnamelabel": "shop-web", "autoburst.io/aci-dns-name-label-scope": "TenantReuse",
				"autoburst.io/aci-registry-identities": "tools.azurecr.io=" + identityOf("tools"),
			}
			s.RegistryCredentials = []providers.RegistryCredential{{Server: "tools.azurecr.io", Username: "u", Password: "p"}}
			s.Volumes = []providers.Volume{{Name: "share", AzureFile: &providers.AzureFile{Share: "data", AccountName: "shop", AccountKey: "a2V5", ReadOnly: true}}}
			s.Containers[0].Mounts = []corev1.VolumeMount{{Name: "share", MountPath: "/data"}}
			return s
		}()},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			request, err := buildGroup(&test.config, test.spec)
			if err != nil {
				t.Fatal(err)
			}
			encoded, err := json.Marshal(request.body)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, encoded, "", "  "); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
			golden := filepath.Join("testdata", "requests", name+".json")
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v; run the test with -update", err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	app := func(edit func(*providers.Container)) func(*providers.GroupSpec) {
		return func(s *providers.GroupSpec) { edit(&s.Containers[0]) }
	}
	tests := map[string]struct {
		edit func(*providers.GroupSpec)
		want string // the field
	}{
		"args without command": {app(func(c *providers.Container) { c.Args = []string{"a"} }), "spec.containers[0].args"},
		"working directory":    {app(func(c *providers.Container) { c.WorkingDir = "/" }), "spec.containers[0].workingDir"},
		"hook": {app(func(c *providers.Container) {
			c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{}}
		}), "spec.containers[0].lifecycle"},
		"terminal":             {app(func(c *providers.Container) { c.TTY = true }), "spec.containers[0].tty"},
		"never pulled":         {app(func(c *providers.Container) { c.ImagePullPolicy = corev1.PullNever }), "spec.containers[0].imagePullPolicy"},
		"a variable with dots": {app(func(c *providers.Container) { c.Env = []providers.EnvVar{{Name: "a.b"}} }), "spec.containers[0].env[a.b]"},
		"the pod's address": {app(func(c *providers.Container) {
			c.Env = []providers.EnvVar{{Name: "IP", FieldPath: "status.podIP"}}
		}), "spec.containers[0].env[IP]"},
		"sub path": {func(s *providers.GroupSpec) {
			s.Volumes = []providers.Volume{{Name: "cache", EmptyDir: &corev1.EmptyDirVolumeSource{}}}
			s.Containers[0].Mounts = []corev1.VolumeMount{{Name: "cache", MountPath: "/c", SubPath: "x"}}
		}, "spec.containers[0].volumeMounts[0].subPath"},
		"missing volume": {app(func(c *providers.Container) {
			c.Mounts = []corev1.VolumeMount{{Name: "cache", MountPath: "/c"}}
		}), "spec.containers[0].volumeMounts[0].name"},
		"nested file": {func(s *providers.GroupSpec) {
			s.Volumes = []providers.Volume{{Name: "cache", Files: &providers.Files{Items: []providers.File{{Path: "a/b"}}}}}
		}, "spec.volumes[0]"},
		"memory disk": {func(s *providers.GroupSpec) {
			s.Volumes = []providers.Volume{{Name: "cache", EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}
		}, "spec.volumes[0].emptyDir.medium"},
		"TCP probe": {app(func(c *providers.Container) {
			c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(80)}}}
		}), "spec.containers[0].livenessProbe"},
		"probe of an unknown port": {app(func(c *providers.Container) {
			c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("web")}}}
		}), "spec.containers[0].readinessProbe.httpGet.port"},
		"privileged": {app(func(c *providers.Container) {
			c.SecurityContext = &corev1.SecurityContext{Privileged: ptr(true)}
		}), "spec.containers[0].securityContext.privileged"},
		"kernel parameters": {func(s *providers.GroupSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.core.somaxconn", Value: "1024"}}}
		}, "spec.securityContext.sysctls"},
		"reserved port": {app(func(c *providers.Container) {
			c.Ports = []corev1.ContainerPort{{ContainerPort: 27017}}
		}), "spec.containers[0].ports[0]"},
		"one port twice": {func(s *providers.GroupSpec) {
			s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80}}
			s.Containers = append(s.Containers, providers.Container{
				Name: "b", Image: "b", Ports: []corev1.ContainerPort{{ContainerPort: 80, Protocol: corev1.ProtocolTCP}},
			})
		}, "spec.containers[1].ports[0]"},
		"six ports": {app(func(c *providers.Container) {
			for port := range int32(6) {
				c.Ports = append(c.Ports, corev1.ContainerPort{ContainerPort: 80 + port})
			}
		}), "spec.containers"},
		"too large": {app(func(c *providers.Container) {
			c.Resources.Requests = resources("32", "1Gi")
		}), "spec.containers"},
		"a GPU": {app(func(c *providers.Container) {
			c.Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}
		}), "spec.containers[0].resources"},
		"a resolver without a subnet": {func(s *providers.GroupSpec) { s.DNS = &providers.DNS{Nameservers: []string{"1.1.1.1"}} }, "spec.dnsConfig"},
		"host name":                   {func(s *providers.GroupSpec) { s.Hostname = "h" }, "spec.hostname"},
		"host aliases":                {func(s *providers.GroupSpec) { s.HostAliases = []corev1.HostAlias{{IP: "1.1.1.1"}} }, "spec.hostAliases"},
		"an unknown annotation":       {func(s *providers.GroupSpec) { s.Annotations = map[string]string{"autoburst.io/aci-prority": "Spot"} }, "metadata.annotations[autoburst.io/aci-prority]"},
		"too large for Spot": {func(s *providers.GroupSpec) {
			s.Annotations = map[string]string{"autoburst.io/aci-priority": "Spot"}
			s.Containers[0].Resources.Requests = resources("5", "1Gi")
		}, "spec.containers"},
		"a port of a Spot group": {func(s *providers.GroupSpec) {
			s.Annotations = map[string]string{"autoburst.io/aci-priority": "Spot"}
			s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80}}
		}, "spec.containers"},
		"a long name": {func(s *providers.GroupSpec) { s.Owner.PodName = strings.Repeat("a", 257) }, "metadata"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec := minimal()
			test.edit(spec)
			_, err := buildGroup(&Config{Region: "westeurope"}, spec)
			var refused *providers.Error
			if !errors.As(err, &refused) || refused.Class != providers.InvalidPod {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(refused.Message, "pod: "+test.want+": ") {
				t.Errorf("message %q does not name %s", refused.Message, test.want)
			}
		})
	}
}

func TestSizes(t *testing.T) {
	type ask struct{ request, limit string }
	tests := map[string]struct {
		cpu, memory         []ask
		initCPU, initMemory string
		wantCPU, wantMemory []share
	}{
		"nothing": {
			cpu: []ask{{}}, memory: []ask{{}},
			wantCPU: []share{{100, 100}}, wantMemory: []share{{15, 15}},
		},
		"nothing, twice": {
			cpu: []ask{{}, {}}, memory: []ask{{}, {}},
			wantCPU: []share{{90, 100}, {10, 100}}, wantMemory: []share{{14, 15}, {1, 15}},
		},
		"raised to the least": {
			cpu: []ask{{"100m", ""}, {"200m", ""}}, memory: []ask{{"128Mi", ""}, {"128Mi", ""}},
			wantCPU: []share{{80, 100}, {20, 100}}, wantMemory: []share{{8, 10}, {2, 10}},
		},
		"raised where there is no limit": {
			cpu: []ask{{"100m", "100m"}, {"200m", ""}}, memory: []ask{{"100M", "100M"}, {"200M", ""}},
			wantCPU: []share{{10, 10}, {90, 100}}, wantMemory: []share{{1, 1}, {9, 10}},
		},
		"rounded up": {
			cpu: []ask{{"1001m", ""}}, memory: []ask{{"1Gi", ""}},
			wantCPU: []share{{101, 101}}, wantMemory: []share{{11, 11}},
		},
		"exact": {
			cpu: []ask{{"1010m", ""}}, memory: []ask{{"1100M", ""}},
			wantCPU: []share{{101, 101}}, wantMemory: []share{{11, 11}},
		},
		"a limit is bought": {
			cpu: []ask{{"500m", "2"}, {"1", ""}}, memory: []ask{{"1G", "2G"}, {"1G", ""}},
			wantCPU: []share{{200, 200}, {100, 300}}, wantMemory: []share{{20, 20}, {10, 30}},
		},
		"one asks for nothing": {
			cpu: []ask{{"2", ""}, {}}, memory: []ask{{"2G", ""}, {}},
			wantCPU: []share{{200, 210}, {10, 210}}, wantMemory: []share{{20, 21}, {1, 21}},
		},
		"a large init container": {
			cpu: []ask{{"1", ""}}, memory: []ask{{"1G", ""}}, initCPU: "4", initMemory: "4G",
			wantCPU: []share{{400, 400}}, wantMemory: []share{{40, 40}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec := &providers.GroupSpec{InitContainers: []providers.Container{{
				Resources: corev1.ResourceRequirements{Requests: resources(test.initCPU, test.initMemory)},
			}}}
			for i := range test.cpu {
				spec.Containers = append(spec.Containers, providers.Container{Resources: corev1.ResourceRequirements{
					Requests: resources(test.cpu[i].request, test.memory[i].request),
					Limits:   resources(test.cpu[i].limit, test.memory[i].limit),
				}})
			}
			if diff := cmp.Diff(test.wantCPU, cpuShares(spec), cmp.AllowUnexported(share{})); diff != "" {
				t.Errorf("CPU (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.wantMemory, memoryShares(spec), cmp.AllowUnexported(share{})); diff != "" {
				t.Errorf("memory (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVolumeNames(t *testing.T) {
	long := strings.Repeat("a", 63)
	tests := map[string]struct{ names, want []string }{
		"fits":         {[]string{"config"}, []string{"config"}},
		"short":        {[]string{"tmp", "a"}, []string{"vol-tmp", "vol-a"}},
		"hyphens":      {[]string{"a--b--c"}, []string{"a-b-c"}},
		"short after":  {[]string{"a--b"}, []string{"vol-a-b"}},
		"one is taken": {[]string{"tmp", "vol-tmp", "vol--tmp"}, []string{"vol-tmp-2", "vol-tmp", "vol-tmp-3"}},
		"longest":      {[]string{long, "aa--" + long[:59]}, []string{long, "aa-" + long[:59]}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var volumes []providers.Volume
			for _, n := range test.names {
				volumes = append(volumes, providers.Volume{Name: n})
			}
			names := volumeNames(volumes)
			var got []string
			for _, n := range test.names {
				got = append(got, names[n])
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestGroupName(t *testing.T) {
	const uuid = "c0ffee00-1234-4abc-9def-000000000001"
	if got, want := groupName(uuid), "autoburst-"+uuid; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	seen := map[string]string{}
	for _, uid := range []string{uuid, "C0FFEE", "c0ffee", strings.Repeat("a", 53), strings.Repeat("a", 54), "a-", "a", "ä", ""} {
		got := groupName(uid)
		if len(got) > 63 || !uidRule.MatchString(strings.TrimPrefix(got, groupNamePrefix)) {
			t.Errorf("UID %q: %q is no name", uid, got)
		}
		if other, taken := seen[got]; taken {
			t.Errorf("UIDs %q and %q share the name %s", uid, other, got)
		}
		seen[got] = uid
	}
}
