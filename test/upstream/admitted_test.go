package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/klog/v2"
	api "k8s.io/kubernetes/pkg/apis/core"
	v1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/capabilities"
	podregistry "k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/utils/ptr"
)

const namespace = "shop"

func TestMain(m *testing.M) {
	watch.DefaultChanSize = 10_000 // a fake watch panics when it is not read as fast as it is written
	capabilities.Setup(true, 0)    // --allow-privileged
	klog.SetLogger(logr.Discard()) // the kubelet's code tells of each object that is missing
	os.Exit(m.Run())
}

// admit is what the API server makes of a new pod: its defaults are set, the
// ServiceAccount's token volume is not added, and what it refuses is an error.
func admit(pod *corev1.Pod) (*corev1.Pod, error) {
	pod = pod.DeepCopy()
	pod.Namespace = namespace
	sum := sha256.Sum256([]byte(pod.Name))
	pod.UID = types.UID(hex.EncodeToString(sum[:16]))
	pod.CreationTimestamp = metav1.Now().Rfc3339Copy()
	v1.SetObjectDefaults_Pod(pod)
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = "default"
	}
	pod.Spec.Priority = ptr.To[int32](0)
	var internal api.Pod
	if err := v1.Convert_v1_Pod_To_core_Pod(pod, &internal, nil); err != nil {
		return nil, err
	}
	ctx := genericapirequest.WithNamespace(genericapirequest.NewContext(), namespace)
	podregistry.Strategy.PrepareForCreate(ctx, &internal)
	if errs := podregistry.Strategy.Validate(ctx, &internal); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	var admitted corev1.Pod
	if err := v1.Convert_core_Pod_To_v1_Pod(&internal, &admitted, nil); err != nil {
		return nil, err
	}
	return &admitted, nil
}

// mustAdmit is admit for pods that the API server takes.
func mustAdmit(t testing.TB, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	admitted, err := admit(pod)
	if err != nil {
		t.Fatalf("the API server does not admit pod %s: %v", pod.Name, err)
	}
	return admitted
}

func onePod(name string, edits ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "nginx"}}},
	}
	for _, edit := range edits {
		edit(pod)
	}
	return pod
}
