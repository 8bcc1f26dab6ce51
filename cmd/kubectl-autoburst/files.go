package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// types are the kinds that this program knows: Kubernetes' own and the
// policies.
var types = func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil { // the types are compiled in: cannot fail
			panic(err)
		}
	}
	return s
}()

// decoder refuses fields that do not exist, so that a misspelt one is not taken for
// one that is absent.
var decoder = serializer.NewCodecFactory(types, serializer.EnableStrict).UniversalDeserializer()

// document is one object of a file.
type document struct {
	file string
	raw  []byte
	kind schema.GroupVersionKind
	meta metav1.ObjectMeta
}

func (d document) key() string {
	return d.kind.Kind + "/" + d.meta.Namespace + "/" + d.meta.Name
}

// readDocuments reads the YAML or JSON files of a folder and of those below it,
// or one file; "-" is the input. Lists are taken apart.
func readDocuments(path string, in io.Reader) ([]document, error) {
	if path == "-" {
		return splitDocuments("the input", in)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, usagef("reading %s: %w", path, cause(err))
	}
	files := []string{path}
	if info.IsDir() {
		files = nil
		err := filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			switch filepath.Ext(p) {
			case ".yaml", ".yml", ".json":
				if !e.IsDir() {
					files = append(files, p)
				}
			}
			return nil
		})
		if err != nil {
			return nil, usagef("reading %s: %w", path, err)
		}
		if len(files) == 0 {
			return nil, usagef("%s has no .yaml, .yml or .json file", path)
		}
	}
	var out []document
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, usagef("reading %s: %w", name, cause(err))
		}
		documents, err := splitDocuments(name, f)
		f.Close()
		if err != nil {
			return nil, err
		}
		out = append(out, documents...)
	}
	return out, nil
}

// cause is what is wrong with a path, without the path.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func splitDocuments(file string, in io.Reader) ([]document, error) {
	var out []document
	for reader := utilyaml.NewYAMLReader(bufio.NewReader(in)); ; {
		raw, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, usagef("reading %s: %w", file, err)
		}
		documents, err := parseDocument(file, raw)
		if err != nil {
			return nil, err
		}
		out = append(out, documents...)
	}
}

// parseDocument finds out what a document is; a list becomes its items.
func parseDocument(file string, raw []byte) ([]document, error) {
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta      `json:"metadata"`
		Items           []runtime.RawExtension `json:"items"`
		Want            any                    `json:"want"`
	}
	j, err := yaml.YAMLToJSON(raw)
	if err != nil {
		return nil, usagef("reading %s: %w", file, err)
	}
	if bytes.Equal(bytes.TrimSpace(j), []byte("null")) { // comments only
		return nil, nil
	}
	if err := yaml.Unmarshal(j, &head); err != nil {
		return nil, usagef("reading %s: %w", file, err)
	}
	if strings.HasSuffix(head.Kind, "List") && head.Items != nil {
		var out []document
		for _, item := range head.Items {
			documents, err := parseDocument(file, item.Raw)
			if err != nil {
				return nil, err
			}
			out = append(out, documents...)
		}
		return out, nil
	}
	if head.Kind == "" && head.Want == nil {
		return nil, usagef("reading %s: a document has no kind", file)
	}
	return []document{{file: file, raw: j, kind: head.GroupVersionKind(), meta: head.Metadata}}, nil
}

// files is what was read from files.
type files struct {
	policy.Objects
	// namespace is that of objects that name none.
	namespace string
	release   release
	// subjects are the pods and workloads that a decision can be asked for.
	subjects []subject
}

// add takes in a document. Kinds that no rule looks at are passed over, so that
// whole folders of manifests can be read.
func (f *files) add(d document) error {
	if !types.Recognizes(d.kind) {
		if d.kind.Group == v1alpha1.GroupName {
			return usagef("reading %s: %s of %s is not known to this version (%s)", d.file, d.kind.Kind, d.kind.GroupVersion(), version)
		}
		return nil
	}
	obj, _, err := decoder.Decode(d.raw, nil, nil)
	if err != nil {
		return usagef("reading %s: %s %s: %w", d.file, d.kind.Kind, d.meta.Name, err)
	}
	if o, ok := obj.(metav1.Object); ok && o.GetNamespace() == "" {
		o.SetNamespace(f.namespace) // no matter for kinds that have none
	}
	switch o := obj.(type) {
	case *corev1.Namespace:
		f.Namespaces = append(f.Namespaces, o)
	case *corev1.Node:
		f.Nodes = append(f.Nodes, o)
	case *corev1.ConfigMap:
		if o.Namespace == f.release.namespace && o.Name == f.release.switchName {
			f.Switch = o
		}
	case *v1alpha1.BurstPolicy:
		f.Policies = append(f.Policies, o)
	case *v1alpha1.ClusterBurstPolicy:
		f.ClusterPolicies = append(f.ClusterPolicies, o)
	case *v1alpha1.BurstAdmission:
		f.AdmissionByPolicy = true // there is none where a webhook admits pods
	case *corev1.Pod:
		if o.Spec.NodeName != "" {
			f.Pods = append(f.Pods, o)
			return nil
		}
		f.subjects = append(f.subjects, subject{name: "pod/" + o.Name, pod: o})
	default:
		f.addReplicas(obj)
		if s, ok := workload(obj); ok {
			f.subjects = append(f.subjects, s)
		}
	}
	return nil
}

// subject is a pod that a decision is asked for, and where it comes from.
type subject struct {
	// name is KIND/NAME of what was asked about.
	name string
	pod  *corev1.Pod
}

// workload is the pod that a workload makes.
func workload(obj runtime.Object) (subject, bool) {
	switch o := obj.(type) {
	case *appsv1.Deployment:
		return fromTemplate("deploy", "ReplicaSet", o, &o.Spec.Template), true
	case *appsv1.ReplicaSet:
		return fromTemplate("rs", "ReplicaSet", o, &o.Spec.Template), true
	case *appsv1.StatefulSet:
		s := fromTemplate("sts", "StatefulSet", o, &o.Spec.Template)
		// What the StatefulSet controller sets in every pod.
		s.pod.Spec.Hostname, s.pod.Spec.Subdomain = s.pod.Name+"-0", o.Spec.ServiceName
		for i := range o.Spec.VolumeClaimTemplates {
			v := corev1.Volume{Name: o.Spec.VolumeClaimTemplates[i].Name}
			v.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: v.Name + "-" + s.pod.Spec.Hostname}
			s.pod.Spec.Volumes = append(s.pod.Spec.Volumes, v)
		}
		return s, true
	case *appsv1.DaemonSet:
		return fromTemplate("ds", "DaemonSet", o, &o.Spec.Template), true
	case *batchv1.Job:
		return fromTemplate("job", "Job", o, &o.Spec.Template), true
	case *batchv1.CronJob:
		return fromTemplate("cronjob", "Job", o, &o.Spec.JobTemplate.Spec.Template), true
	}
	return subject{}, false
}

func fromTemplate(short, owner string, o metav1.Object, t *corev1.PodTemplateSpec) subject {
	t = t.DeepCopy()
	p := &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
	p.Namespace, p.Name = o.GetNamespace(), o.GetName()
	group := appsv1.SchemeGroupVersion
	if owner == "Job" {
		group = batchv1.SchemeGroupVersion
	}
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: group.String(), Kind: owner, Name: o.GetName(), UID: o.GetUID(), Controller: ptr.To(true)}}
	return subject{name: short + "/" + o.GetName(), pod: p}
}

// assumeNamespace adds the namespace without labels and annotations of its own,
// where the files have none of that name, and tells so.
func (f *files) assumeNamespace(name string) bool {
	if slices.ContainsFunc(f.Namespaces, func(n *corev1.Namespace) bool { return n.Name == name }) {
		return false
	}
	f.Namespaces = append(f.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{corev1.LabelMetadataName: name},
	}})
	return true
}

// names of the subjects, for a message.
func (f *files) names() string {
	if len(f.subjects) == 0 {
		return "none"
	}
	out := make([]string, len(f.subjects))
	for i, s := range f.subjects {
		out[i] = s.name
	}
	return strings.Join(out, ", ")
}
