package upstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	podresource "k8s.io/kubernetes/pkg/api/v1/resource"
	"k8s.io/kubernetes/pkg/fieldpath"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/envvars"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/configmap"
	"k8s.io/kubernetes/pkg/volume/downwardapi"
	"k8s.io/kubernetes/pkg/volume/secret"
	volumeutil "k8s.io/kubernetes/pkg/volume/util"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/vnode"
)

// everything is a cloud that carries out all there is. Its sizes are not known, so
// that a limit which is not set is that of the node, as the kubelet has it.
var everything = burstable.Capabilities{Provider: "eci", Features: burstable.Features}

var (
	capacity = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("512Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	settings = vnode.Config{ClusterUID: "cluster-a", Node: vnode.NodeSettings{
		Name: "virtual", InternalIP: "192.0.2.1", KubeletPort: 10250, Capacity: capacity,
		Taint: corev1.Taint{Key: "virtual-kubelet.io/provider", Value: "x", Effect: corev1.TaintEffectNoSchedule},
	}}
)

// groupSpec is what the agent makes of a pod.
func groupSpec(pod *corev1.Pod, objects ...runtime.Object) (*providers.GroupSpec, error) {
	return vnode.GroupSpec(context.Background(), fake.NewClientset(objects...), settings, everything, clock.RealClock{}, pod, func(string, string) {})
}

// bound is a pod that is admitted and on the node.
func bound(t testing.TB, pod *corev1.Pod) *corev1.Pod {
	pod = mustAdmit(t, pod)
	pod.Spec.NodeName = settings.Node.Name
	return pod
}

// objects is what a cluster holds.
type objects struct {
	ConfigMaps map[string]*corev1.ConfigMap
	Secrets    map[string]*corev1.Secret
	Services   []*corev1.Service
}

func (o *objects) list() []runtime.Object {
	var out []runtime.Object
	for _, m := range o.ConfigMaps {
		out = append(out, m.DeepCopy())
	}
	for _, s := range o.Secrets {
		out = append(out, s.DeepCopy())
	}
	for _, s := range o.Services {
		out = append(out, s.DeepCopy())
	}
	return out
}

var (
	names = rapid.SampledFrom([]string{"a", "b", "none"})
	keys  = rapid.SampledFrom([]string{"A", "B", "_c", "a.b", "1x", "d-e", "KUBERNETES_SERVICE_HOST"})
	// texts are made of what expansion looks at.
	texts = rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{
		"$", "$$", "(", ")", "$(A)", "$(B)", "$(_c)", "$(KUBERNETES_SERVICE_HOST)", "$(NONE)", "A", " ", "ä", "\n", "$(", "",
	}), 0, 6), func(parts []string) string { return strings.Join(parts, "") })
	variables = rapid.SampledFrom([]string{"A", "B", "_c", "D", "KUBERNETES_SERVICE_PORT"})
	optional  = rapid.SampledFrom([]*bool{nil, ptr.To(false), ptr.To(true)})
	modes     = rapid.SampledFrom([]*int32{nil, ptr.To[int32](0o400), ptr.To[int32](0o755), ptr.To[int32](0)})
	paths     = rapid.SampledFrom([]string{"x", "y", "./x", "x/y", "d/x", "d/y", "d//x", "d"})
)

func drawObjects(t *rapid.T) *objects {
	o := &objects{ConfigMaps: map[string]*corev1.ConfigMap{}, Secrets: map[string]*corev1.Secret{}}
	for _, name := range []string{"a", "b"} {
		meta := metav1.ObjectMeta{Name: name, Namespace: namespace}
		if rapid.Bool().Draw(t, "has configmap "+name) {
			m := &corev1.ConfigMap{ObjectMeta: meta, Data: rapid.MapOfN(keys, texts, 0, 4).Draw(t, "data")}
			m.BinaryData = map[string][]byte{"raw": {0, 255}}
			o.ConfigMaps[name] = m
		}
		if rapid.Bool().Draw(t, "has secret "+name) {
			s := &corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{}}
			for k, v := range rapid.MapOfN(keys, texts, 0, 4).Draw(t, "data") {
				s.Data[k] = []byte(v)
			}
			o.Secrets[name] = s
		}
	}
	o.Services = append(o.Services, drawService(t, metav1.NamespaceDefault, "kubernetes"))
	for _, ns := range []string{namespace, "elsewhere"} {
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"db", "my-db", "kubernetes", "headless"}), 0, 3, rapid.ID).Draw(t, "services") {
			o.Services = append(o.Services, drawService(t, ns, name))
		}
	}
	return o
}

func drawService(t *rapid.T, ns, name string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns}}
	s.Spec.ClusterIP = rapid.SampledFrom([]string{"10.96.0.1", "10.96.0.7", "fd00::7", "None", ""}).Draw(t, "address")
	if name == "kubernetes" && ns == metav1.NamespaceDefault {
		s.Spec.ClusterIP = "10.96.0.1"
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "ports") {
		p := corev1.ServicePort{Port: int32(80 + i), Protocol: rapid.SampledFrom([]corev1.Protocol{"", "TCP", "UDP"}).Draw(t, "protocol")}
		if i > 0 || rapid.Bool().Draw(t, "named") {
			p.Name = fmt.Sprintf("web-%d", i)
		}
		s.Spec.Ports = append(s.Spec.Ports, p)
	}
	return s
}

func drawEnv(t *rapid.T) corev1.EnvVar {
	v := corev1.EnvVar{Name: variables.Draw(t, "name")}
	local := corev1.LocalObjectReference{Name: names.Draw(t, "object")}
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0, 1:
		v.Value = texts.Draw(t, "value")
	case 2:
		v.ValueFrom = &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: local, Key: keys.Draw(t, "key"), Optional: optional.Draw(t, "optional")}}
	case 3:
		v.ValueFrom = &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local, Key: keys.Draw(t, "key"), Optional: optional.Draw(t, "optional")}}
	case 4:
		v.ValueFrom = &corev1.EnvVarSource{FieldRef: drawField(t, "spec.nodeName", "spec.serviceAccountName")}
	case 5:
		v.ValueFrom = &corev1.EnvVarSource{ResourceFieldRef: drawResource(t, rapid.SampledFrom([]string{"", "app"}))}
	}
	return v
}

func drawField(t *rapid.T, more ...string) *corev1.ObjectFieldSelector {
	path := rapid.SampledFrom(append([]string{
		"metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations",
		"metadata.labels['app.kubernetes.io/name']", "metadata.annotations['note']", "metadata.labels['none']",
	}, more...)).Draw(t, "field")
	if strings.HasPrefix(path, "metadata.labels") || strings.HasPrefix(path, "metadata.annotations") {
		// The API server takes maps in volumes only, single keys everywhere.
		if len(more) > 0 && !strings.HasSuffix(path, "']") {
			path = "metadata.name"
		}
	}
	return &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}
}

func drawResource(t *rapid.T, container *rapid.Generator[string]) *corev1.ResourceFieldSelector {
	ref := &corev1.ResourceFieldSelector{ContainerName: container.Draw(t, "container")}
	ref.Resource = rapid.SampledFrom([]string{"limits.cpu", "requests.cpu", "limits.memory", "requests.memory", "limits.ephemeral-storage", "requests.ephemeral-storage"}).Draw(t, "resource")
	divisors := []string{"0", "1", "1Ki", "1Mi", "1M"}
	if strings.HasSuffix(ref.Resource, "cpu") {
		divisors = []string{"0", "1", "1m"}
	}
	ref.Divisor = resource.MustParse(rapid.SampledFrom(divisors).Draw(t, "divisor"))
	return ref
}

func drawResources(t *rapid.T) corev1.ResourceRequirements {
	var r corev1.ResourceRequirements
	for name, amounts := range map[corev1.ResourceName][]string{
		corev1.ResourceCPU: {"", "1m", "250m", "1500m", "3"}, corev1.ResourceMemory: {"", "1", "100M", "129Mi", "1.5Gi"}, corev1.ResourceEphemeralStorage: {"", "1Gi"},
	} {
		amount := rapid.SampledFrom(amounts).Draw(t, "amount of "+string(name))
		if amount == "" {
			continue
		}
		list := corev1.ResourceList{name: resource.MustParse(amount)}
		if rapid.Bool().Draw(t, "limit") {
			r.Limits = merged(r.Limits, list)
		} else {
			r.Requests = merged(r.Requests, list)
		}
	}
	return r
}

func merged(a, b corev1.ResourceList) corev1.ResourceList {
	if a == nil {
		a = corev1.ResourceList{}
	}
	maps.Copy(a, b)
	return a
}

// A text with references becomes what the kubelet's own expansion makes of it.
func TestExpansion(t *testing.T) {
	vars := map[string]string{"A": "x$(B)", "B": "", "_c": "$$"}
	rapid.Check(t, func(t *rapid.T) {
		text := texts.Draw(t, "text")
		pod := onePod("web", func(p *corev1.Pod) {
			p.UID, p.Namespace = "u", namespace
			p.Spec.EnableServiceLinks = ptr.To(false)
			for _, name := range slices.Sorted(maps.Keys(vars)) {
				// Written so that the value itself is not expanded.
				p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: name, Value: strings.ReplaceAll(vars[name], "$", "$$")})
			}
			p.Spec.Containers[0].Command = []string{text}
		})
		spec, err := groupSpec(pod)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := spec.Containers[0].Command[0], expansion.Expand(text, expansion.MappingFuncFor(vars)); got != want {
			t.Fatalf("%q becomes %q, with the kubelet %q", text, got, want)
		}
	})
}

var errMissing = errors.New("something that the pod refers to does not exist")

// kubeletEnv is what the kubelet's makeEnvironmentVariables does, which cannot be
// imported: its steps in their order, each by the functions that it calls itself.
// Like kubelets of old, and unlike new ones, it leaves out what the clouds take for no
// name of a variable.
func kubeletEnv(o *objects, pod *corev1.Pod, c *corev1.Container) (map[string]string, error) {
	services := map[string]*corev1.Service{}
	for _, s := range o.Services { // getServiceEnvVarMap
		switch {
		case s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone:
		case s.Namespace == metav1.NamespaceDefault && s.Name == "kubernetes":
			if services[s.Name] == nil {
				services[s.Name] = s
			}
		case s.Namespace == pod.Namespace && *pod.Spec.EnableServiceLinks:
			services[s.Name] = s
		}
	}
	links := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		for _, e := range envvars.FromServices([]*corev1.Service{services[name]}) {
			links[e.Name] = e.Value
		}
	}

	env := map[string]string{}
	from := func(prefix, key, value string) {
		if burstable.PlainName(prefix + key) {
			env[prefix+key] = value
		}
	}
	for _, f := range c.EnvFrom {
		switch {
		case f.ConfigMapRef != nil:
			m := o.ConfigMaps[f.ConfigMapRef.Name]
			if m == nil && !ptr.Deref(f.ConfigMapRef.Optional, false) {
				return nil, errMissing
			}
			if m != nil {
				for k, v := range m.Data {
					from(f.Prefix, k, v)
				}
			}
		case f.SecretRef != nil:
			s := o.Secrets[f.SecretRef.Name]
			if s == nil && !ptr.Deref(f.SecretRef.Optional, false) {
				return nil, errMissing
			}
			if s != nil {
				for k, v := range s.Data {
					from(f.Prefix, k, string(v))
				}
			}
		}
	}
	mapping := expansion.MappingFuncFor(env, links)
	for _, v := range c.Env {
		value := v.Value
		switch {
		case value != "":
			value = expansion.Expand(value, mapping)
		case v.ValueFrom == nil:
		case v.ValueFrom.FieldRef != nil:
			switch path := v.ValueFrom.FieldRef.FieldPath; path {
			case "spec.nodeName":
				value = pod.Spec.NodeName
			case "spec.serviceAccountName":
				value = pod.Spec.ServiceAccountName
			default:
				var err error
				if value, err = fieldpath.ExtractFieldPathAsString(pod, path); err != nil {
					return nil, err
				}
			}
		case v.ValueFrom.ResourceFieldRef != nil:
			name := v.ValueFrom.ResourceFieldRef.ContainerName
			if name == "" {
				name = c.Name
			}
			var err error
			if value, err = podresource.ExtractResourceValueByContainerNameAndNodeAllocatable(v.ValueFrom.ResourceFieldRef, pod, name, capacity); err != nil {
				return nil, err
			}
		case v.ValueFrom.ConfigMapKeyRef != nil:
			ref := v.ValueFrom.ConfigMapKeyRef
			var ok bool
			if m := o.ConfigMaps[ref.Name]; m != nil {
				value, ok = m.Data[ref.Key]
			}
			if !ok {
				if ptr.Deref(ref.Optional, false) {
					continue
				}
				return nil, errMissing
			}
		case v.ValueFrom.SecretKeyRef != nil:
			ref := v.ValueFrom.SecretKeyRef
			var data []byte
			ok := false
			if s := o.Secrets[ref.Name]; s != nil {
				data, ok = s.Data[ref.Key]
			}
			if !ok {
				if ptr.Deref(ref.Optional, false) {
					continue
				}
				return nil, errMissing
			}
			value = string(data)
		}
		env[v.Name] = value
	}
	for name, value := range links {
		if _, declared := env[name]; !declared {
			env[name] = value
		}
	}
	return env, nil
}

// The environment of any container, its command, its arguments and the paths of its
// mounts are those that the kubelet would give it, or both wait for an object.
func TestEnvironment(t *testing.T) {
	same, waiting := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		o := drawObjects(t)
		pod := onePod("web", func(p *corev1.Pod) {
			p.Labels, p.Annotations = map[string]string{"app.kubernetes.io/name": "x", "b": "y"}, map[string]string{"note": "$(A)"}
			p.Spec.EnableServiceLinks = ptr.To(rapid.Bool().Draw(t, "service links"))
			p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
			c := &p.Spec.Containers[0]
			c.Resources = drawResources(t)
			for range rapid.IntRange(0, 3).Draw(t, "envFrom") {
				f := corev1.EnvFromSource{Prefix: rapid.SampledFrom([]string{"", "P_"}).Draw(t, "prefix")}
				local := corev1.LocalObjectReference{Name: names.Draw(t, "object")}
				if rapid.Bool().Draw(t, "of a secret") {
					f.SecretRef = &corev1.SecretEnvSource{LocalObjectReference: local, Optional: optional.Draw(t, "optional")}
				} else {
					f.ConfigMapRef = &corev1.ConfigMapEnvSource{LocalObjectReference: local, Optional: optional.Draw(t, "optional")}
				}
				c.EnvFrom = append(c.EnvFrom, f)
			}
			for range rapid.IntRange(0, 5).Draw(t, "env") {
				c.Env = append(c.Env, drawEnv(t))
			}
			c.Command = rapid.SliceOfN(texts, 1, 3).Draw(t, "command")
			c.Args = rapid.SliceOfN(texts, 0, 3).Draw(t, "args")
			c.VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
			if rapid.Bool().Draw(t, "has a path") {
				c.VolumeMounts[0].SubPathExpr = rapid.SampledFrom([]string{"of-$(A)", "$(A)/$(D)", "$$(A)", "$(NONE)", "x"}).Draw(t, "path")
			}
		})
		pod, err := admit(pod)
		if err != nil {
			t.Skip("not admitted: ", err)
		}
		pod.Spec.NodeName = settings.Node.Name
		c := &pod.Spec.Containers[0]
		want, wantErr := kubeletEnv(o, pod, c)
		var subPath string
		var list []kubecontainer.EnvVar
		if wantErr == nil {
			for name, value := range want {
				list = append(list, kubecontainer.EnvVar{Name: name, Value: value})
			}
			if c.VolumeMounts[0].SubPathExpr != "" {
				subPath, wantErr = kubecontainer.ExpandContainerVolumeMounts(c.VolumeMounts[0], list)
			}
			if strings.HasPrefix(subPath, "/") || slices.Contains(strings.Split(subPath, "/"), "..") {
				wantErr = errors.New("the path leaves the volume")
			}
		}
		spec, err := groupSpec(pod, o.list()...)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("error %v, with the kubelet %v", err, wantErr)
		}
		if err != nil {
			waiting++
			return
		}
		same++
		got := map[string]string{}
		for _, e := range spec.Containers[0].Env {
			if _, twice := got[e.Name]; twice {
				t.Fatalf("variable %s is there twice", e.Name)
			}
			got[e.Name] = e.Value
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("environment (-kubelet +agent):\n%s", diff)
		}
		command, args := kubecontainer.ExpandContainerCommandAndArgs(c, list)
		if diff := cmp.Diff(append(command, args...), append(spec.Containers[0].Command, spec.Containers[0].Args...)); diff != "" {
			t.Fatalf("command (-kubelet +agent):\n%s", diff)
		}
		if got := spec.Containers[0].Mounts[0].SubPath; got != subPath {
			t.Fatalf("path %q, with the kubelet %q", got, subPath)
		}
	})
	if same == 0 || waiting == 0 {
		t.Errorf("%d pods had an environment and %d none: one kind was not tested", same, waiting)
	}
}

// A secret marks every value that it went into, however that was put together.
func TestSecretsAreMarked(t *testing.T) {
	const marker = "s3cr3t"
	rapid.Check(t, func(t *rapid.T) {
		pod := onePod("web", func(p *corev1.Pod) {
			p.UID, p.Namespace = "u", namespace
			c := &p.Spec.Containers[0]
			c.EnvFrom = []corev1.EnvFromSource{{Prefix: "P_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "a"}}}}
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "a"}, Key: "B"}}}}
			for i := range rapid.IntRange(1, 5).Draw(t, "more") {
				c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("V%d", i), Value: rapid.SampledFrom([]string{"x", "$(A)", "y$(P_B)", "$(V0)", "$(V1)$(V2)", "$$(A)"}).Draw(t, "value")})
			}
		})
		spec, err := groupSpec(pod, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: namespace}, Data: map[string][]byte{"B": []byte(marker)}})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range spec.Containers[0].Env {
			if strings.Contains(e.Value, marker) != e.Secret {
				t.Fatalf("%s is %q, and marked as secret: %t", e.Name, e.Value, e.Secret)
			}
		}
	})
}

// host tells the kubelet's downward API volume what the node has.
type host struct{ volume.VolumeHost }

func (host) GetNodeAllocatable() (corev1.ResourceList, error) { return capacity, nil }

// kubeletFiles is the content of a volume by the kubelet's own plugins: what each
// source comes to, merged as the projected volume merges them, and written to a
// directory by the writer that all of them share.
func kubeletFiles(t *rapid.T, o *objects, pod *corev1.Pod, v *corev1.Volume) (map[string]file, error) {
	payload := map[string]volumeutil.FileProjection{}
	add := func(more map[string]volumeutil.FileProjection, err error) error {
		maps.Copy(payload, more)
		return err
	}
	ofConfigMap := func(name string, items []corev1.KeyToPath, mode *int32, optional *bool) error {
		m := o.ConfigMaps[name]
		if m == nil {
			if !ptr.Deref(optional, false) {
				return errMissing
			}
			m = &corev1.ConfigMap{}
		}
		return add(configmap.MakePayload(items, m, mode, ptr.Deref(optional, false)))
	}
	ofSecret := func(name string, items []corev1.KeyToPath, mode *int32, optional *bool) error {
		s := o.Secrets[name]
		if s == nil {
			if !ptr.Deref(optional, false) {
				return errMissing
			}
			s = &corev1.Secret{}
		}
		return add(secret.MakePayload(items, s, mode, ptr.Deref(optional, false)))
	}
	var err error
	switch {
	case v.ConfigMap != nil:
		err = ofConfigMap(v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.DefaultMode, v.ConfigMap.Optional)
	case v.Secret != nil:
		err = ofSecret(v.Secret.SecretName, v.Secret.Items, v.Secret.DefaultMode, v.Secret.Optional)
	case v.DownwardAPI != nil:
		err = add(downwardapi.CollectData(v.DownwardAPI.Items, pod, host{}, v.DownwardAPI.DefaultMode))
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			switch {
			case s.ConfigMap != nil:
				err = errors.Join(err, ofConfigMap(s.ConfigMap.Name, s.ConfigMap.Items, v.Projected.DefaultMode, s.ConfigMap.Optional))
			case s.Secret != nil:
				err = errors.Join(err, ofSecret(s.Secret.Name, s.Secret.Items, v.Projected.DefaultMode, s.Secret.Optional))
			case s.DownwardAPI != nil:
				err = errors.Join(err, add(downwardapi.CollectData(s.DownwardAPI.Items, pod, host{}, v.Projected.DefaultMode)))
			}
		}
	}
	if err != nil {
		return nil, err
	}
	cleaned := map[string]bool{}
	for p := range payload {
		if cleaned[filepath.Clean(p)] {
			t.Skip("which of two spellings of one path wins is chance in the kubelet")
		}
		cleaned[filepath.Clean(p)] = true
	}
	dir, err := os.MkdirTemp("", "volume")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	w, err := volumeutil.NewAtomicWriter(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(payload, nil); err != nil {
		return nil, err
	}
	files := map[string]file{}
	root, err := filepath.EvalSymlinks(filepath.Join(dir, "..data"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		files[name] = file{string(data), int32(info.Mode().Perm())}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, nil
}

type file struct {
	Data string
	Mode int32
}

func drawItems(t *rapid.T) []corev1.KeyToPath {
	var items []corev1.KeyToPath
	for range rapid.IntRange(0, 3).Draw(t, "items") {
		items = append(items, corev1.KeyToPath{Key: rapid.OneOf(keys, rapid.Just("raw")).Draw(t, "key"), Path: paths.Draw(t, "path"), Mode: modes.Draw(t, "mode")})
	}
	return items
}

func drawDownward(t *rapid.T) []corev1.DownwardAPIVolumeFile {
	var items []corev1.DownwardAPIVolumeFile
	for range rapid.IntRange(0, 3).Draw(t, "items") {
		f := corev1.DownwardAPIVolumeFile{Path: paths.Draw(t, "path"), Mode: modes.Draw(t, "mode")}
		if rapid.Bool().Draw(t, "of a resource") {
			f.ResourceFieldRef = drawResource(t, rapid.Just("app"))
		} else {
			f.FieldRef = drawField(t)
		}
		items = append(items, f)
	}
	return items
}

func drawVolume(t *rapid.T) corev1.VolumeSource {
	local := func() corev1.LocalObjectReference {
		return corev1.LocalObjectReference{Name: names.Draw(t, "object")}
	}
	mode := modes.Draw(t, "defaultMode")
	switch rapid.IntRange(0, 3).Draw(t, "volume") {
	case 0:
		return corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local(), Items: drawItems(t), DefaultMode: mode, Optional: optional.Draw(t, "optional")}}
	case 1:
		return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: names.Draw(t, "object"), Items: drawItems(t), DefaultMode: mode, Optional: optional.Draw(t, "optional")}}
	case 2:
		return corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: drawDownward(t), DefaultMode: mode}}
	}
	v := &corev1.ProjectedVolumeSource{DefaultMode: mode}
	for range rapid.IntRange(1, 3).Draw(t, "sources") {
		var s corev1.VolumeProjection
		switch rapid.IntRange(0, 2).Draw(t, "source") {
		case 0:
			s.ConfigMap = &corev1.ConfigMapProjection{LocalObjectReference: local(), Items: drawItems(t), Optional: optional.Draw(t, "optional")}
		case 1:
			s.Secret = &corev1.SecretProjection{LocalObjectReference: local(), Items: drawItems(t), Optional: optional.Draw(t, "optional")}
		case 2:
			s.DownwardAPI = &corev1.DownwardAPIProjection{Items: drawDownward(t)}
		}
		v.Sources = append(v.Sources, s)
	}
	return corev1.VolumeSource{Projected: v}
}

// The files of any volume lie where the kubelet would put them, with their content
// and mode, or both wait for an object.
func TestVolumes(t *testing.T) {
	same, waiting := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		o := drawObjects(t)
		pod := onePod("web", func(p *corev1.Pod) {
			p.Labels, p.Annotations = map[string]string{"app.kubernetes.io/name": "x", "b": "y"}, map[string]string{"note": "a \"quoted\"\nline"}
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: drawVolume(t)}}
			p.Spec.Containers[0].Resources = drawResources(t)
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
		})
		pod, err := admit(pod)
		if err != nil {
			t.Skip("not admitted: ", err)
		}
		pod.Spec.NodeName = settings.Node.Name
		want, wantErr := kubeletFiles(t, o, pod, &pod.Spec.Volumes[0])
		spec, err := groupSpec(pod, o.list()...)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("error %v, with the kubelet %v", err, wantErr)
		}
		if err != nil {
			waiting++
			return
		}
		same++
		got := map[string]file{}
		for _, f := range spec.Volumes[0].Files.Items {
			if _, twice := got[f.Path]; twice {
				t.Fatalf("file %s is there twice", f.Path)
			}
			got[f.Path] = file{string(f.Data), f.Mode}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("files (-kubelet +agent):\n%s", diff)
		}
	})
	if same == 0 || waiting == 0 {
		t.Errorf("%d volumes had files and %d waited: one kind was not tested", same, waiting)
	}
}
