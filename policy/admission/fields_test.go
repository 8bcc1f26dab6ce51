package admission

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers/aci"
	"github.com/autoburst/autoburst/providers/eci"
)

// admitted is a pod as it reaches admission: with the defaults of the API server
// and the token volume of the ServiceAccount admission.
func admitted() *corev1.Pod {
	pod := &corev1.Pod{}
	pod.Name, pod.Namespace, pod.Labels = "web-1", "shop", map[string]string{"app": "web"}
	pod.Spec = corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyAlways,
		TerminationGracePeriodSeconds: ptr.To(int64(30)),
		DNSPolicy:                     corev1.DNSClusterFirst,
		SchedulerName:                 corev1.DefaultSchedulerName,
		ServiceAccountName:            "default",
		DeprecatedServiceAccount:      "default",
		SecurityContext:               &corev1.PodSecurityContext{},
		EnableServiceLinks:            ptr.To(true),
		Priority:                      ptr.To(int32(0)),
		PreemptionPolicy:              ptr.To(corev1.PreemptLowerPriority),
		Tolerations:                   []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}},
		Volumes: []corev1.Volume{{Name: "kube-api-access-abcde", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: ptr.To(int32(0o644)),
			Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To(int64(3607))}},
				{ConfigMap: &corev1.ConfigMapProjection{Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}}}},
			},
		}}}},
		Containers: []corev1.Container{{
			Name: "nginx", Image: "nginx:latest", ImagePullPolicy: corev1.PullAlways,
			TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
			VolumeMounts: []corev1.VolumeMount{{Name: "kube-api-access-abcde", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("512Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
			},
		}},
	}
	return pod
}

// clouds are virtual nodes that carry out different things.
func clouds() map[string]*burstable.Capabilities {
	everything := burstable.Capabilities{Provider: "all", Features: burstable.Features}
	nothing := burstable.Capabilities{Provider: "none"}
	alibaba, azure, subnet := eci.Capabilities(), aci.Capabilities(false), aci.Capabilities(true)
	return map[string]*burstable.Capabilities{
		"everything": &everything, "nothing": &nothing, "eci": &alibaba, "aci": &azure, "aci in a subnet": &subnet, "another maker's": nil,
	}
}

// always is a snapshot in which a policy sends the pods of the namespace shop to
// one virtual node.
func always(c *burstable.Capabilities) *policy.Snapshot {
	return &policy.Snapshot{
		Namespaces: map[string]policy.Namespace{"shop": {}},
		Policies: map[string][]*policy.Policy{"shop": {{
			Ref: policy.Ref{Kind: policy.KindPolicy, Namespace: "shop", Name: "web"}, Mode: v1alpha1.ModeAlways,
			PodSelector: labels.Everything(), Limits: policy.NoLimits,
		}}},
		VirtualNodes: []*policy.VirtualNode{{
			Name: "virtual", Labels: labels.Set{"type": "virtual-kubelet"}, Ready: true, Capabilities: c,
			HardTaints: []corev1.Taint{{Key: "virtual-kubelet.io/provider", Value: "x", Effect: corev1.TaintEffectNoSchedule}},
		}},
		AdmissionByPolicy: true,
	}
}

// stricter are the fields for which the API server leaves pods as they are that
// the webhook would take, and why that is so.
var stricter = map[string]string{
	"spec.runtimeClassName":              "an empty one counts as one",
	"spec.containers.ports.protocol":     "one that Kubernetes does not know yet may be anything",
	"spec.initContainers.ports.protocol": "one that Kubernetes does not know yet may be anything",
	"spec.initContainers.restartPolicy":  "the order of sidecars is for the controller",
}

// Each field of a pod, set alone, keeps the pod off a virtual node exactly where
// it does so in the webhook, whatever the cloud can do.
func TestEveryField(t *testing.T) {
	server := newAPIServer(t)
	params, snapshots := map[string]v1alpha1.BurstAdmissionSpec{}, map[string]*policy.Snapshot{}
	for name, c := range clouds() {
		snapshots[name] = always(c)
		params[name] = policy.Params(snapshots[name])
	}
	asked, tested := 0, 0
	check := func(t *testing.T, field string, pod *corev1.Pod) {
		t.Helper()
		for name := range params {
			if asked++; asked%stride != 0 {
				continue
			}
			tested++
			want, d := inject(snapshots[name], "shop", pod)
			got, err := server.admit(t.Context(), params[name], "shop", pod)
			if err != nil {
				t.Errorf("%s on %s: %v", field, name, err)
				continue
			}
			if diff := cmp.Diff(want, got); diff != "" && (stricter[field] == "" || got != pod && !cmp.Equal(got, pod)) {
				t.Errorf("%s on %s: %s (-webhook +API server):\n%s", field, name, d.Message, diff)
			}
		}
	}
	check(t, "nothing", admitted())
	walk(reflect.TypeFor[corev1.PodSpec](), "spec", func(p *corev1.Pod) reflect.Value { return reflect.ValueOf(&p.Spec).Elem() },
		func(field string, set func(*corev1.Pod)) {
			pod := admitted()
			set(pod)
			if len(pod.Spec.EphemeralContainers) > 0 || strings.Contains(field, "managedFields") { // no pod is created with any
				return
			}
			check(t, field, pod)
		})
	if tested < 1000/stride {
		t.Errorf("only %d pods were tested: the walk over the pod's fields is broken", tested)
	}
}

// walk calls visit for each field below a type, with what sets it to a value that
// is not its zero.
func walk(typ reflect.Type, path string, at func(*corev1.Pod) reflect.Value, visit func(string, func(*corev1.Pod))) {
	value := func(v any) func(*corev1.Pod) {
		return func(p *corev1.Pod) { at(p).Set(reflect.ValueOf(v).Convert(typ)) }
	}
	switch typ {
	case reflect.TypeFor[resource.Quantity]():
		visit(path, value(resource.MustParse("1")))
		return
	case reflect.TypeFor[intstr.IntOrString]():
		visit(path, value(intstr.FromInt32(80)))
		visit(path, value(intstr.FromString("web")))
		return
	}
	switch typ.Kind() {
	case reflect.Struct:
		for i := range typ.NumField() {
			f := typ.Field(i)
			if !f.IsExported() {
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			below := path + "." + name
			if name == "" { // inlined
				below = path
			}
			walk(f.Type, below, func(p *corev1.Pod) reflect.Value { return at(p).Field(i) }, visit)
		}
	case reflect.Pointer:
		walk(typ.Elem(), path, func(p *corev1.Pod) reflect.Value {
			v := at(p)
			if v.IsNil() {
				v.Set(reflect.New(typ.Elem()))
			}
			return v.Elem()
		}, visit)
		switch typ.Elem().Kind() { // a zero that is written is not the same as none
		case reflect.Bool, reflect.String, reflect.Int32, reflect.Int64:
			visit(path, func(p *corev1.Pod) { at(p).Set(reflect.New(typ.Elem())) })
		}
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			visit(path, value([]byte("x")))
			return
		}
		walk(typ.Elem(), path, func(p *corev1.Pod) reflect.Value {
			v := at(p)
			if v.Len() == 0 {
				v.Set(reflect.MakeSlice(typ, 1, 1))
			}
			return v.Index(0)
		}, visit)
	case reflect.Map:
		visit(path, func(p *corev1.Pod) {
			m := reflect.MakeMap(typ)
			e := reflect.New(typ.Elem()).Elem()
			if typ.Elem() == reflect.TypeFor[resource.Quantity]() {
				e.Set(reflect.ValueOf(resource.MustParse("1")))
			}
			m.SetMapIndex(reflect.ValueOf("example.com/x").Convert(typ.Key()), e)
			at(p).Set(m)
		})
	case reflect.String:
		visit(path, value("x"))
	case reflect.Bool:
		visit(path, value(true))
	case reflect.Int32, reflect.Int64:
		visit(path, value(7))
	default:
		panic(fmt.Sprintf("%s is a %s", path, typ))
	}
}
