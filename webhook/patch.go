package webhook

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// errNotMerge is returned where a change is more than an addition.
var errNotMerge = errors.New("more than an addition")

// ownAnnotations are written by Autoburst alone. They alone may be replaced or
// removed: a pod made from a copy of another pod's manifest brings the decision
// for that other pod along.
var ownAnnotations = map[string]bool{
	annotationPath + escape(v1alpha1.PolicyAnnotation):      true,
	annotationPath + escape(v1alpha1.DecidedModeAnnotation): true,
	annotationPath + escape(v1alpha1.ReasonAnnotation):      true,
	annotationPath + escape(v1alpha1.GrantAnnotation):       true,
	annotationPath + escape(v1alpha1.ShareAnnotation):       true,
}

const annotationPath = "/metadata/annotations/"

// additions returns the JSON patch that does to an object what was done to its
// typed form between before and after.
//
// The two typed forms are compared with each other and never with the object as
// it was sent, so that fields that this program's Kubernetes types do not know
// survive. The patch consists of additions: a member where there was none, or an
// element at the end of a list. Every other change is an error, except to
// ownAnnotations.
//
// The patch can be applied to the object as it was sent, if that has every member
// which before writes out although it is empty: a member that before leaves out is
// missing, null or empty there, and one with content is there too. The API server
// denies a request whose patch cannot be applied.
func additions(before, after any) ([]jsonpatch.Operation, error) {
	b, err := treeOf(before)
	if err != nil {
		return nil, err
	}
	a, err := treeOf(after)
	if err != nil {
		return nil, err
	}
	var d diff
	if err := d.values("", b, a); err != nil {
		return nil, err
	}
	return d.operations, nil
}

// treeOf is the object as JSON, decoded again.
func treeOf(object any) (any, error) {
	b, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	return v, nil
}

type diff struct{ operations []jsonpatch.Operation }

func (d *diff) add(path string, value any) {
	d.operations = append(d.operations, jsonpatch.NewOperation("add", path, value))
}

// values compares before and after at path.
func (d *diff) values(path string, before, after any) error {
	if reflect.DeepEqual(before, after) {
		return nil
	}
	switch a := after.(type) {
	case map[string]any:
		if b, ok := before.(map[string]any); ok {
			return d.members(path, b, a)
		}
	case []any:
		if b, ok := before.([]any); ok && len(a) >= len(b) {
			return d.elements(path, b, a)
		}
	default:
		if ownAnnotations[path] {
			d.operations = append(d.operations, jsonpatch.NewOperation("replace", path, after))
			return nil
		}
	}
	return fmt.Errorf("%s: %w", path, errNotMerge)
}

func (d *diff) members(path string, before, after map[string]any) error {
	for _, k := range slices.Sorted(maps.Keys(after)) {
		p := path + "/" + escape(k)
		if b := before[k]; b == nil {
			d.add(p, after[k])
		} else if err := d.values(p, b, after[k]); err != nil {
			return err
		}
	}
	for _, k := range slices.Sorted(maps.Keys(before)) {
		if _, kept := after[k]; kept {
			continue
		}
		p := path + "/" + escape(k)
		if !ownAnnotations[p] {
			return fmt.Errorf("%s: %w", p, errNotMerge)
		}
		d.operations = append(d.operations, jsonpatch.NewOperation("remove", p, nil))
	}
	return nil
}

func (d *diff) elements(path string, before, after []any) error {
	for i := range before {
		if err := d.values(fmt.Sprintf("%s/%d", path, i), before[i], after[i]); err != nil {
			return err
		}
	}
	for _, v := range after[len(before):] {
		d.add(path+"/-", v)
	}
	return nil
}

// escape makes one token of a JSON pointer (RFC 6901).
func escape(token string) string { return escapes.Replace(token) }

var escapes = strings.NewReplacer("~", "~0", "/", "~1")
