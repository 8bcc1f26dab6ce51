package upstream

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/autoburst/autoburst/policy/burstable"
)

// unheard are fields that change nothing of what a cloud is asked for, beside those
// that the scheduler reads, and why that is right.
var unheard = map[string]string{
	"spec.volumes.configMap.optional":                   "it is there",
	"spec.volumes.secret.optional":                      "it is there",
	"spec.volumes.projected.sources.configMap.optional": "it is there",
	"spec.volumes.projected.sources.secret.optional":    "it is there",
	"spec.containers.envFrom.configMapRef.optional":     "it is there",
	"spec.containers.envFrom.secretRef.optional":        "it is there",
	"spec.volumes.downwardAPI.defaultMode":              "there are no files",
	"spec.volumes.projected.defaultMode":                "there are no files",
	"spec.volumes.name":                                 "it has this name",
	"spec.containers.volumeMounts.name":                 "it has this name",

	"spec.hostUsers":          "true is the default",
	"spec.enableServiceLinks": "true is the default",
	"spec.containers.securityContext.allowPrivilegeEscalation": "true is the default",
	"spec.containers.volumeMounts.recursiveReadOnly":           "no value of the API",
	"spec.dnsPolicy":                  "no value of the API",
	"spec.containers.imagePullPolicy": "ACI always pulls",

	"spec.automountServiceAccountToken": "the API server adds the volume",
	"spec.serviceAccountName":           "the agent asks for tokens of it",
	"spec.serviceAccount":               "the old name of serviceAccountName",
	"spec.imagePullSecrets.name":        "the Secret has no login, as an event says",
	"spec.activeDeadlineSeconds":        "where the cloud has none, the agent's timer",
	"spec.readinessGates.conditionType": "the agent leaves the condition alone",
	"spec.containers.ports.name":        "for probes and hooks",

	"spec.initContainers.livenessProbe":  "the API server allows none",
	"spec.initContainers.readinessProbe": "the API server allows none",
	"spec.initContainers.lifecycle":      "the API server allows none",
	"spec.initContainers.ports":          "they are open to nobody before the pod runs",
}

// Each field of a pod, set alone, is refused, waited for, or changes what the cloud is
// asked for. None is dropped in silence.
func TestNothingIsDroppedInSilence(t *testing.T) {
	quiet := map[string]bool{}
	for field := range unheard {
		quiet[field] = true
	}
	for _, r := range burstable.Table() {
		if r.By == "scheduler" || strings.HasPrefix(r.By, "no effect") {
			quiet[strings.TrimSuffix(r.Field, ".*")] = true
		}
	}
	base := func(name string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, UID: types.UID("uid-" + name)},
			Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyAlways, ServiceAccountName: "default",
				Volumes:        []corev1.Volume{{Name: "x"}},
				InitContainers: []corev1.Container{{Name: "first", Image: "b", VolumeMounts: []corev1.VolumeMount{{Name: "x", MountPath: "/x"}}}},
				Containers: []corev1.Container{{
					Name: "app", Image: "b", Command: []string{"c"}, VolumeMounts: []corev1.VolumeMount{{Name: "x", MountPath: "/x"}},
					Ports: []corev1.ContainerPort{{ContainerPort: 80}},
				}},
			},
		}
	}
	x := metav1.ObjectMeta{Name: "x", Namespace: namespace}
	for _, of := range clouds {
		t.Run(of.name, func(t *testing.T) {
			b := newBed(t, of.make(t),
				&corev1.ConfigMap{ObjectMeta: x, Data: map[string]string{"x": "y"}}, &corev1.Secret{ObjectMeta: x, Data: map[string][]byte{"x": []byte("y")}})
			fields := map[string]string{} // by the name of the pod
			put := func(field string, set func(*corev1.Pod)) {
				name := fmt.Sprintf("p%d", len(fields))
				pod := base(name)
				set(pod)
				fields[name] = field
				if len(burstable.Check(pod, b.provider.Capabilities())) == 0 {
					b.bind(pod)
				} else {
					delete(fields, name)
					fields["refused-"+name] = ""
				}
			}
			put("", func(*corev1.Pod) {})
			walk(reflect.TypeFor[corev1.PodSpec](), "spec", func(p *corev1.Pod) reflect.Value { return reflect.ValueOf(&p.Spec).Elem() }, put)
			plain := func() string {
				var raw string
				b.eventually("the pod without anything runs", func() error {
					g := b.accepted.get("uid-p0")
					if g == nil {
						return fmt.Errorf("there is no group")
					}
					raw = g.raw
					return nil
				})
				return raw
			}()
			silent := 0
			for name, field := range fields {
				if field == "" {
					continue
				}
				heard := false
				b.eventually(field+" is decided", func() error {
					g := b.accepted.get("uid-" + name)
					s := b.pod(name).Status
					heard = g == nil && b.waits(name) || s.Phase == corev1.PodFailed || g != nil && g.raw != plain
					if g == nil && !heard {
						return fmt.Errorf("pod %s is %s %s: %s", name, s.Phase, s.Reason, s.Message)
					}
					return nil
				})
				if heard {
					continue
				}
				silent++
				if !spokenFor(field, quiet) {
					t.Errorf("%s is neither refused nor does it change what the cloud is asked for", field)
				}
			}
			if len(fields) < 300 || silent == len(fields) {
				t.Errorf("%d fields were set, %d of them in silence: the walk is broken", len(fields), silent)
			}
		})
	}
}

// spokenFor tells whether a field or one above it is in the set.
func spokenFor(field string, set map[string]bool) bool {
	for at := field; at != ""; at = at[:max(0, strings.LastIndexByte(at, '.'))] {
		if set[at] || set[strings.Replace(at, "spec.initContainers", "spec.containers", 1)] {
			return true
		}
	}
	return false
}

// walk calls visit for each field below a type, with what sets it to a value that is
// not its zero.
func walk(typ reflect.Type, path string, at func(*corev1.Pod) reflect.Value, visit func(string, func(*corev1.Pod))) {
	value := func(v any) func(*corev1.Pod) {
		return func(p *corev1.Pod) { at(p).Set(reflect.ValueOf(v).Convert(typ)) }
	}
	switch typ {
	case reflect.TypeFor[resource.Quantity]():
		visit(path, value(resource.MustParse("1")))
		return
	case reflect.TypeFor[intstr.IntOrString]():
		visit(path, value(intstr.FromInt32(81)))
		return
	}
	switch typ.Kind() {
	case reflect.Struct:
		for i := range typ.NumField() {
			f := typ.Field(i)
			if !f.IsExported() {
				continue
			}
			below := path
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
				below += "." + name
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
			key := "example.com/x"
			if typ.Elem() == reflect.TypeFor[resource.Quantity]() {
				key = "cpu"
				e.Set(reflect.ValueOf(resource.MustParse("3")))
			}
			m.SetMapIndex(reflect.ValueOf(key).Convert(typ.Key()), e)
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
