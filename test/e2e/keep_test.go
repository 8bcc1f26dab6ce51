package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/test/playground"
)

// keepLocal holds for each kind of workload on a full cluster, exactly: what may
// burst does, and the rest waits for local room.
func TestKeepLocal(t *testing.T) {
	fill(t)
	tests := map[string]struct {
		keep   string
		create func(t *testing.T, namespace string)
		// burst and wait are how many pods do.
		burst, wait int
		// told is what an event on a waiting pod says.
		told string
	}{
		"Deployment": {keep: "2", burst: 6, wait: 2, told: "Deployment %s/kept keeps 2 of its 8 replicas local; 6 have burst.",
			create: applied(deployment("kept", 8, podSpec{}))},
		"Deployment, a percentage, rounded up": {keep: `"30%"`, burst: 5, wait: 3, told: "Deployment %s/kept keeps 3 of its 8 replicas local; 5 have burst.",
			create: applied(deployment("kept", 8, podSpec{}))},
		"ReplicaSet": {keep: "1", burst: 3, wait: 1, told: "ReplicaSet %s/kept keeps 1 of its 4 replicas local; 3 have burst.",
			create: applied(strings.Replace(deployment("kept", 4, podSpec{}), "kind: Deployment", "kind: ReplicaSet", 1))},
		"Job": {keep: "2", burst: 3, wait: 2, told: "Job %s/kept keeps 2 of its ",
			create: applied(job("kept", 5, podSpec{}))},
		"another owner": {keep: "2", burst: 2, wait: 2, told: "ConfigMap %s/kept keeps ",
			create: func(t *testing.T, namespace string) { owned(t, namespace, 4) }},
		"bare pods, each a workload of one": {keep: "1", burst: 0, wait: 2, told: "keeps 1 of its 1 replicas local; 0 have burst.",
			create: applied(barePod("kept-1", podSpec{}) + barePod("kept-2", podSpec{}))},
		"more than there are": {keep: "9", burst: 0, wait: 3, told: "Deployment %s/kept keeps 3 of its 3 replicas local; 0 have burst.",
			create: applied(deployment("kept", 3, podSpec{}))},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, "kept", nil)
			policy(t, ns, "keep", "{keepLocal: "+test.keep+"}")
			judge := judgeBursts(t, ns)
			test.create(t, ns)
			mustEventually(t, time.Minute, fmt.Sprintf("%d pods burst and %d wait, each told why", test.burst, test.wait), func(ctx context.Context) (bool, error) {
				burst, waiting, err := placed(ctx, ns)
				if err == nil && (burst != test.burst || waiting != test.wait) {
					err = fmt.Errorf("%d burst, %d wait", burst, waiting)
				}
				if err != nil {
					return false, err
				}
				want := test.told
				if strings.Contains(want, "%s") {
					want = fmt.Sprintf(want, ns)
				}
				return toldOnPod(ctx, ns, want)
			})
			if test.wait > 0 {
				explained := explainWaiting(t, ns)
				if d := explained.Late; d == nil || d.Decision.Reason != "KeptLocal" || !strings.Contains(d.Decision.Message, " replicas local; ") {
					t.Errorf("explain says %+v of a pod that waits, late %+v", explained.Decision, d)
				}
			}
			if most := judge(); most > test.burst {
				t.Errorf("%d pods were on virtual nodes at once, want %d at most", most, test.burst)
			}
		})
	}
}

// A rolling update of a Deployment that bursts goes through, never has more pods
// of the new revision on virtual nodes than keepLocal leaves, and ends with the
// kept replicas on local nodes.
func TestKeepLocalRollingUpdate(t *testing.T) {
	const replicas, keep = 8, 2
	fill(t)
	t.Cleanup(func() { removeNode(t, "spare") }) // once its pods are gone
	ns := namespace(t, "rolling", nil)
	policy(t, ns, "keep", fmt.Sprintf("{keepLocal: %d}", keep))
	kubectl(t, deployment("rolling", replicas, podSpec{}), "--namespace="+ns, "apply", "-f", "-")
	mustEventually(t, time.Minute, "six burst and two wait", func(ctx context.Context) (bool, error) {
		burst, waiting, err := placed(ctx, ns)
		return err == nil && burst == replicas-keep && waiting == keep, err
	})

	// Room for those that are kept, and for nothing else.
	if err := system.AddNode(t.Context(), "spare", "1", "8Gi", 10); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "", "--namespace="+ns, "rollout", "status", "deployment/rolling", "--timeout=60s")
	judge := judgeBursts(t, ns)
	kubectl(t, deployment("rolling", replicas, podSpec{image: "nginx:1.30"}), "--namespace="+ns, "apply", "-f", "-")
	kubectl(t, "", "--namespace="+ns, "rollout", "status", "deployment/rolling", "--timeout=120s")
	mustEventually(t, time.Minute, "the old pods are gone", func(ctx context.Context) (bool, error) {
		list, err := client().CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		return err == nil && len(list.Items) == replicas, err
	})
	if burst, waiting, err := placed(t.Context(), ns); err != nil || burst != replicas-keep || waiting != 0 {
		t.Errorf("%d pods are on virtual nodes and %d wait (%v), want %d and 0", burst, waiting, err, replicas-keep)
	}
	if most := judge(); most > replicas-keep {
		t.Errorf("%d pods of one revision were on virtual nodes at once, want %d at most", most, replicas-keep)
	}
}

// applied creates the objects of a manifest.
func applied(manifest string) func(t *testing.T, namespace string) {
	return func(t *testing.T, namespace string) {
		kubectl(t, manifest, "--namespace="+namespace, "apply", "-f", "-")
	}
}

// owned makes pods of an owner that is none of Kubernetes' controllers.
func owned(t *testing.T, namespace string, count int) {
	t.Helper()
	owner, err := client().CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name:            fmt.Sprintf("kept-%d", i),
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID, Controller: ptr.To(true)}},
			},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "app", Image: "nginx:1.29",
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}},
			}}},
		}
		if _, err := client().CoreV1().Pods(namespace).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// placed counts the pods on virtual nodes and those without a node.
func placed(ctx context.Context, namespace string) (burst, waiting int, err error) {
	list, err := client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, 0, err
	}
	for _, p := range list.Items {
		switch p.Spec.NodeName {
		case eciNode, aciNode:
			burst++
		case "":
			waiting++
		}
	}
	return burst, waiting, nil
}

// toldOnPod is true when an event on a pod of the namespace contains the text.
func toldOnPod(ctx context.Context, namespace, text string) (bool, error) {
	list, err := client().EventsV1().Events(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	for _, e := range list.Items {
		if strings.Contains(e.Note, text) {
			return true, nil
		}
	}
	return false, fmt.Errorf("no event says %q", text)
}

// explainWaiting asks the command line about a pod without a node.
func explainWaiting(t *testing.T, namespace string) explanation {
	t.Helper()
	for _, p := range pods(t, namespace) {
		if p.Spec.NodeName == "" {
			return explain(t, system.Kubeconfig, "", "--namespace="+namespace, "pod/"+p.Name)
		}
	}
	t.Fatal("no pod waits")
	return explanation{}
}

// judgeBursts watches a namespace by the API server alone. The returned function
// ends that and tells how many pods of one owner, neither finished nor being
// deleted, were on virtual nodes at once.
func judgeBursts(t *testing.T, namespace string) func() (most int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	pods, events, err := playground.WatchPods(ctx, client(), namespace)
	if err != nil {
		t.Fatal(err)
	}
	on := map[string]map[string]bool{} // owner to names
	most := 0
	see := func(p *corev1.Pod, deleted bool) {
		owner := p.Name
		if o := metav1.GetControllerOf(p); o != nil {
			owner = string(o.UID)
		}
		if on[owner] == nil {
			on[owner] = map[string]bool{}
		}
		virtual := p.Spec.NodeName == eciNode || p.Spec.NodeName == aciNode
		if virtual && !deleted && p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			on[owner][p.Name] = true
			most = max(most, len(on[owner]))
		} else {
			delete(on[owner], p.Name)
		}
	}
	for _, p := range pods {
		see(&p, false)
	}
	done := make(chan error, 1)
	go func() {
		for e := range events {
			if e.Err != nil {
				done <- e.Err
				return
			}
			see(e.Pod, e.Type == "DELETED")
		}
		done <- nil
	}()
	t.Cleanup(cancel)
	return func() int {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Errorf("the judge saw nothing more: %v", err)
		}
		return most
	}
}

// removeNode removes a local node, if it is there.
func removeNode(t *testing.T, name string) {
	t.Helper()
	if err := client().CoreV1().Nodes().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Error(err)
	}
}
