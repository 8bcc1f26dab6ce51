package admission

import (
	"context"
	"encoding/json"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// apiServer evaluates the expressions with the API server's own code and limits
// of cost.
type apiServer struct {
	compiler *plugincel.CompositedCompiler
	matcher  matchconditions.Matcher
	patcher  patch.Patcher
}

func newAPIServer(t testing.TB) *apiServer {
	t.Helper()
	spec, err := Spec()
	if err != nil {
		t.Fatal(err)
	}
	compiler, err := plugincel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		t.Fatal(err)
	}
	options := plugincel.OptionalVariableDeclarations{HasParams: true, HasAuthorizer: true}
	for _, v := range spec.Variables {
		// As mutating.compilePolicy does for each variable.
		if r := compiler.CompileAndStoreVariable(&validating.Variable{Name: v.Name, Expression: v.Expression}, options, environment.NewExpressions); r.Error != nil {
			t.Fatalf("variable %s: %v", v.Name, r.Error)
		}
	}
	s := &apiServer{compiler: compiler}
	conditions := make([]plugincel.ExpressionAccessor, len(spec.MatchConditions))
	for i := range spec.MatchConditions {
		conditions[i] = (*matchconditions.MatchCondition)(&spec.MatchConditions[i])
	}
	s.matcher = matchconditions.NewMatcher(compiler.CompileCondition(conditions, options, environment.NewExpressions),
		ptr.To(admissionregistrationv1.Ignore), "policy", "mutate", "autoburst")
	options.HasPatchTypes = true
	if len(spec.Mutations) != 1 {
		t.Fatalf("%d mutations, want one, as each sees the pod that the one before left", len(spec.Mutations))
	}
	mutation := compiler.CompileMutatingEvaluator(&patch.JSONPatchCondition{Expression: spec.Mutations[0].JSONPatch.Expression}, options, environment.NewExpressions)
	if errs := mutation.CompilationErrors(); len(errs) > 0 {
		t.Fatalf("mutation: %v", errs)
	}
	s.patcher = patch.NewJSONPatcher(mutation)
	return s
}

// admit is what becomes of a pod that is created in the namespace.
func (s *apiServer) admit(ctx context.Context, params v1alpha1.BurstAdmissionSpec, namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
	object, err := asStored(&v1alpha1.BurstAdmission{ObjectMeta: metav1.ObjectMeta{Name: "autoburst"}, Spec: params})
	if err != nil {
		return nil, err
	}
	return s.admitBy(ctx, object, namespace, pod)
}

func (s *apiServer) admitBy(ctx context.Context, object runtime.Object, namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
	ctx = s.compiler.CreateContext(ctx)
	kind, resource := corev1.SchemeGroupVersion.WithKind("Pod"), corev1.SchemeGroupVersion.WithResource("pods")
	attributes := &admission.VersionedAttributes{
		Attributes: admission.NewAttributesRecord(pod, nil, kind, namespace, pod.Name, resource, "", admission.Create,
			&metav1.CreateOptions{}, false, nil),
		VersionedKind: kind, VersionedObject: pod.DeepCopy(),
	}
	if m := s.matcher.Match(ctx, attributes, object, nil); m.Error != nil || !m.Matches {
		return pod, m.Error
	}
	patched, err := s.patcher.Patch(ctx, patch.Request{
		MatchedResource: resource, VersionedAttributes: attributes, ObjectInterfaces: admission.NewObjectInterfacesFromScheme(scheme.Scheme),
		OptionalVariables: plugincel.OptionalVariableBindings{VersionedParams: object},
		Namespace:         &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
	}, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return nil, err
	}
	return patched.(*corev1.Pod), nil
}

// asStored is an object as the API server hands it to expressions.
func asStored(obj any) (runtime.Object, error) {
	text, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	out := &unstructured.Unstructured{}
	if err := out.UnmarshalJSON([]byte(`{"apiVersion":"autoburst.io/v1alpha1","kind":"BurstAdmission",` + string(text[1:]))); err != nil {
		return nil, err
	}
	return out, nil
}
