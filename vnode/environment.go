package vnode

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// value is the value of a variable and whether a Secret went into it.
type value struct {
	text      string
	secret    bool
	fieldPath string // only the cloud knows the value
}

// environment are a container's variables, in order.
type environment struct {
	names  []string
	values map[string]value
	// links are the variables of services: below all that the container
	// declares.
	links map[string]string
}

func (e *environment) set(name string, v value) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = v
}

// expand replaces $(NAME) in a field by the variables declared so far and those
// of services.
func (e *environment) expand(text, field string) (value, error) {
	out := value{}
	var unknown string
	out.text = expand(text, func(name string) (string, bool) {
		if v, ok := e.values[name]; ok {
			if v.fieldPath != "" {
				unknown = name
			}
			out.secret = out.secret || v.secret
			return v.text, true
		}
		link, ok := e.links[name]
		return link, ok
	})
	if unknown != "" {
		return value{}, &unsupportedError{field, fmt.Sprintf("refers to $(%s), whose value is known only when the group runs", unknown)}
	}
	return out, nil
}

// path expands the path of a mount in its volume. It must be relative and stay in
// the volume, and every variable in it must have a value, as with the kubelet.
func (e *environment) path(text, field string) (string, error) {
	var unset []string
	expand(text, func(name string) (string, bool) {
		v, declared := e.values[name]
		if !declared {
			v.text = e.links[name]
		}
		if v.text == "" && v.fieldPath == "" {
			unset = append(unset, name)
		}
		return "", true
	})
	if len(unset) > 0 {
		slices.Sort(unset)
		return "", &missingError{"Failed", fmt.Sprintf("%s needs a value of %s", field, strings.Join(slices.Compact(unset), ", "))}
	}
	out, err := e.expand(text, field)
	switch {
	case err != nil:
		return "", err
	case strings.HasPrefix(out.text, "/"):
		return "", &unsupportedError{field, "becomes an absolute path"}
	case slices.Contains(strings.Split(out.text, "/"), ".."):
		return "", &unsupportedError{field, "becomes a path that leaves the volume"}
	}
	return out.text, nil
}

// list returns the variables as declared, then those of services.
func (e *environment) list() []providers.EnvVar {
	var out []providers.EnvVar
	for _, name := range e.names {
		v := e.values[name]
		out = append(out, providers.EnvVar{Name: name, Value: v.text, Secret: v.secret, FieldPath: v.fieldPath})
	}
	for _, name := range sorted(e.links) {
		if _, declared := e.values[name]; !declared {
			out = append(out, providers.EnvVar{Name: name, Value: e.links[name]})
		}
	}
	return out
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// environment resolves a container's variables as the kubelet does: envFrom
// first, then env in order, each of which may refer to those before it.
func (r *resolver) environment(ctx context.Context, pod *corev1.Pod, field string, c *corev1.Container, links map[string]string, warn warner) (*environment, error) {
	e := &environment{values: map[string]value{}, links: links}
	for i, from := range c.EnvFrom {
		if err := r.envFrom(ctx, pod, c, fmt.Sprintf("%s.envFrom[%d]", field, i), from, e, warn); err != nil {
			return nil, err
		}
	}
	for i := range c.Env {
		at := fmt.Sprintf("%s.env[%d]", field, i)
		v := &c.Env[i]
		switch {
		case v.Value != "" || v.ValueFrom == nil:
			expanded, err := e.expand(v.Value, at+".value")
			if err != nil {
				return nil, err
			}
			e.set(v.Name, expanded)
		default:
			resolved, ok, err := r.valueFrom(ctx, pod, c, at+".valueFrom", v.ValueFrom, warn)
			if err != nil {
				return nil, err
			}
			if ok {
				e.set(v.Name, resolved)
			}
		}
	}
	return e, nil
}

// envFrom sets the variables that a ConfigMap or Secret has keys for. A key that
// cannot be the name of a variable in the clouds is skipped with an event, as
// kubelets did before they took any name.
func (r *resolver) envFrom(ctx context.Context, pod *corev1.Pod, c *corev1.Container, field string, from corev1.EnvFromSource, e *environment, warn warner) error {
	var skipped []string
	set := func(key string, v value) {
		if name := from.Prefix + key; burstable.PlainName(name) {
			e.set(name, v)
		} else {
			skipped = append(skipped, name)
		}
	}
	var object string
	switch {
	case from.ConfigMapRef != nil:
		ref := from.ConfigMapRef
		object = fmt.Sprintf("configmap %q", ref.Name)
		m, err := r.fetch.configMap(ctx, pod.Namespace, ref.Name)
		if err != nil {
			return absent(err, ptr.Deref(ref.Optional, false), configMapMissing, fmt.Sprintf("%s of %s of container %q not found", object, field, c.Name), warn)
		}
		for _, key := range sorted(m.Data) {
			set(key, value{text: m.Data[key]})
		}
	case from.SecretRef != nil:
		ref := from.SecretRef
		object = fmt.Sprintf("secret %q", ref.Name)
		s, err := r.fetch.secret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			return absent(err, ptr.Deref(ref.Optional, false), secretMissing, fmt.Sprintf("%s of %s of container %q not found", object, field, c.Name), warn)
		}
		for _, key := range sorted(s.Data) {
			set(key, value{text: string(s.Data[key]), secret: true})
		}
	default:
		return &unsupportedError{field, "has no source that is known"}
	}
	if len(skipped) > 0 {
		warn("InvalidEnvironmentVariableNames", fmt.Sprintf(
			"Container %q runs without %d variables of %s, the %s: %s. The cloud takes names of letters, digits and _ only, not beginning with a digit.",
			c.Name, len(skipped), field, object, cut(strings.Join(skipped, ", "), eventMessageLimit/2)))
	}
	return nil
}

// missingReason are the reasons of events about an object that does not exist, as
// virtual kubelets have always named them.
type missingReason struct{ mandatory, optional string }

var (
	configMapMissing    = missingReason{"MandatoryConfigMapNotFound", "OptionalConfigMapNotFound"}
	configMapKeyMissing = missingReason{"MandatoryConfigMapKeyNotFound", "OptionalConfigMapKeyNotFound"}
	secretMissing       = missingReason{"MandatorySecretNotFound", "OptionalSecretNotFound"}
	secretKeyMissing    = missingReason{"MandatorySecretKeyNotFound", "OptionalSecretKeyNotFound"}
)

// of is the error for what is missing, nil where that is optional and only told.
func (m missingReason) of(optional bool, what string, warn warner) error {
	if optional {
		warn(m.optional, what+"; it is optional, and the container runs without it")
		return nil
	}
	return &missingError{reason: m.mandatory, what: what}
}

// absent turns the error of a read into what it means for the pod: nothing if
// the object does not exist and is optional.
func absent(err error, optional bool, reason missingReason, what string, warn warner) error {
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("%s: %w", strings.TrimSuffix(what, " not found"), err)
	}
	return reason.of(optional, what, warn)
}

// valueFrom returns the value, and false where an optional source is absent.
func (r *resolver) valueFrom(ctx context.Context, pod *corev1.Pod, c *corev1.Container, field string, from *corev1.EnvVarSource, warn warner) (value, bool, error) {
	switch {
	case from.FieldRef != nil:
		switch path := from.FieldRef.FieldPath; path {
		case "status.podIP", "status.podIPs":
			return value{fieldPath: "status.podIP"}, true, nil
		case "spec.nodeName":
			return value{text: pod.Spec.NodeName}, true, nil
		case "spec.serviceAccountName":
			return value{text: pod.Spec.ServiceAccountName}, true, nil
		case "status.hostIP", "status.hostIPs":
			// As the pod's status has it, which a change of leaders leaves alone.
			return value{text: cmp.Or(pod.Status.HostIP, r.node.InternalIP)}, true, nil
		default:
			text, err := metadataField(pod, path)
			if err != nil {
				return value{}, false, &unsupportedError{field + ".fieldRef.fieldPath", err.Error()}
			}
			return value{text: text}, true, nil
		}
	case from.ResourceFieldRef != nil:
		text, err := r.resourceField(pod, c, from.ResourceFieldRef)
		if err != nil {
			return value{}, false, &unsupportedError{field + ".resourceFieldRef", err.Error()}
		}
		return value{text: text}, true, nil
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		optional := ptr.Deref(ref.Optional, false)
		m, err := r.fetch.configMap(ctx, pod.Namespace, ref.Name)
		if err != nil {
			return value{}, false, absent(err, optional, configMapMissing, fmt.Sprintf("configmap %q of container %q not found", ref.Name, c.Name), warn)
		}
		text, ok := m.Data[ref.Key]
		if !ok {
			return value{}, false, configMapKeyMissing.of(optional, fmt.Sprintf("key %q in configmap %q of container %q not found", ref.Key, ref.Name, c.Name), warn)
		}
		return value{text: text}, true, nil
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		optional := ptr.Deref(ref.Optional, false)
		s, err := r.fetch.secret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			return value{}, false, absent(err, optional, secretMissing, fmt.Sprintf("secret %q of container %q not found", ref.Name, c.Name), warn)
		}
		data, ok := s.Data[ref.Key]
		if !ok {
			return value{}, false, secretKeyMissing.of(optional, fmt.Sprintf("key %q in secret %q of container %q not found", ref.Key, ref.Name, c.Name), warn)
		}
		return value{text: string(data), secret: true}, true, nil
	}
	return value{}, false, &unsupportedError{field, "has no source that is known"}
}

// metadataField returns a field of the pod's metadata in the form of the
// downward API.
func metadataField(pod *corev1.Pod, path string) (string, error) {
	if name, rest, ok := strings.Cut(path, "['"); ok && strings.HasSuffix(rest, "']") {
		key := strings.TrimSuffix(rest, "']")
		switch name {
		case "metadata.annotations":
			return pod.Annotations[key], nil
		case "metadata.labels":
			return pod.Labels[key], nil
		}
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return quoted(pod.Labels), nil
	case "metadata.annotations":
		return quoted(pod.Annotations), nil
	}
	return "", fmt.Errorf("%q is not a field that is known before the pod runs", path)
}

// quoted writes a map as lines of key="value", sorted by key.
func quoted(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for _, key := range sorted(m) {
		lines = append(lines, key+"="+strconv.Quote(m[key]))
	}
	return strings.Join(lines, "\n")
}

// resourceField returns a request or limit of a container in units of the
// divisor, rounded up. The kubelet answers with what the node has where a limit is
// not set, which is what the container may use at most; here that is the size of
// the pod's group, where it is known.
func (r *resolver) resourceField(pod *corev1.Pod, c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	if ref.ContainerName != "" {
		c = nil
		for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			for i := range list {
				if list[i].Name == ref.ContainerName {
					c = &list[i]
				}
			}
		}
	}
	if c == nil {
		return "", fmt.Errorf("container %q does not exist", ref.ContainerName)
	}
	kind, name, _ := strings.Cut(ref.Resource, ".")
	resourceName := corev1.ResourceName(name)
	known := resourceName == corev1.ResourceCPU || resourceName == corev1.ResourceMemory ||
		resourceName == corev1.ResourceEphemeralStorage || strings.HasPrefix(name, corev1.ResourceHugePagesPrefix)
	var amount resource.Quantity
	switch {
	case !known || kind != "limits" && kind != "requests":
		return "", fmt.Errorf("resource %q is not known", ref.Resource)
	case kind == "requests":
		amount = c.Resources.Requests[resourceName]
	default:
		var ok bool
		if amount, ok = c.Resources.Limits[resourceName]; !ok || amount.IsZero() {
			amount = r.groupHas(pod, resourceName)
		}
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if resourceName == corev1.ResourceCPU {
		return ceil(amount.MilliValue(), divisor.MilliValue()), nil
	}
	return ceil(amount.Value(), divisor.Value()), nil
}

// groupHas is how much of a resource the pod's group has, of which it may use all.
func (r *resolver) groupHas(pod *corev1.Pod, name corev1.ResourceName) resource.Quantity {
	if r.caps.Sizes != nil {
		sold := burstable.SoldSize(&pod.Spec, &r.caps)
		switch {
		case name == corev1.ResourceCPU && sold.MilliCPU > 0:
			return *resource.NewMilliQuantity(sold.MilliCPU, resource.DecimalSI)
		case name == corev1.ResourceMemory && sold.MemoryBytes > 0:
			return *resource.NewQuantity(sold.MemoryBytes, resource.BinarySI)
		}
	}
	return r.node.Capacity[name]
}

func ceil(amount, divisor int64) string {
	return strconv.FormatInt(int64(math.Ceil(float64(amount)/float64(divisor))), 10)
}
