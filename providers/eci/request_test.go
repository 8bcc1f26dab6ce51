package eci

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func testProvider(t *testing.T) *Provider {
	t.Helper()
	p, err := New(Config{
		Region: "cn-hangzhou", VSwitchIDs: []string{"vsw-1", "vsw-2"}, SecurityGroupID: "sg-1",
		Credentials: StaticCredentials(Credentials{AccessKeyID: "id", AccessKeySecret: "secret"}),
		ClusterUID:  "cluster-uid", NodeName: "burst-eci", ResourceGroupID: "rg-1", RAMRole: "role",
		AllowedRAMRoles: []string{"PodRole"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func smallSpec() *providers.GroupSpec {
	return &providers.GroupSpec{
		Owner:         providers.Owner{ClusterUID: "cluster-uid", NodeName: "burst-eci", Namespace: "default", PodName: "mypod", PodUID: "6a1c3a3e-8f6e-4f2f-9d5c-0f6c2b7b9a11"},
		RestartPolicy: corev1.RestartPolicyAlways,
		Containers:    []providers.Container{{Name: "nginx", Image: "nginx:latest", ImagePullPolicy: corev1.PullAlways}},
	}
}

func fullSpec() *providers.GroupSpec {
	s := smallSpec()
	s.RestartPolicy = corev1.RestartPolicyNever
	s.TerminationGracePeriodSeconds = ptr.To(int64(60))
	s.ActiveDeadlineSeconds = ptr.To(int64(3600))
	s.Hostname = "web-0"
	s.HostAliases = []corev1.HostAlias{{IP: "10.1.1.1", Hostnames: []string{"db", "db.local"}}}
	s.DNS = &providers.DNS{
		Nameservers: []string{"10.96.0.10"}, Searches: []string{"default.svc.cluster.local", "svc.cluster.local"},
		Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("5")}, {Name: "rotate"}},
	}
	s.SecurityContext = &corev1.PodSecurityContext{
		RunAsUser: ptr.To(int64(1000)), RunAsGroup: ptr.To(int64(3000)), RunAsNonRoot: ptr.To(true),
		Sysctls: []corev1.Sysctl{{Name: "net.core.somaxconn", Value: "1024"}},
	}
	s.RegistryCredentials = []providers.RegistryCredential{{Server: "https://registry.example.com/v1/", Username: "robot", Password: "registry-password"}}
	s.Volumes = []providers.Volume{
		{Name: "scratch", EmptyDir: &corev1.EmptyDirVolumeSource{}},
		{Name: "shm", EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: ptr.To(resource.MustParse("256Mi"))}},
		{Name: "config", Files: &providers.Files{Items: []providers.File{{Path: "app.conf", Data: []byte("a=1\n"), Mode: 0o644}, {Path: "dir/empty", Mode: 0o400}}}},
		{Name: "nothing", Files: &providers.Files{Secret: true}},
	}
	web := corev1.ContainerPort{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}
	s.InitContainers = []providers.Container{{
		Name: "init", Image: "busybox", Command: []string{"sh", "-c"}, Args: []string{"true"},
		Env:       []providers.EnvVar{{Name: "TOKEN", Value: "init-secret", Secret: true}},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("3Gi")}},
	}}
	s.Containers = []providers.Container{
		{
			Name: "web", Image: "nginx:1", ImagePullPolicy: corev1.PullIfNotPresent,
			Command: []string{"nginx"}, Args: []string{"-g", "daemon off;"}, WorkingDir: "/srv",
			Env: []providers.EnvVar{
				{Name: "PLAIN", Value: "a b&c=d"}, {Name: "EMPTY"}, {Name: "PASSWORD", Value: "hunter2", Secret: true}, {Name: "IP", FieldPath: "status.podIP"},
			},
			Ports: []corev1.ContainerPort{web, {ContainerPort: 53, Protocol: corev1.ProtocolUDP}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("512Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m")},
			},
			Mounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/app", SubPath: "dir", ReadOnly: true}, {Name: "shm", MountPath: "/dev/shm"}},
			LivenessProbe: &corev1.Probe{
				ProbeHandler:        corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("web"), Scheme: corev1.URISchemeHTTP}},
				InitialDelaySeconds: 5, PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
			},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"cat", "/tmp/ready"}}}, PeriodSeconds: 5},
			Lifecycle: &corev1.Lifecycle{
				PostStart: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/started", Port: intstr.FromString("web"), HTTPHeaders: []corev1.HTTPHeader{{Name: "X-A", Value: "b"}}}},
				PreStop:   &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "sleep 5"}}},
			},
			SecurityContext: &corev1.SecurityContext{
				RunAsUser: ptr.To(int64(0)), RunAsNonRoot: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
				Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}},
			},
			Stdin: true, StdinOnce: true, TTY: true,
		},
		{
			Name: "side", Image: "redis",
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(6379)}}},
			Resources:      corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}},
		},
	}
	return s
}

// annotatedSpec is a pod with every annotation that goes with the others, a sidecar,
// a GPU and a large disk.
func annotatedSpec() *providers.GroupSpec {
	s := smallSpec()
	s.ShareProcessNamespace = true
	s.Annotations = map[string]string{"unrelated": "x"}
	carried, _, _ := burstable.ECIAnnotationTable()
	for _, a := range carried {
		s.Annotations[a.Key] = a.Example
	}
	for key, value := range map[string]string{
		"eci-use-specs": "ecs.gn7i-c8g1.2xlarge,ecs.gn6i-c8g1.2xlarge,8-16Gi", "eci-spot-strategy": "SpotWithPriceLimit",
		"eci-schedule-strategy": "VSwitchRandom",
	} {
		s.Annotations["k8s.aliyun.com/"+key] = value
	}
	delete(s.Annotations, "k8s.aliyun.com/eci-compute-category")
	delete(s.Annotations, "k8s.aliyun.com/eci-eip-instanceid")
	s.InitContainers = []providers.Container{
		{Name: "init", Image: "busybox"},
		{Name: "proxy", Image: "envoy", Sidecar: true, ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(15021)}}}},
		{Name: "logs", Image: "fluent-bit", Sidecar: true},
	}
	s.Containers[0].Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1"), corev1.ResourceEphemeralStorage: resource.MustParse("100Gi")}
	s.Containers[0].TerminationMessagePath = "/tmp/why"
	s.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	return s
}

func TestCreateRequest(t *testing.T) {
	dotted := smallSpec()
	dotted.Owner.PodName = strings.Repeat("long.name-", 20) + "end"
	tests := map[string]*providers.GroupSpec{"small": smallSpec(), "full": fullSpec(), "long-name": dotted, "annotated": annotatedSpec()}
	for name, spec := range tests {
		t.Run(name, func(t *testing.T) {
			if err := validate(spec); err != nil {
				t.Fatal(err)
			}
			p := testProvider(t)
			settings, wrong := burstable.ECI(spec.Annotations, &p.capabilities)
			if len(wrong) > 0 {
				t.Fatal(wrong)
			}
			first := offersFor(&settings, sizeOf(spec))[0]
			form := p.createRequest(spec, &settings, &first)
			if diff := cmp.Diff(form.values, p.createRequest(spec, &settings, &first).values); diff != "" {
				t.Errorf("the same pod makes different requests:\n%s", diff)
			}
			var b strings.Builder
			for _, k := range slices.Sorted(maps.Keys(form.values)) {
				b.WriteString(k + " = " + form.values[k] + "\n")
			}
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("members (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOwnerSurvivesTags(t *testing.T) {
	for name, pod := range map[string]string{"short": "web-1", "longest": strings.Repeat("a", 253)} {
		t.Run(name, func(t *testing.T) {
			want := providers.Owner{ClusterUID: "c", NodeName: "n", Namespace: "ns", PodName: pod, PodUID: "u"}
			tags := ownerTags(want)
			for _, tag := range tags {
				if len(tag.Key) > 64 || len(tag.Value) > 128 || tag.Value == "" {
					t.Errorf("tag %s has a value of %d characters", tag.Key, len(tag.Value))
				}
			}
			if diff := cmp.Diff(want, ownerOf(tags)); diff != "" {
				t.Errorf("owner (-want +got):\n%s", diff)
			}
		})
	}
}

func TestClientToken(t *testing.T) {
	seen := map[string]string{}
	for _, uid := range []string{"6a1c3a3e-8f6e-4f2f-9d5c-0f6c2b7b9a11", strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("x", 66), "ü", "a b"} {
		token := clientToken(uid)
		if len(token) > 64 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("clientToken(%q) = %q", uid, token)
		}
		if other, ok := seen[token]; ok {
			t.Errorf("%q and %q have one token", uid, other)
		}
		seen[token] = uid
	}
}

func TestValidate(t *testing.T) {
	tests := map[string]struct {
		change func(*providers.GroupSpec)
		want   string // a part of the message
	}{
		"value too long": {
			func(s *providers.GroupSpec) {
				s.Containers[0].Env = []providers.EnvVar{{Name: "A", Value: strings.Repeat("x", 257), Secret: true}}
			},
			"spec.containers[0].env has a value of 257 characters for A",
		},
		"name with a dot": {
			func(s *providers.GroupSpec) { s.Containers[0].Env = []providers.EnvVar{{Name: "a.b"}} },
			`has the name "a.b"`,
		},
		"unknown field": {
			func(s *providers.GroupSpec) {
				s.Containers[0].Env = []providers.EnvVar{{Name: "A", FieldPath: "status.hostIP"}}
			},
			"status.hostIP",
		},
		"file too large": {
			func(s *providers.GroupSpec) {
				s.Volumes = []providers.Volume{{Name: "v", Files: &providers.Files{Items: []providers.File{{Path: "big", Data: make([]byte, 24<<10+1)}}}}}
			},
			"spec.volumes[0] (v) has the file big of 24577 bytes",
		},
		"too many files": {
			func(s *providers.GroupSpec) {
				s.Volumes = []providers.Volume{{Name: "v", Files: &providers.Files{Items: make([]providers.File, 91)}}}
			},
			"has 91 files",
		},
		"port without a name": {
			func(s *providers.GroupSpec) {
				s.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("web")}}}
			},
			`names the port "web"`,
		},
		"no image":     {func(s *providers.GroupSpec) { s.Containers[0].Image = "" }, "spec.containers[0].image has 0 characters"},
		"no container": {func(s *providers.GroupSpec) { s.Containers = nil }, "spec.containers is empty"},
		"no UID":       {func(s *providers.GroupSpec) { s.Owner.PodUID = "" }, "UID"},
		"too many variables": {
			func(s *providers.GroupSpec) { s.Containers[0].Env = make([]providers.EnvVar, 241) },
			"enableServiceLinks",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec := smallSpec()
			tt.change(spec)
			err := validate(spec)
			if providers.ClassOf(err) != providers.InvalidPod || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want InvalidPod with %q", err, tt.want)
			}
		})
	}
}
