package cluster_test

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/autoburst/autoburst/test/cluster"
)

// A client behind a tap is itself to the API server, and meets what the test
// arranges: refusals, lost requests and answers, watches that are cut and held,
// an API server that is away; and one that is really killed and comes back.
func TestTap(t *testing.T) {
	ctx := t.Context()
	c, err := cluster.Start(ctx, cluster.Options{Dir: t.TempDir(), Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Stop() }()
	tap, err := c.NewTap()
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	direct, err := c.ServiceAccountKubeconfig(ctx, "default", "default")
	if err != nil {
		t.Fatal(err)
	}
	through, err := tap.Kubeconfig(direct)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", through)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kubectl(ctx, "", "create", "clusterrolebinding", "edit-all", "--clusterrole=edit", "--serviceaccount=default:default"); err != nil {
		t.Fatal(err)
	}
	maps := kubernetes.NewForConfigOrDie(config).CoreV1().ConfigMaps("default")
	put := func(name string) error {
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := maps.Create(call, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	}
	there := func(name string) bool {
		_, err := c.Client().CoreV1().ConfigMaps("default").Get(ctx, name, metav1.GetOptions{})
		return err == nil
	}
	creates := func(r cluster.Request) bool { return r.Is("create", "configmaps") }

	if err := put("plain"); err != nil {
		t.Fatal(err)
	}
	if _, err := kubernetes.NewForConfigOrDie(config).CoreV1().Nodes().List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("listing nodes: %v, want it forbidden to the ServiceAccount", err)
	}

	var order []string
	tap.Disturb(cluster.Disturbance{
		Match: creates,
		Before: func(cluster.Request) {
			order = append(order, "before", map[bool]string{true: "there"}[there("hooked")])
		},
		After: func(r cluster.Request) {
			order = append(order, r.String(), map[bool]string{true: "there"}[there("hooked")])
		},
	})
	if err := put("hooked"); err != nil {
		t.Error(err)
	}
	if len(order) != 4 || order[1] != "" || order[2] != "create configmaps default/" || order[3] != "there" {
		t.Errorf("hooks were called as %q", order)
	}

	tap.Disturb(cluster.Disturbance{Match: creates, Status: 429, Reason: metav1.StatusReasonTooManyRequests, Calls: -1})
	if err := put("refused"); !apierrors.IsTooManyRequests(err) || there("refused") {
		t.Errorf("refused: %v, there: %t", err, there("refused"))
	}
	tap.Restore()
	tap.Disturb(cluster.Disturbance{Match: creates, Cut: true, Calls: -1})
	if err := put("lost"); err == nil || there("lost") {
		t.Errorf("cut before the effect: %v, there: %t", err, there("lost"))
	}
	tap.Restore()
	tap.Disturb(cluster.Disturbance{Match: creates, Cut: true, AfterEffect: true, Calls: -1})
	if err := put("made"); err == nil || !there("made") {
		t.Errorf("cut after the effect: %v, there: %t", err, there("made"))
	}
	tap.Restore()

	w, err := maps.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-w.ResultChan()
	tap.HoldWatches(nil, true)
	for e := range w.ResultChan() { // what had arrived; the cut may show as an error
		if e.Type == watch.Error {
			break
		}
	}
	waited := make(chan error, 1)
	go func() {
		_, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: "1"})
		waited <- err
	}()
	if err := put("meanwhile"); err != nil {
		t.Errorf("while watches are held: %v", err)
	}
	select {
	case err := <-waited:
		t.Errorf("a held watch was answered: %v", err)
	default:
	}
	tap.Release()
	if err := <-waited; !apierrors.IsResourceExpired(err) {
		t.Errorf("the first watch after an expired gap: %v, want Expired", err)
	}
	if n := tap.Count(func(r cluster.Request) bool { return r.Is("watch", "configmaps") }); n != 2 {
		t.Errorf("%d watches on record, want 2", n)
	}

	if err := tap.Down(); err != nil {
		t.Error(err)
	}
	if err := put("away"); err == nil {
		t.Error("a tap that is down answers")
	}
	if err := tap.Up(); err != nil {
		t.Fatal(err)
	}
	if err := put("back"); err != nil {
		t.Error(err)
	}

	if err := c.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Client().CoreV1().ConfigMaps("default").Patch(ctx, "back", types.MergePatchType, []byte(`{}`), metav1.PatchOptions{}); err == nil {
		t.Error("a stopped API server answers")
	}
	if err := c.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	if !there("back") || c.Err() != nil {
		t.Errorf("after the restart: object there: %t, programs: %v", there("back"), c.Err())
	}
}
