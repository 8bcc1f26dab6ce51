package upstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// odd is a pod that looks wrong and must work. want says what is wrong with what the
// cloud stored of it, and with the pod; "" is nothing.
type odd struct {
	on   on
	edit func(*corev1.Pod)
	want func(g *group, pod *corev1.Pod) string
}

func differ(what string, want, got any) string {
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Sprintf("%s (-want +got):\n%s", what, diff)
	}
	return ""
}

func both(checks ...func(*group, *corev1.Pod) string) func(*group, *corev1.Pod) string {
	return func(g *group, p *corev1.Pod) string {
		var out []string
		for _, c := range checks {
			if s := c(g, p); s != "" {
				out = append(out, s)
			}
		}
		return strings.Join(out, "\n")
	}
}

func hasEnv(name, value string) func(*group, *corev1.Pod) string {
	return func(g *group, _ *corev1.Pod) string {
		got, ok := g.Containers[0].Env[name]
		if !ok {
			return fmt.Sprintf("there is no variable %s in %v", name, g.Containers[0].Env)
		}
		return differ("variable "+name, value, got)
	}
}

func hasNoEnv(names ...string) func(*group, *corev1.Pod) string {
	return func(g *group, _ *corev1.Pod) string {
		for _, name := range names {
			if v, ok := g.Containers[0].Env[name]; ok {
				return fmt.Sprintf("there is a variable %s: %q", name, v)
			}
		}
		return ""
	}
}

func isSecret(name string, want bool) func(*group, *corev1.Pod) string {
	return func(g *group, _ *corev1.Pod) string {
		return differ("whether "+name+" is in a secret field", want, g.Containers[0].Secret[name])
	}
}

func runsAs(words ...string) func(*group, *corev1.Pod) string {
	return func(g *group, _ *corev1.Pod) string {
		return differ("command line", words, g.Containers[0].run())
	}
}

func hasFile(path, data string, mode int32) func(*group, *corev1.Pod) string {
	return func(g *group, _ *corev1.Pod) string {
		got, ok := g.file(&g.Containers[0], path)
		if !ok {
			return fmt.Sprintf("there is no file %s in %v", path, g.Files)
		}
		return differ("file "+path, file{data, mode}, got)
	}
}

func hasNoFile(path string) func(*group, *corev1.Pod) string {
	return func(g *group, _ *corev1.Pod) string {
		if f, ok := g.file(&g.Containers[0], path); ok {
			return fmt.Sprintf("there is a file %s: %+v", path, f)
		}
		return ""
	}
}

// isSized checks the size that the agent publishes; the emulated cloud has compared
// its own with what was asked for.
func isSized(eci, aci string) func(*group, *corev1.Pod) string {
	return func(_ *group, p *corev1.Pod) string {
		want := eci
		if strings.HasSuffix(p.Spec.NodeName, "aci") {
			want = aci
		}
		return differ("annotation of the size", want, p.Annotations[v1alpha1.SizeAnnotation])
	}
}

func isSecured(want map[string]string) func(*group, *corev1.Pod) string {
	return func(g *group, _ *corev1.Pod) string {
		for name, value := range want {
			if s := differ("security "+name, value, g.Containers[0].Security[name]); s != "" {
				return s
			}
		}
		return ""
	}
}

// holds checks one value of the group.
func holds(what string, want any, get func(*group) any) func(*group, *corev1.Pod) string {
	return func(g *group, _ *corev1.Pod) string { return differ(what, want, get(g)) }
}

// says checks that a text of the group has all of the parts.
func says(what string, get func(*group) string, parts ...string) func(*group, *corev1.Pod) string {
	return func(g *group, _ *corev1.Pod) string {
		for _, part := range parts {
			if !strings.Contains(get(g), part) {
				return fmt.Sprintf("%s is %q, want %q in it", what, get(g), part)
			}
		}
		return ""
	}
}

func anything(*group, *corev1.Pod) string { return "" }

func fromConfigMap(name, key string, optional *bool) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: local(name), Key: key, Optional: optional}}
}

func fromSecret(name, key string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local(name), Key: key}}
}

func ofResource(name, divisor string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: name, Divisor: resource.MustParse(divisor)}}
}

func command(words ...string) func(*corev1.Pod) {
	return first(func(c *corev1.Container) { c.Command = words })
}

func mountAt(names ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for i, name := range names {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: configMap("settings", corev1.KeyToPath{Key: "A", Path: fmt.Sprintf("of-%d", i)})})
			p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: name, MountPath: fmt.Sprintf("/m%d", i)})
		}
	}
}

var longName = strings.Repeat("a.", 126) + "z" // 253 characters

// odds must run, exactly as they are written.
var odds = map[string]odd{
	"nothing but an image":          {onBoth, func(*corev1.Pod) {}, isSized(`{"cpu":"2","memory":"4Gi"}`, `{"cpu":"1","memory":"1500M"}`)},
	"an empty value":                {onBoth, env(corev1.EnvVar{Name: "EMPTY"}), hasEnv("EMPTY", "")},
	"a value of everything":         {onBoth, env(corev1.EnvVar{Name: "V", Value: "a b\n\t\"ü€'\\;&=%+"}), hasEnv("V", "a b\n\t\"ü€'\\;&=%+")},
	"an escaped reference":          {onBoth, env(corev1.EnvVar{Name: "A", Value: "x"}, corev1.EnvVar{Name: "V", Value: "$$(A) $$"}), hasEnv("V", "$(A) $")},
	"a reference to nothing":        {onBoth, env(corev1.EnvVar{Name: "V", Value: "$(NONE) $( $"}), hasEnv("V", "$(NONE) $( $")},
	"a reference to a later one":    {onBoth, env(corev1.EnvVar{Name: "V", Value: "$(B)"}, corev1.EnvVar{Name: "B", Value: "x"}), hasEnv("V", "$(B)")},
	"a reference to itself":         {onBoth, env(corev1.EnvVar{Name: "A", Value: "x"}, corev1.EnvVar{Name: "A", Value: "$(A)y"}), hasEnv("A", "xy")},
	"a value of 256 characters":     {onBoth, env(corev1.EnvVar{Name: "V", Value: strings.Repeat("v", 256)}), hasEnv("V", strings.Repeat("v", 256))},
	"a value of 100,000 characters": {onACI, env(corev1.EnvVar{Name: "V", Value: strings.Repeat("v", 100_000)}), hasEnv("V", strings.Repeat("v", 100_000))},
	"a name of 63 characters":       {onBoth, env(corev1.EnvVar{Name: strings.Repeat("N", 63), Value: "x"}), hasEnv(strings.Repeat("N", 63), "x")},
	"a name of 128 characters":      {onECI, env(corev1.EnvVar{Name: strings.Repeat("N", 128), Value: "x"}), hasEnv(strings.Repeat("N", 128), "x")},
	"a name of one underscore":      {onBoth, env(corev1.EnvVar{Name: "_", Value: "x"}), hasEnv("_", "x")},
	"a secret within a text":        {onBoth, env(corev1.EnvVar{Name: "PW", ValueFrom: fromSecret("login", "password")}, corev1.EnvVar{Name: "URL", Value: "db://u:$(PW)@h"}), both(hasEnv("URL", "db://u:hunter2@h"), isSecret("URL", true), isSecret("PW", true))},
	"no secret":                     {onBoth, env(corev1.EnvVar{Name: "V", Value: "x"}), isSecret("V", false)},
	"a key that is not there":       {onBoth, env(corev1.EnvVar{Name: "V", ValueFrom: fromConfigMap("settings", "none", ptr.To(true))}), hasNoEnv("V")},
	"an object that is not there":   {onBoth, env(corev1.EnvVar{Name: "V", ValueFrom: fromConfigMap("none", "none", ptr.To(true))}), hasNoEnv("V")},
	"keys that are no names":        {onBoth, envFrom("odd"), both(hasEnv("good", "1"), hasNoEnv("app.properties", "1st", "a-b"))},
	"a prefix": {onBoth, first(func(c *corev1.Container) {
		c.EnvFrom = []corev1.EnvFromSource{{Prefix: "_1", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("settings")}}}
	}), both(hasEnv("_1A", "one"), hasNoEnv("A", "_1raw"))},
	"one object twice":               {onBoth, all(envFrom("settings"), envFrom("settings"), env(corev1.EnvVar{Name: "A", Value: "own"})), both(hasEnv("A", "own"), hasEnv("B", "two"))},
	"a label with a dot and a slash": {onBoth, all(env(corev1.EnvVar{Name: "V", ValueFrom: fieldRef("metadata.labels['a.b/c']")}), func(p *corev1.Pod) { p.Labels = map[string]string{"a.b/c": "d"} }), hasEnv("V", "d")},
	"a label that is not there":      {onBoth, env(corev1.EnvVar{Name: "V", ValueFrom: fieldRef("metadata.labels['none']")}), hasEnv("V", "")},
	"the pod's own names":            {onBoth, env(corev1.EnvVar{Name: "NS", ValueFrom: fieldRef("metadata.namespace")}, corev1.EnvVar{Name: "SA", ValueFrom: fieldRef("spec.serviceAccountName")}), both(hasEnv("NS", namespace), hasEnv("SA", "default"))},
	"all the pod's addresses":        {onECI, env(corev1.EnvVar{Name: "IPS", ValueFrom: fieldRef("status.podIPs")}), holds("addresses", map[string]string{"IPS": "status.podIP"}, func(g *group) any { return g.Containers[0].FromCloud })},
	"the node's address":             {onBoth, env(corev1.EnvVar{Name: "IP", ValueFrom: fieldRef("status.hostIP")}, corev1.EnvVar{Name: "URL", Value: "http://$(IP):80"}), both(hasEnv("IP", settings.Node.InternalIP), hasEnv("URL", "http://"+settings.Node.InternalIP+":80"))},
	"the node's addresses":           {onBoth, env(corev1.EnvVar{Name: "IPS", ValueFrom: fieldRef("status.hostIPs")}), hasEnv("IPS", settings.Node.InternalIP)},
	"the node's own VSwitch":         {onECI, annotated("k8s.aliyun.com/eci-vswitch", "vsw-h"), anything},
	"the node's own security group":  {onECI, annotated("k8s.aliyun.com/eci-security-group", "sg-1"), anything},
	"bounded traffic": {onECI, func(p *corev1.Pod) {
		p.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "40M", "kubernetes.io/egress-bandwidth": "1Mi"}
	}, says("traffic", func(g *group) string { return g.raw }, "IngressBandwidth=5000000&", "EgressBandwidth=131072&")},
	"a mount below another": {onBoth, func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v"}, {Name: "w"}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/data/"}, {Name: "w", MountPath: "/data/.cache"}}
	}, anything},
	"the pod's address":        {onECI, env(corev1.EnvVar{Name: "IP", ValueFrom: fieldRef("status.podIP")}), holds("address", map[string]string{"IP": "status.podIP"}, func(g *group) any { return g.Containers[0].FromCloud })},
	"a limit that is not set":  {onECI, env(corev1.EnvVar{Name: "CPU", ValueFrom: ofResource("limits.cpu", "1")}, corev1.EnvVar{Name: "MEM", ValueFrom: ofResource("limits.memory", "1Mi")}), both(hasEnv("CPU", "2"), hasEnv("MEM", "4096"))},
	"a request in thousandths": {onBoth, all(env(corev1.EnvVar{Name: "CPU", ValueFrom: ofResource("requests.cpu", "1m")}), requests("cpu", "0.0005")), hasEnv("CPU", "1")},
	"services":                 {onBoth, func(*corev1.Pod) {}, both(hasEnv("KUBERNETES_SERVICE_HOST", "10.96.0.1"), hasEnv("DB_PORT_5432_TCP", "tcp://10.96.0.7:5432"))},
	"no services":              {onBoth, spec(func(s *corev1.PodSpec) { s.EnableServiceLinks = ptr.To(false) }), both(hasEnv("KUBERNETES_SERVICE_PORT", "443"), hasNoEnv("DB_SERVICE_HOST"))},

	"a script of several lines":    {onBoth, command("sh", "-c", "echo \"a b\" |\n  cat; echo $HOME ${X:-y} 100%"), runsAs("sh", "-c", "echo \"a b\" |\n  cat; echo $HOME ${X:-y} 100%")},
	"an empty word":                {onBoth, command("printf", "%s", "", "x"), runsAs("printf", "%s", "", "x")},
	"words that look like options": {onBoth, all(command("--", "-x=", "="), first(func(c *corev1.Container) { c.Args = []string{"$(A)"} })), runsAs("--", "-x=", "=", "$(A)")},
	"arguments only":               {onECI, first(func(c *corev1.Container) { c.Args = []string{"-v"} }), runsAs("-v")},
	"ten arguments":                {onBoth, all(command("x"), first(func(c *corev1.Container) { c.Args = repeat("y", 10) })), runsAs(append([]string{"x"}, repeat("y", 10)...)...)},
	"a working directory":          {onECI, first(func(c *corev1.Container) { c.WorkingDir = "/srv/a b" }), holds("working directory", "/srv/a b", func(g *group) any { return g.Containers[0].WorkingDir })},

	"a name of 253 characters":        {onBoth, func(p *corev1.Pod) { p.Name = longName }, anything},
	"a name that begins with a digit": {onBoth, func(p *corev1.Pod) { p.Name = "1-2.3" }, anything},
	"a container of 63 characters":    {onBoth, first(func(c *corev1.Container) { c.Name = strings.Repeat("c", 63) }), holds("name", strings.Repeat("c", 63), func(g *group) any { return g.Containers[0].Name })},
	"a container named by a digit":    {onBoth, first(func(c *corev1.Container) { c.Name = "0" }), anything},
	"an image by its digest":          {onBoth, first(func(c *corev1.Container) { c.Image = "r.example.com:5000/a/b@sha256:" + strings.Repeat("a", 64) }), holds("image", "r.example.com:5000/a/b@sha256:"+strings.Repeat("a", 64), func(g *group) any { return g.Containers[0].Image })},
	"a login": {onBoth, all(spec(func(s *corev1.PodSpec) {
		s.ImagePullSecrets = []corev1.LocalObjectReference{local("registry"), local("none"), {}}
	}), first(func(c *corev1.Container) { c.Image = "registry.example.com:5000/x" })), holds("logins", []string{"registry.example.com:5000 robot"}, func(g *group) any { return g.Registry })},
	"an image that is always pulled": {onECI, first(func(c *corev1.Container) { c.ImagePullPolicy = corev1.PullAlways }), holds("policy", "Always", func(g *group) any { return g.Containers[0].PullPolicy })},

	"a volume of one letter":        {onBoth, mountAt("v"), hasFile("/m0/of-0", "one", 0o644)},
	"a volume of 63 letters":        {onBoth, mountAt(strings.Repeat("v", 63)), hasFile("/m0/of-0", "one", 0o644)},
	"volumes whose names are alike": {onBoth, mountAt("a", "vol-a", "a--b", "a-b", "vol-a-b"), both(hasFile("/m0/of-0", "one", 0o644), hasFile("/m1/of-1", "one", 0o644), hasFile("/m2/of-2", "one", 0o644), hasFile("/m3/of-3", "one", 0o644), hasFile("/m4/of-4", "one", 0o644))},
	"a ConfigMap without a key":     {onBoth, volumeOf(configMap("empty")), holds("empty directories", 1, func(g *group) any { return len(g.EmptyDirs) })},
	"an optional ConfigMap":         {onBoth, volumeOf(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("none"), Optional: ptr.To(true)}}), holds("empty directories", 1, func(g *group) any { return len(g.EmptyDirs) })},
	"bytes that are no text":        {onBoth, volumeOf(configMap("settings")), both(hasFile("/v/raw", "\x00\x01\xff", 0o644), hasFile("/v/B", "two", 0o644))},
	"files of dots":                 {onBoth, volumeOf(configMap("dots")), both(hasFile("/v/._-", "x", 0o644), hasFile("/v/...", "y", 0o644))},
	"a file that just fits":         {onBoth, volumeOf(configMap("fits")), hasFile("/v/file", strings.Repeat("x", 24<<10), 0o644)},
	"one path twice":                {onBoth, volumeOf(configMap("settings", corev1.KeyToPath{Key: "A", Path: "x"}, corev1.KeyToPath{Key: "B", Path: "x"})), hasFile("/v/x", "two", 0o644)},
	"one of many keys":              {onBoth, volumeOf(configMap("settings", corev1.KeyToPath{Key: "A", Path: "x"})), both(hasFile("/v/x", "one", 0o644), hasNoFile("/v/B"))},
	"a volume that nobody mounts":   {onBoth, spec(func(s *corev1.PodSpec) { s.Volumes = []corev1.Volume{{Name: "v", VolumeSource: configMap("settings")}} }), holds("volumes", 0, func(g *group) any { return len(g.Files) + len(g.EmptyDirs) })},
	"a volume mounted twice": {onBoth, all(volumeOf(configMap("settings")), first(func(c *corev1.Container) {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "v", MountPath: "/w", ReadOnly: true})
	})), both(hasFile("/v/A", "one", 0o644), hasFile("/w/A", "one", 0o644), holds("read-only", true, func(g *group) any { return g.Containers[0].Mounts["/w"].ReadOnly }))},
	"20 volumes":              {onBoth, volumes(20), holds("empty directories", 20, func(g *group) any { return len(g.EmptyDirs) })},
	"a directory in a volume": {onECI, volumeOf(configMap("settings", corev1.KeyToPath{Key: "A", Path: "d/e/a", Mode: ptr.To[int32](0o400)})), hasFile("/v/d/e/a", "one", 0o400)},
	"a mode of nothing":       {onECI, volumeOf(configMap("settings", corev1.KeyToPath{Key: "A", Path: "a", Mode: ptr.To[int32](0)})), hasFile("/v/a", "one", 0)},
	"a mode of all":           {onECI, volumeOf(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "login", DefaultMode: ptr.To[int32](0o777)}}), hasFile("/v/password", "hunter2", 0o777)},
	"a part of a volume":      {onECI, all(mounted(corev1.VolumeMount{SubPath: "d/e"})), holds("part", "d/e", func(g *group) any { return g.Containers[0].Mounts["/v"].SubPath })},
	"a part by a variable":    {onECI, all(mounted(corev1.VolumeMount{SubPathExpr: "of/$(POD)"}), env(corev1.EnvVar{Name: "POD", ValueFrom: fieldRef("metadata.namespace")})), holds("part", "of/"+namespace, func(g *group) any { return g.Containers[0].Mounts["/v"].SubPath })},
	"memory with a bound":     {onECI, volumeOf(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: ptr.To(resource.MustParse("64Mi"))}}), holds("empty directories", map[string]string{"v": "Memory 64Mi"}, func(g *group) any { return g.EmptyDirs })},
	"a token for an audience": {onBoth, volumeOf(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", ExpirationSeconds: ptr.To[int64](600), Path: "token"}}}}}), hasFile("/v/token", "token-of-default-for-[vault]", 0o644)},
	"all that a pod is told":  {onBoth, volumeOf(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}, {ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: local("kube-root-ca.crt"), Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}}, {DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}}}}}}}), both(hasFile("/v/token", "token-of-default-for-[]", 0o644), hasFile("/v/ca.crt", "PEM", 0o644), hasFile("/v/namespace", namespace, 0o644))},
	"annotations in a file":   {onBoth, all(volumeOf(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "notes", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations"}}}}}), func(p *corev1.Pod) { p.Annotations = map[string]string{"b": "x \"y\"\n", "a": ""} }), hasFile("/v/notes", "a=\"\"\nb=\"x \\\"y\\\"\\n\"", 0o644)},

	"a thousandth of a CPU":     {onBoth, all(requests("cpu", "1m"), requests("memory", "1")), isSized(`{"cpu":"250m","memory":"512Mi"}`, `{"cpu":"1","memory":"1G"}`)},
	"a little more than a size": {onBoth, all(requests("cpu", "1001m"), requests("memory", "1")), isSized(`{"cpu":"2","memory":"1Gi"}`, `{"cpu":"1010m","memory":"1G"}`)},
	"a fraction of bytes":       {onBoth, all(requests("cpu", "1"), requests("memory", "1100000000500m")), isSized(`{"cpu":"1","memory":"2Gi"}`, `{"cpu":"1","memory":"1200M"}`)},
	"a limit above its request": {onBoth, all(requests("cpu", "100m"), limits("cpu", "3"), requests("memory", "1Gi")), isSized(`{"cpu":"4","memory":"2Gi"}`, `{"cpu":"3","memory":"1100M"}`)},
	"memory only":               {onBoth, requests("memory", "20Gi"), isSized(`{"cpu":"4","memory":"32Gi"}`, `{"cpu":"1","memory":"21500M"}`)},
	"an init container that is larger": {onBoth, all(requests("cpu", "1"), requests("memory", "1Gi"), initial(func(c *corev1.Container) {
		c.Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("3"), "memory": resource.MustParse("2Gi")}
	})), isSized(`{"cpu":"4","memory":"2Gi"}`, `{"cpu":"3","memory":"2200M"}`)},
	"the largest":              {onECI, all(limits("cpu", "64"), limits("memory", "512Gi")), isSized(`{"cpu":"64","memory":"512Gi"}`, "")},
	"the largest of the other": {onACI, all(limits("cpu", "31"), limits("memory", "240G")), isSized("", `{"cpu":"31","memory":"240G"}`)},
	"20 containers":            {onECI, containers(20), holds("containers", 20, func(g *group) any { return len(g.Containers) })},
	"60 containers":            {onACI, all(containers(59), initial(func(*corev1.Container) {})), holds("containers", 60, func(g *group) any { return len(g.Containers) + len(g.Inits) })},
	"disk space":               {onECI, requests("ephemeral-storage", "30Gi"), anything},
	"a container without any beside one with": {onBoth, all(requests("cpu", "1"), requests("memory", "1Gi"), containers(2)), holds("containers", 2, func(g *group) any { return len(g.Containers) })},

	"the highest port":            {onBoth, ports(corev1.ContainerPort{ContainerPort: 65535}), says("ports", func(g *group) string { return strings.Join(g.Containers[0].Ports, " ") }, "65535/TCP")},
	"one number in two protocols": {onBoth, ports(corev1.ContainerPort{Name: "a", ContainerPort: 53}, corev1.ContainerPort{Name: "b", ContainerPort: 53, Protocol: corev1.ProtocolUDP}), says("ports", func(g *group) string { return strings.Join(g.Containers[0].Ports, " ") }, "53/TCP", "53/UDP")},
	"five ports":                  {onACI, ports(corev1.ContainerPort{ContainerPort: 1}, corev1.ContainerPort{ContainerPort: 2}, corev1.ContainerPort{ContainerPort: 3}, corev1.ContainerPort{ContainerPort: 4}, corev1.ContainerPort{ContainerPort: 5}), holds("opened ports", 5, func(g *group) any { return len(g.Address) })},
	"one port in two containers": {onECI, spec(func(s *corev1.PodSpec) {
		s.Containers = []corev1.Container{{Name: "a", Image: "x", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}, {Name: "b", Image: "x", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}
	}), holds("ports", []string{"80/TCP"}, func(g *group) any { return g.Containers[1].Ports })},
	"a probe by a port's name": {onBoth, all(ports(corev1.ContainerPort{Name: "web", ContainerPort: 8080}), httpProbe(corev1.HTTPGetAction{Path: "/a?b=c&d", Port: intstr.FromString("web"), Scheme: corev1.URISchemeHTTPS})), says("probe", func(g *group) string { return strings.ToLower(g.Containers[0].Readiness) }, "8080", "/a?b=c", "https")},
	"a probe by a command": {onBoth, first(func(c *corev1.Container) {
		c.LivenessProbe = &corev1.Probe{InitialDelaySeconds: 3600, PeriodSeconds: 7, FailureThreshold: 100, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"test", "-e", "/a b"}}}}
	}), says("probe", func(g *group) string { return g.Containers[0].Liveness }, "3600", "7", "100", "/a b")},
	"a TCP probe":          {onECI, probe(corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(6379)}}}), says("probe", func(g *group) string { return g.Containers[0].Readiness }, "TcpSocket.Port=6379")},
	"a probe with headers": {onACI, httpProbe(corev1.HTTPGetAction{Port: intstr.FromInt32(80), HTTPHeaders: []corev1.HTTPHeader{{Name: "Host", Value: "x"}, {Name: "Host", Value: "y"}}}), says("probe", func(g *group) string { return g.Containers[0].Readiness }, `"name":"Host"`, `"value":"x"`, `"value":"y"`)},
	"hooks":                {onECI, hooks(corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/up", Port: intstr.FromInt32(80), HTTPHeaders: []corev1.HTTPHeader{{Name: "X", Value: "y"}}}}, PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "sleep 1"}}}}), both(says("postStart", func(g *group) string { return g.Containers[0].PostStart }, "/up", "X", "y"), says("preStop", func(g *group) string { return g.Containers[0].PreStop }, "sleep 1"))},

	"never restarted": {onBoth, spec(func(s *corev1.PodSpec) { s.RestartPolicy = corev1.RestartPolicyNever }), holds("restart policy", "Never", func(g *group) any { return g.Restart })},
	"a deadline":      {onBoth, spec(func(s *corev1.PodSpec) { s.ActiveDeadlineSeconds = ptr.To[int64](2147483647) }), anything},
	"no grace":        {onECI, spec(func(s *corev1.PodSpec) { s.TerminationGracePeriodSeconds = ptr.To[int64](0) }), holds("grace", "0", func(g *group) any { return g.Grace })},
	"a host name":     {onECI, spec(func(s *corev1.PodSpec) { s.Hostname = "db-0" }), holds("host name", "db-0", func(g *group) any { return g.Hostname })},
	"lines of the hosts file": {onECI, spec(func(s *corev1.PodSpec) {
		s.HostAliases = []corev1.HostAlias{{IP: "10.0.0.1", Hostnames: []string{"a", "b.c"}}, {IP: "::1", Hostnames: []string{"d"}}}
	}), holds("hosts", map[string][]string{"10.0.0.1": {"a", "b.c"}, "::1": {"d"}}, func(g *group) any { return g.Hosts })},
	"a resolver of its own": {onECI, spec(func(s *corev1.PodSpec) {
		s.DNSPolicy, s.DNSConfig = corev1.DNSNone, &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}, Options: []corev1.PodDNSConfigOption{{Name: "rotate"}}}
	}), says("resolver", func(g *group) string { return g.DNS }, "None", "1.1.1.1", "rotate")},
	"the cloud's resolver":    {onBoth, spec(func(s *corev1.PodSpec) { s.DNSPolicy = corev1.DNSDefault }), anything},
	"kernel parameters":       {onECI, podSecurity(corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.ipv4.ip_unprivileged_port_start", Value: "0"}}}), holds("sysctls", map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}, func(g *group) any { return g.Sysctls })},
	"root":                    {onBoth, security(corev1.SecurityContext{RunAsUser: ptr.To[int64](0)}), isSecured(map[string]string{"user": "0"})},
	"the last user":           {onBoth, security(corev1.SecurityContext{RunAsUser: ptr.To[int64](2147483647), RunAsGroup: ptr.To[int64](2147483647)}), isSecured(map[string]string{"user": "2147483647", "group": "2147483647"})},
	"a user above the pod's":  {onBoth, all(podSecurity(corev1.PodSecurityContext{RunAsUser: ptr.To[int64](1), RunAsGroup: ptr.To[int64](2)}), security(corev1.SecurityContext{RunAsUser: ptr.To[int64](3)})), isSecured(map[string]string{"user": "3", "group": "2"})},
	"nobody's root":           {onBoth, security(corev1.SecurityContext{RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](65534)}), isSecured(map[string]string{"user": "65534"})},
	"a capability":            {onECI, security(corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN", "NET_RAW"}}}), isSecured(map[string]string{"add": "NET_ADMIN,NET_RAW"})},
	"the restricted standard": {onACI, security(corev1.SecurityContext{AllowPrivilegeEscalation: ptr.To(false), RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](1), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}), isSecured(map[string]string{"allowPrivilegeEscalation": "false", "capabilities": `{"drop":["ALL"]}`})},
	"privileges that are not": {onBoth, security(corev1.SecurityContext{Privileged: ptr.To(false), AllowPrivilegeEscalation: ptr.To(true), ReadOnlyRootFilesystem: ptr.To(false), ProcMount: ptr.To(corev1.DefaultProcMount)}), anything},
	"a terminal":              {onECI, first(func(c *corev1.Container) { c.Stdin, c.TTY = true, true }), holds("terminal", true, func(g *group) any { return g.Containers[0].Stdin && g.Containers[0].TTY })},
	"what the scheduler reads": {onBoth, spec(func(s *corev1.PodSpec) {
		s.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 1, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: "zone"}}}}}
		s.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.ScheduleAnyway}}
	}), anything},
	"a gate of readiness": {onBoth, spec(func(s *corev1.PodSpec) {
		s.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/lb"}}
	}), anything},
	"an annotation of 200,000 characters": {onBoth, func(p *corev1.Pod) { p.Annotations = map[string]string{"a": strings.Repeat("n", 200_000)} }, anything},
	"20 labels": {onBoth, func(p *corev1.Pod) {
		p.Labels = map[string]string{}
		for i := range 20 {
			p.Labels[fmt.Sprintf("l%d", i)] = "v"
		}
	}, anything},
	"a policy of resizing": {onBoth, first(func(c *corev1.Container) {
		c.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: corev1.NotRequired}}
	}), anything},
}

// Each pod may burst by the word of the webhook, runs, and is stored by the cloud as
// it was written.
func TestRuns(t *testing.T) {
	if len(odds) < 60 {
		t.Errorf("%d pods are in the table", len(odds))
	}
	for cloud, of := range clouds {
		t.Run(of.name, func(t *testing.T) {
			b := newBed(t, of.make(t), theObjects()...)
			pods := map[string]*corev1.Pod{}
			for what, test := range odds {
				if test.on&cloud == 0 {
					continue
				}
				pod := onePod(fmt.Sprintf("p%d", len(pods)), test.edit)
				pod, err := admit(pod)
				if err != nil {
					t.Errorf("%s: the API server does not admit it: %v", what, err)
					continue
				}
				if d := b.decide(pod); d.Action != policy.Grant {
					t.Errorf("%s: the webhook decides %s %s: %s %v", what, d.Action, d.Reason, d.Message, d.Refusals)
					continue
				}
				pods[what] = pod
				b.bind(pod)
			}
			for what, pod := range pods {
				b.eventually(what+" runs", func() error {
					if s := b.pod(pod.Name).Status; s.Phase != corev1.PodRunning {
						return fmt.Errorf("pod %s is %s %s: %s", pod.Name, s.Phase, s.Reason, s.Message)
					}
					return nil
				})
				g := b.accepted.get(string(pod.UID))
				if g == nil {
					t.Errorf("%s: the cloud has stored no group", what)
					continue
				}
				if wrong := odds[what].want(g, b.pod(pod.Name)); wrong != "" {
					t.Errorf("%s: %s", what, wrong)
				}
				if wrong := containersKept(g, pod); wrong != "" {
					t.Errorf("%s: %s", what, wrong)
				}
			}
			if n := b.accepted.count(); n != len(pods) {
				t.Errorf("the cloud was asked %d times to make the groups of %d pods", n, len(pods))
			}
		})
	}
}

// containersKept checks what holds for every pod: its containers are there in their
// order, with their images.
func containersKept(g *group, pod *corev1.Pod) string {
	names := func(list []corev1.Container) (out []string) {
		for _, c := range list {
			out = append(out, c.Name+" "+c.Image)
		}
		return out
	}
	stored := func(list []container) (out []string) {
		for _, c := range list {
			out = append(out, c.Name+" "+c.Image)
		}
		return out
	}
	return differ("containers", slices.Concat(names(pod.Spec.InitContainers), names(pod.Spec.Containers)), slices.Concat(stored(g.Inits), stored(g.Containers)))
}
