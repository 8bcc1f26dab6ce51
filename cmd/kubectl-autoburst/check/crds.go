package check

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// known are the CustomResourceDefinitions as this program knows them, by file.
var known = func() []*apiextensionsv1.CustomResourceDefinition {
	const dir = "crds"
	entries, err := v1alpha1.CRDs.ReadDir(dir)
	if err != nil { // they are compiled in: cannot fail, here and below
		panic(err)
	}
	var all []*apiextensionsv1.CustomResourceDefinition
	for _, e := range entries {
		b, err := v1alpha1.CRDs.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			panic(err)
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(b, crd); err != nil {
			panic(err)
		}
		all = append(all, crd)
	}
	return all
}()

func (s *session) crd(ctx context.Context, name string) (*apiextensionsv1.CustomResourceDefinition, error) {
	return s.Extensions.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, name, metav1.GetOptions{})
}

func crdsInstalled(ctx context.Context, s *session) (finding, error) {
	var problems []string
	for _, want := range known {
		crd, err := s.crd(ctx, want.Name)
		switch {
		case apierrors.IsNotFound(err):
			problems = append(problems, "CustomResourceDefinition "+want.Name+" is missing")
		case apierrors.IsForbidden(err): // what follows needs the kinds, not the right to read their definitions
			return warning("not checked: %v", err), nil
		case err != nil:
			return finding{}, err
		default:
			for _, c := range crd.Status.Conditions {
				if c.Type == apiextensionsv1.Established && c.Status != apiextensionsv1.ConditionTrue || c.Type == apiextensionsv1.NamesAccepted && c.Status != apiextensionsv1.ConditionTrue {
					problems = append(problems, fmt.Sprintf("CustomResourceDefinition %s is not in force: %s", want.Name, c.Message))
				}
			}
		}
	}
	return of(Error, problems, "CustomResourceDefinitions are missing or not in force", ok("the %d CustomResourceDefinitions are installed", len(known))), nil
}

func crdsCurrent(ctx context.Context, s *session) (finding, error) {
	var problems []string
	for _, want := range known {
		crd, err := s.crd(ctx, want.Name)
		if err != nil {
			return finding{}, err
		}
		if text := differ(want, crd); text != "" {
			problems = append(problems, "CustomResourceDefinition "+want.Name+" is of another version than this program: "+text)
		}
	}
	return of(Warning, problems, "CustomResourceDefinitions are of another version than this program", ok("the CustomResourceDefinitions are those of this program's version")), nil
}

// differ names the fields that only one of two definitions has, or says that other
// rules differ; empty where they mean the same.
func differ(want, have *apiextensionsv1.CustomResourceDefinition) string {
	wanted, there := schemaOf(want), schemaOf(have)
	if there == nil {
		return "it has no version " + v1alpha1.GroupVersion.Version
	}
	a, b := map[string]bool{}, map[string]bool{}
	fields("", wanted, a)
	fields("", there, b)
	only := func(x, y map[string]bool) []string {
		return slices.Sorted(func(yield func(string) bool) {
			for f := range maps.Keys(x) {
				if !y[f] && !yield(f) {
					return
				}
			}
		})
	}
	lacks, more := only(a, b), only(b, a)
	switch {
	case len(lacks) > 0:
		return "it lacks " + some(lacks)
	case len(more) > 0:
		return "it has " + some(more) + " as well"
	case canonical(wanted) != canonical(there):
		return "its rules differ"
	}
	return ""
}

func schemaOf(crd *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.JSONSchemaProps {
	for _, v := range crd.Spec.Versions {
		if v.Name == v1alpha1.GroupVersion.Version && v.Schema != nil {
			return v.Schema.OpenAPIV3Schema
		}
	}
	return nil
}

// fields collects the paths of all fields of a schema.
func fields(at string, s *apiextensionsv1.JSONSchemaProps, into map[string]bool) {
	if s == nil {
		return
	}
	for name := range s.Properties {
		p := s.Properties[name]
		into[at+"."+name] = true
		fields(at+"."+name, &p, into)
	}
	if s.Items != nil {
		fields(at+"[]", s.Items.Schema, into)
	}
	if s.AdditionalProperties != nil {
		fields(at+"{}", s.AdditionalProperties.Schema, into)
	}
}

// canonical is a schema without what is for people only.
func canonical(s *apiextensionsv1.JSONSchemaProps) string {
	s = s.DeepCopy()
	strip(s)
	b, err := json.Marshal(s)
	if err != nil { // it came as JSON
		panic(err)
	}
	return string(b)
}

func strip(s *apiextensionsv1.JSONSchemaProps) {
	if s == nil {
		return
	}
	s.Description = ""
	for name := range s.Properties {
		p := s.Properties[name]
		strip(&p)
		s.Properties[name] = p
	}
	if s.Items != nil {
		strip(s.Items.Schema)
	}
	if s.AdditionalProperties != nil {
		strip(s.AdditionalProperties.Schema)
	}
}

// some are the first of a list, and how many more there are.
func some(list []string) string {
	const most = 3
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}
