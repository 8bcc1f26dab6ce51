package admission

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/burstable"
)

// bounded is a cloud with every limit, and the given features.
func bounded(features ...burstable.Feature) *burstable.Capabilities {
	return &burstable.Capabilities{Provider: "bounded", Features: features, Limits: burstable.Limits{
		Containers: 2, InitContainers: 1, AllContainers: 2, Volumes: 2,
		MilliCPU: 2000, MemoryBytes: 2 << 30, EphemeralStorageBytes: 1 << 30,
		EnvNameBytes: 8, EnvValueBytes: 8, FileBytes: 10, Command: 2, Args: 2, ProbeCommand: 2, Ports: 2,
		ReservedPortRanges: []burstable.PortRange{{First: 22, Last: 22}, {First: 8000, Last: 8100}}, Capabilities: []string{"NET_ADMIN"},
	}}
}

// Values of fields, and fields together, that decide.
func TestValues(t *testing.T) {
	first := func(s *corev1.PodSpec) *corev1.Container { return &s.Containers[0] }
	env := func(vars ...corev1.EnvVar) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) { first(s).Env = vars }
	}
	podIP := corev1.EnvVar{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"}}}
	statusEnv := func(field string) corev1.EnvVar {
		return corev1.EnvVar{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status." + field}}}
	}
	mounts := func(paths ...string) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) {
			first(s).VolumeMounts = nil
			for _, p := range paths {
				first(s).VolumeMounts = append(first(s).VolumeMounts, corev1.VolumeMount{Name: s.Volumes[0].Name, MountPath: p})
			}
		}
	}
	requests := func(name corev1.ResourceName, quantities ...string) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) {
			for i, q := range quantities {
				if i > 0 {
					s.Containers = append(s.Containers, *first(s).DeepCopy())
				}
				s.Containers[i].Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{name: resource.MustParse(q)}}
			}
		}
	}
	init := func(change func(*corev1.Container)) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) {
			c := first(s).DeepCopy()
			change(c)
			s.InitContainers = []corev1.Container{*c}
		}
	}
	nonRoot := func(pod, container *bool, podUser, user *int64) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: pod, RunAsUser: podUser}
			first(s).SecurityContext = &corev1.SecurityContext{RunAsNonRoot: container, RunAsUser: user}
		}
	}
	seccomp := func(kind corev1.SeccompProfileType) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) { s.SecurityContext.SeccompProfile = &corev1.SeccompProfile{Type: kind} }
	}
	volume := func(v corev1.VolumeSource) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) { s.Volumes = append(s.Volumes, corev1.Volume{Name: "v", VolumeSource: v}) }
	}
	ports := func(list ...corev1.ContainerPort) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) { first(s).Ports = list }
	}
	probe := func(p corev1.ProbeHandler) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) {
			first(s).Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: 80}}
			first(s).LivenessProbe = &corev1.Probe{ProbeHandler: p, SuccessThreshold: 1}
		}
	}
	all := burstable.Features
	server := newAPIServer(t)
	for name, c := range map[string]struct {
		change func(*corev1.PodSpec)
		cloud  *burstable.Capabilities
		runs   bool
	}{
		"a user":                         {nonRoot(ptr.To(true), nil, nil, ptr.To(int64(7))), bounded(burstable.RunAsUser), true},
		"nobody in particular":           {nonRoot(ptr.To(true), nil, nil, nil), bounded(burstable.RunAsUser), false},
		"the pod's user is root":         {nonRoot(nil, ptr.To(true), ptr.To(int64(0)), nil), bounded(burstable.RunAsUser), false},
		"the container's user is not":    {nonRoot(ptr.To(true), nil, ptr.To(int64(0)), ptr.To(int64(7))), bounded(burstable.RunAsUser), true},
		"the container may be root":      {nonRoot(ptr.To(true), ptr.To(false), nil, nil), bounded(), true},
		"root is refused by the cloud":   {nonRoot(ptr.To(true), nil, nil, nil), bounded(burstable.RunAsNonRoot), true},
		"seccomp of the runtime":         {seccomp(corev1.SeccompProfileTypeRuntimeDefault), bounded(all...), true},
		"seccomp of a node":              {seccomp(corev1.SeccompProfileTypeLocalhost), bounded(all...), false},
		"the address of the pod":         {env(podIP), bounded(all...), true},
		"the address, which is not told": {env(podIP), bounded(), false},
		"the address within a text":      {env(podIP, corev1.EnvVar{Name: "URL", Value: "a$(IP)"}), bounded(all...), false},
		"the address as an argument": {func(s *corev1.PodSpec) {
			env(podIP)(s)
			first(s).Command, first(s).Args = []string{"run"}, []string{"$(IP)"}
		}, bounded(all...), false},
		"the address in another container": {func(s *corev1.PodSpec) {
			env(podIP)(s)
			init(func(c *corev1.Container) { c.Env, c.Command = nil, []string{"$(IP)"} })(s)
		}, bounded(all...), true},
		"a name with a dot":               {env(corev1.EnvVar{Name: "a.b"}), bounded(all...), false},
		"a name that is long":             {env(corev1.EnvVar{Name: "ABCDEFGHI"}), bounded(all...), false},
		"a value that is long":            {env(corev1.EnvVar{Name: "A", Value: "123456789"}), bounded(all...), false},
		"a value of few, long characters": {env(corev1.EnvVar{Name: "A", Value: "äöüäö"}), bounded(all...), false},
		"a long value that is expanded":   {env(corev1.EnvVar{Name: "A", Value: "1234567$(B)"}), bounded(all...), true},
		"a label in the environment": {env(corev1.EnvVar{Name: "A", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['app']"}}}), bounded(), true},
		"a prefix with a dash": {func(s *corev1.PodSpec) {
			first(s).EnvFrom = []corev1.EnvFromSource{{Prefix: "a-", SecretRef: &corev1.SecretEnvSource{}}}
		}, bounded(all...), false},
		"no prefix": {func(s *corev1.PodSpec) {
			first(s).EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{}}}
		}, bounded(), true},

		"as much cpu as there is":        {requests("cpu", "2"), bounded(), true},
		"more cpu":                       {requests("cpu", "2001m"), bounded(), false},
		"as much in two containers":      {requests("cpu", "1900m", "100m"), bounded(), true},
		"more in two containers":         {requests("cpu", "1900m", "101m"), bounded(), false},
		"as much memory":                 {requests("memory", "2Gi"), bounded(), true},
		"more memory":                    {requests("memory", "2147483649"), bounded(), false},
		"as much disk":                   {requests("ephemeral-storage", "1Gi"), bounded(all...), true},
		"more disk":                      {requests("ephemeral-storage", "1025Mi"), bounded(all...), false},
		"disk, which is not sold":        {requests("ephemeral-storage", "1"), bounded(), false},
		"a device":                       {requests("example.com/fpga", "1"), bounded(all...), false},
		"a limit that is above":          {func(s *corev1.PodSpec) { first(s).Resources.Limits["cpu"] = resource.MustParse("3") }, bounded(), false},
		"an init container that is":      {init(func(c *corev1.Container) { c.Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("3")} }), bounded(), false},
		"an init container is not added": {init(func(c *corev1.Container) { c.Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("2")} }), bounded(), true},
		"too many containers":            {requests("cpu", "1m", "1m", "1m"), bounded(), false},
		"too many together":              {func(s *corev1.PodSpec) { requests("cpu", "1m", "1m")(s); init(func(*corev1.Container) {})(s) }, bounded(), false},
		"too many volumes":               {func(s *corev1.PodSpec) { volume(corev1.VolumeSource{})(s); volume(corev1.VolumeSource{})(s) }, bounded(), false},
		"too long a command":             {func(s *corev1.PodSpec) { first(s).Command = []string{"a", "b", "c"} }, bounded(), false},
		"too many arguments":             {func(s *corev1.PodSpec) { first(s).Command, first(s).Args = []string{"a"}, []string{"a", "b", "c"} }, bounded(), false},

		"a port":                         {ports(corev1.ContainerPort{ContainerPort: 80}), bounded(), true},
		"a reserved port":                {ports(corev1.ContainerPort{ContainerPort: 8080}), bounded(all...), false},
		"the last reserved port":         {ports(corev1.ContainerPort{ContainerPort: 8100}), bounded(all...), false},
		"the one after":                  {ports(corev1.ContainerPort{ContainerPort: 8101}), bounded(), true},
		"too many ports":                 {ports(corev1.ContainerPort{ContainerPort: 1}, corev1.ContainerPort{ContainerPort: 2}, corev1.ContainerPort{ContainerPort: 3}), bounded(all...), false},
		"a port for two protocols":       {ports(corev1.ContainerPort{ContainerPort: 80, Protocol: "UDP"}, corev1.ContainerPort{ContainerPort: 80}), bounded(), true},
		"a port twice":                   {ports(corev1.ContainerPort{ContainerPort: 80, Protocol: "TCP"}, corev1.ContainerPort{ContainerPort: 80}), bounded(), false},
		"a port twice, which is allowed": {ports(corev1.ContainerPort{ContainerPort: 80}, corev1.ContainerPort{ContainerPort: 80}), bounded(all...), true},
		"SCTP":                           {ports(corev1.ContainerPort{ContainerPort: 80, Protocol: "SCTP"}), bounded(all...), false},
		"a probe of a port by name":      {probe(corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("web")}}), bounded(all...), true},
		"a probe of an unknown name":     {probe(corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("db")}}), bounded(all...), false},
		"a probe by a command":           {probe(corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"a", "b"}}}), bounded(burstable.ExecProbe), true},
		"a probe by a long command":      {probe(corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"a", "b", "c"}}}), bounded(all...), false},
		"a probe of another kind":        {probe(corev1.ProbeHandler{Exec: &corev1.ExecAction{}}), bounded(burstable.HTTPProbe), false},
		"a probe by gRPC":                {probe(corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 80}}), bounded(all...), false},
		"a hook": {func(s *corev1.PodSpec) {
			first(s).Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{}}}
		}, bounded(burstable.Lifecycle), true},
		"a hook that sleeps": {func(s *corev1.PodSpec) {
			first(s).Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{}}}
		}, bounded(all...), false},
		"a hook of an unknown name": {func(s *corev1.PodSpec) {
			first(s).Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("db")}}}
		}, bounded(all...), false},
		"a capability": {func(s *corev1.PodSpec) {
			first(s).SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}}}
		}, bounded(all...), true},
		"another capability": {func(s *corev1.PodSpec) {
			first(s).SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_TIME"}}}
		}, bounded(all...), false},
		"the group of an init container": {init(func(c *corev1.Container) { c.SecurityContext = &corev1.SecurityContext{RunAsGroup: ptr.To(int64(1))} }), bounded(burstable.RunAsGroup), false},
		"the group of all, and an init": {func(s *corev1.PodSpec) {
			init(func(*corev1.Container) {})(s)
			s.SecurityContext.RunAsGroup = ptr.To(int64(1))
		}, bounded(burstable.RunAsGroup), false},
		"the group of all": {func(s *corev1.PodSpec) { s.SecurityContext.RunAsGroup = ptr.To(int64(1)) }, bounded(burstable.RunAsGroup), true},

		"a volume in memory":         {volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}), bounded(burstable.EmptyDirMemory), true},
		"huge pages":                 {volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumHugePages}}), bounded(all...), false},
		"a bounded volume":           {volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr.To(resource.MustParse("1Gi"))}}), bounded(), false},
		"a volume bounded by zero":   {volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &resource.Quantity{}}}), bounded(), true},
		"the mode of a file":         {volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{Items: []corev1.KeyToPath{{Path: "a", Mode: ptr.To(int32(0o600))}}}}), bounded(), false},
		"the usual mode":             {volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{Items: []corev1.KeyToPath{{Path: "a", Mode: ptr.To(int32(0o644))}}}}), bounded(), true},
		"a file in a folder":         {volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{Items: []corev1.KeyToPath{{Path: "a/b"}}}}), bounded(), false},
		"a token in a folder":        {func(s *corev1.PodSpec) { s.Volumes[0].Projected.Sources[0].ServiceAccountToken.Path = "a/b" }, bounded(), false},
		"all addresses":              {env(statusEnv("podIPs")), bounded(burstable.PodIPsEnv), true},
		"all, which are not told":    {env(statusEnv("podIPs")), bounded(burstable.PodIPEnv), false},
		"all addresses in a text":    {env(statusEnv("podIPs"), corev1.EnvVar{Name: "URL", Value: "$(A)"}), bounded(all...), false},
		"the node's address":         {env(statusEnv("hostIP")), bounded(burstable.HostIPEnv), true},
		"the node's addresses":       {env(statusEnv("hostIPs"), corev1.EnvVar{Name: "URL", Value: "$(A)"}), bounded(burstable.HostIPEnv), true},
		"it is not told":             {env(statusEnv("hostIP")), bounded(), false},
		"another field":              {env(statusEnv("phase")), bounded(all...), false},
		"two mounts at one path":     {mounts("/data", "/data/"), bounded(all...), false},
		"a mount below another":      {mounts("/data/", "/data/.cache"), bounded(), true},
		"the address in a file":      {volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "a", FieldRef: podIP.ValueFrom.FieldRef}}}}), bounded(all...), false},
		"an annotation in a file":    {volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "a", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['a']"}}}}}), bounded(), true},
		"a claim":                    {volume(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}), bounded(all...), false},
		"a field that is not for it": {func(s *corev1.PodSpec) { s.HostUsers = ptr.To(true) }, bounded(), true},
	} {
		t.Run(name, func(t *testing.T) {
			pod, s := admitted(), always(c.cloud)
			c.change(&pod.Spec)
			want, d := inject(s, "shop", pod)
			if runs := d.Action == policy.Grant; runs != c.runs {
				t.Fatalf("the webhook decides %s: %s", d.Action, d.Message)
			}
			got, err := server.admit(t.Context(), policy.Params(s), "shop", pod)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-webhook +API server):\n%s", d.Message, diff)
			}
		})
	}
}

// A toleration for a while is not the one that the taint asks for.
func TestTolerationForAWhile(t *testing.T) {
	s := always(nil)
	s.VirtualNodes[0].HardTaints = append(s.VirtualNodes[0].HardTaints, corev1.Taint{Key: "dedicated", Effect: corev1.TaintEffectNoExecute})
	pod := admitted()
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
		Key: "dedicated", Operator: corev1.TolerationOpEqual, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To(int64(5)),
	})
	want, _ := inject(s, "shop", pod)
	got, err := newAPIServer(t).admit(t.Context(), policy.Params(s), "shop", pod)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got.Spec.Tolerations) != 4 {
		t.Errorf("(-webhook +API server):\n%s", diff)
	}
}

// late are features that the policy leaves to the controller: a pod that needs one is
// granted late.
var late = map[burstable.Feature]string{
	burstable.Sidecars:       "the order of init containers",
	burstable.GPU:            "needs an annotation on ECI",
	burstable.ECIAnnotations: "their values",
	burstable.Bandwidth:      "the value of its annotations",
}

// Each limit and each feature has its place in the expressions: one that has not
// keeps every pod off the clouds that publish it.
func TestEveryLimitAndFeature(t *testing.T) {
	expressions := string(mutation)
	for _, f := range burstable.Features {
		if late[f] == "" && !strings.Contains(expressions, "['"+string(f)+"']") {
			t.Errorf("no expression tells whether a pod needs %s", f)
		}
	}
	s := always(bounded())
	for name := range policy.Params(s).Nodes[0].Capabilities.Limits {
		if !strings.Contains(expressions, "'"+name+"': ") {
			t.Errorf("no expression tells what a pod has of %s", name)
		}
	}
	if want, d := inject(s, "shop", admitted()); d.Action != policy.Grant {
		t.Errorf("an ordinary pod is not granted (%s): %v", d.Message, want.Name)
	}
}

// What an annotation for a cloud, for traffic or for a waiver means only the controller
// knows: a pod that bears one is left as it is.
func TestAnnotationsAreLeftToTheController(t *testing.T) {
	keys := []string{burstable.WaiveAnnotation}
	carried, refused, _ := burstable.ECIAnnotationTable()
	for _, a := range slices.Concat(carried, refused) {
		keys = append(keys, a.Key)
	}
	for _, a := range burstable.ACIAnnotations {
		keys = append(append(keys, a.Name), a.Aliases...)
	}
	server, s := newAPIServer(t), always(bounded(burstable.Features...))
	for _, key := range append(keys, "example.com/note") {
		pod := admitted()
		pod.Annotations = map[string]string{key: "1"}
		got, err := server.admit(t.Context(), policy.Params(s), "shop", pod)
		if err != nil {
			t.Fatal(err)
		}
		if left := cmp.Equal(pod, got); left == (key == "example.com/note") {
			t.Errorf("%s: the pod is left as it is: %v", key, left)
		}
	}
}
