package burstable

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// admitted is a pod as it reaches a webhook: with the defaults of the API
// server and the token volume of the ServiceAccount admission.
func admitted() *corev1.Pod {
	pod := smallPod()
	pod.Spec = corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyAlways,
		TerminationGracePeriodSeconds: ptr(int64(30)),
		DNSPolicy:                     corev1.DNSClusterFirst,
		SchedulerName:                 corev1.DefaultSchedulerName,
		ServiceAccountName:            "default",
		DeprecatedServiceAccount:      "default",
		SecurityContext:               &corev1.PodSecurityContext{},
		EnableServiceLinks:            ptr(true),
		Priority:                      ptr(int32(0)),
		PreemptionPolicy:              ptr(corev1.PreemptLowerPriority),
		NodeSelector:                  map[string]string{"kubernetes.io/os": "linux"},
		Tolerations:                   []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists}},
		TopologySpreadConstraints:     []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "kubernetes.io/hostname"}},
		Volumes: []corev1.Volume{{Name: "kube-api-access-abcde", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: ptr(int32(0o644)),
			Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr(int64(3607))}},
				{ConfigMap: &corev1.ConfigMapProjection{Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}}}},
			},
		}}}},
		Containers: []corev1.Container{{
			Name: "nginx", Image: "nginx:latest", ImagePullPolicy: corev1.PullAlways,
			TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
			Ports: []corev1.ContainerPort{{ContainerPort: 80, Protocol: corev1.ProtocolTCP, Name: "web"}},
			Env: []corev1.EnvVar{
				{Name: "MODE", Value: "x"},
				{Name: "NODE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
				{Name: "APP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['app']"}}},
				{Name: "KEY", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Key: "k"}}},
			},
			EnvFrom:      []corev1.EnvFromSource{{Prefix: "CFG_", ConfigMapRef: &corev1.ConfigMapEnvSource{}}},
			VolumeMounts: []corev1.VolumeMount{{Name: "kube-api-access-abcde", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("512Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
			},
			SecurityContext: &corev1.SecurityContext{Privileged: ptr(false), AllowPrivilegeEscalation: ptr(true)},
		}},
	}
	return pod
}

func TestOrdinaryPodsPassEveryCloud(t *testing.T) {
	bare := Capabilities{Provider: "bare"}
	if got := Check(admitted(), bare); got != nil {
		t.Errorf("refused %v", got)
	}
}

func TestRefusals(t *testing.T) {
	tests := map[string]struct {
		change func(*corev1.PodSpec)
		caps   Capabilities
		want   []Refusal
	}{
		"the element is named by its index": {
			change: func(s *corev1.PodSpec) {
				s.Containers = append(s.Containers, corev1.Container{Name: "b", Ports: []corev1.ContainerPort{{ContainerPort: 1}, {ContainerPort: 2, HostPort: 2}}})
			},
			want: []Refusal{{"spec.containers[1].ports[1].hostPort", "A virtual node has no host ports; use a Service."}},
		},
		"the cloud is named where another could": {
			change: func(s *corev1.PodSpec) { s.Containers[0].WorkingDir = "/srv" },
			caps:   Capabilities{Provider: "aci"},
			want:   []Refusal{{"spec.containers[0].workingDir", `The cloud "aci" does not set the working directory.`}},
		},
		"all fields are named, in the order of the pod": {
			change: func(s *corev1.PodSpec) {
				s.HostNetwork = true
				s.Volumes = append(s.Volumes, corev1.Volume{Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}})
				s.Containers[0].StartupProbe = &corev1.Probe{}
			},
			want: []Refusal{
				{"spec.volumes[1].hostPath", "A virtual node has no files of a node; use emptyDir, configMap, secret, downwardAPI or projected."},
				{"spec.containers[0].startupProbe", "A virtual node does not run startup probes; use initialDelaySeconds of the liveness probe."},
				{"spec.hostNetwork", "A virtual node has no host network."},
			},
		},
		"a grace period of 30 is the API server's, not the pod's": {
			change: func(s *corev1.PodSpec) { s.TerminationGracePeriodSeconds = ptr(int64(60)) },
			caps:   Capabilities{Provider: "aci"},
			want: []Refusal{{"spec.terminationGracePeriodSeconds",
				`The cloud "aci" does not honour a grace period of the pod's own; leave the field out, or keep the pod on local nodes.`}},
		},
		"a bound says both numbers": {
			change: func(s *corev1.PodSpec) { s.Containers[0].Env[0].Value = strings.Repeat("x", 257) },
			caps:   Capabilities{Provider: "eci", Limits: Limits{EnvValueBytes: 256}},
			want: []Refusal{{"spec.containers[0].env[0].value",
				`The cloud "eci" allows at most 256 bytes in the value of a variable; there are 257.`}},
		},
		"a value with references is measured when it is known": {
			change: func(s *corev1.PodSpec) { s.Containers[0].Env[0].Value = "$(A)" + strings.Repeat("x", 257) },
			caps:   Capabilities{Provider: "eci", Limits: Limits{EnvValueBytes: 256}},
		},
		"too much CPU": {
			change: func(s *corev1.PodSpec) {
				s.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("65")}
			},
			caps: Capabilities{Provider: "eci", Limits: Limits{MilliCPU: 64000}},
			want: []Refusal{{"spec.containers", `The cloud "eci" gives a pod at most 64 of cpu; its containers ask for 65.`}},
		},
		"a reserved port says which are": {
			change: func(s *corev1.PodSpec) { s.Containers[0].Ports[0].ContainerPort = 27017 },
			caps:   Capabilities{Provider: "aci", Limits: Limits{ReservedPortRanges: []PortRange{{22, 22}, {20000, 30000}}}},
			want: []Refusal{{"spec.containers[0].ports[0].containerPort",
				`The cloud "aci" keeps the port 27017 for itself (reserved: 20000-30000); use another one.`}},
		},
		"ports beside the reserved ones": {
			change: func(s *corev1.PodSpec) {
				s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 19999}, {ContainerPort: 30001}}
			},
			caps: Capabilities{Provider: "aci", Limits: Limits{ReservedPortRanges: []PortRange{{20000, 30000}}}},
		},
		"a port that another container has": {
			change: func(s *corev1.PodSpec) {
				s.Containers = append(s.Containers, corev1.Container{Name: "b", Ports: []corev1.ContainerPort{{ContainerPort: 81}, {ContainerPort: 80}}})
			},
			caps: Capabilities{Provider: "aci"},
			want: []Refusal{{"spec.containers[1].ports[1].containerPort",
				`The cloud "aci" gives all containers of a pod one set of ports, and 80/TCP is that of spec.containers[0].ports[0] already; use another one.`}},
		},
		"another protocol is another port, and init containers are gone by then": {
			change: func(s *corev1.PodSpec) {
				udp := []corev1.ContainerPort{{ContainerPort: 80, Protocol: corev1.ProtocolUDP}}
				s.Containers = append(s.Containers, corev1.Container{Name: "b", Ports: udp})
				s.InitContainers = []corev1.Container{{Name: "i", Ports: udp}}
			},
			caps: Capabilities{Provider: "aci"},
		},
		"containers and init containers count together": {
			change: func(s *corev1.PodSpec) { s.InitContainers = make([]corev1.Container, 60) },
			caps:   Capabilities{Provider: "aci", Limits: Limits{AllContainers: 60}},
			want: []Refusal{{"spec.containers",
				`The cloud "aci" allows at most 60 containers and init containers together; there are 61.`}},
		},
		"as many as there may be": {
			change: func(s *corev1.PodSpec) { s.InitContainers = make([]corev1.Container, 59) },
			caps:   Capabilities{Provider: "aci", Limits: Limits{AllContainers: 60}},
		},
		"a probe may name a port of its container": {
			change: func(s *corev1.PodSpec) {
				s.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("web")}}}
			},
			caps: Capabilities{Features: []Feature{HTTPProbe}},
		},
		"a non-root pod with a user needs no look into the image": {
			change: func(s *corev1.PodSpec) {
				s.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr(true), RunAsUser: ptr(int64(1000))}
			},
			caps: Capabilities{Features: []Feature{RunAsUser}},
		},
		"the container's own user decides": {
			change: func(s *corev1.PodSpec) {
				s.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr(true), RunAsUser: ptr(int64(1000))}
				s.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsUser: ptr(int64(0))}
			},
			caps: Capabilities{Features: []Feature{RunAsUser}},
			want: []Refusal{{"spec.containers[0].securityContext.runAsNonRoot",
				"A virtual node cannot see who an image runs as; set runAsUser to a number other than 0."}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := admitted()
			tt.change(&pod.Spec)
			if diff := cmp.Diff(tt.want, Check(pod, tt.caps)); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInitContainers(t *testing.T) {
	tests := map[string]struct {
		change func(*corev1.PodSpec)
		lack   Feature
		want   []string
	}{
		"walked like containers": {
			change: func(s *corev1.PodSpec) { s.InitContainers[0].WorkingDir = "/" },
			lack:   WorkingDir, want: []string{"spec.initContainers.workingDir"},
		},
		"no sidecars": {
			change: func(s *corev1.PodSpec) { s.InitContainers[0].RestartPolicy = ptr(corev1.ContainerRestartPolicyAlways) },
			lack:   Sidecars, want: []string{"spec.initContainers.restartPolicy"},
		},
		"group of the init container": {
			change: func(s *corev1.PodSpec) {
				s.InitContainers[0].SecurityContext = &corev1.SecurityContext{RunAsGroup: ptr(int64(1))}
			},
			lack: InitRunAsGroup, want: []string{"spec.initContainers.securityContext.runAsGroup"},
		},
		"group of the pod": {
			change: func(s *corev1.PodSpec) { s.SecurityContext = &corev1.PodSecurityContext{RunAsGroup: ptr(int64(1))} },
			lack:   InitRunAsGroup, want: []string{"spec.securityContext.runAsGroup"},
		},
		"non-root": {
			change: func(s *corev1.PodSpec) { s.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr(true)} },
			lack:   InitRunAsNonRoot, want: []string{"spec.initContainers.securityContext.runAsNonRoot"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := smallPod()
			pod.Spec.InitContainers = []corev1.Container{{Name: "i"}}
			tt.change(&pod.Spec)
			if diff := cmp.Diff(tt.want, fieldsOf(Check(pod, without(tt.lack)))); diff != "" {
				t.Errorf("refused fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSizeOf(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	ctr := func(requests, limits corev1.ResourceList) corev1.Container {
		return corev1.Container{Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}
	}
	tests := map[string]struct {
		spec corev1.PodSpec
		want Size
	}{
		"nothing asked":        {corev1.PodSpec{Containers: []corev1.Container{{}}}, Size{}},
		"containers add up":    {corev1.PodSpec{Containers: []corev1.Container{ctr(list("1", "1Gi"), nil), ctr(list("500m", "1Gi"), nil)}}, Size{MilliCPU: 1500, MemoryBytes: 2 << 30}},
		"limits are bought":    {corev1.PodSpec{Containers: []corev1.Container{ctr(list("1", "1Gi"), list("2", "1Gi"))}}, Size{MilliCPU: 2000, MemoryBytes: 1 << 30}},
		"the largest init one": {corev1.PodSpec{InitContainers: []corev1.Container{ctr(list("3", "1Gi"), nil), ctr(list("2", "4Gi"), nil)}, Containers: []corev1.Container{ctr(list("1", "2Gi"), nil)}}, Size{MilliCPU: 3000, MemoryBytes: 4 << 30}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, SizeOf(&tt.spec)); diff != "" {
				t.Errorf("size (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCapabilitiesRoundTrip(t *testing.T) {
	want := everything()
	got, err := ParseCapabilities(want.String())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
	if _, err := ParseCapabilities("{"); err == nil {
		t.Error("half a document was read as capabilities")
	}
}

func TestPortRangeText(t *testing.T) {
	tests := map[string]struct {
		text string
		want PortRange
		bad  bool
	}{
		"one port":      {text: "22", want: PortRange{22, 22}},
		"a range":       {text: "49152-65534", want: PortRange{49152, 65534}},
		"no port":       {text: "", bad: true},
		"port 0":        {text: "0", bad: true},
		"too high":      {text: "1-65536", bad: true},
		"backwards":     {text: "9-8", bad: true},
		"no end":        {text: "9-", bad: true},
		"more than two": {text: "1-2-3", bad: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got PortRange
			if err := got.UnmarshalText([]byte(tt.text)); (err != nil) != tt.bad {
				t.Fatalf("error %v, want one: %v", err, tt.bad)
			}
			if tt.bad {
				return
			}
			if got != tt.want || got.String() != tt.text {
				t.Errorf("%q was read as %+v (%s), want %+v", tt.text, got, got, tt.want)
			}
		})
	}
}

func TestNoAllocationForAPodThatPasses(t *testing.T) {
	tests := map[string]struct {
		caps   Capabilities
		change func(*corev1.PodSpec)
	}{
		"one port": {everything(), func(*corev1.PodSpec) {}},
		"ports of their own": {without(SharedPorts), func(s *corev1.PodSpec) {
			s.Containers = append(s.Containers, corev1.Container{Name: "b", Ports: []corev1.ContainerPort{{ContainerPort: 1}, {ContainerPort: 2}, {ContainerPort: 3}}})
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := admitted()
			tt.change(&pod.Spec)
			if got := Check(pod, tt.caps); got != nil {
				t.Fatalf("refused %v", got)
			}
			if n := testing.AllocsPerRun(100, func() { Check(pod, tt.caps) }); n > 0 {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	pod, caps := admitted(), everything()
	b.ReportAllocs()
	for b.Loop() {
		Check(pod, caps)
	}
}
