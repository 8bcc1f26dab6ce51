package vnode

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/autoburst/autoburst/providers"
)

// replacing makes an owner that replaces each of its pods that fails at once, as a
// ReplicaSet does, and counts its pods.
func replacing(b *bed, edit ...func(*corev1.Pod)) (made func() int) {
	names := make(chan string, 10_000)
	n := 0
	next := func() {
		n++
		names <- fmt.Sprintf("web-%d", n)
	}
	b.client.PrependReactor("patch", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if p, ok := a.(clienttesting.PatchAction); ok && strings.Contains(string(p.GetPatch()), `"phase":"Failed"`) {
			next()
		}
		return false, nil, nil
	})
	next()
	ended := b.Context().Done()
	go func() {
		for {
			select {
			case name := <-names:
				pod := testPod(name, append([]func(*corev1.Pod){ownedBy("ReplicaSet"), granted}, edit...)...)
				_, _ = b.client.CoreV1().Pods("default").Create(b.Context(), pod, metav1.CreateOptions{})
			case <-ended:
				return
			}
		}
	}()
	return func() int {
		list, err := b.client.CoreV1().Pods("default").List(b.Context(), metav1.ListOptions{})
		if err != nil {
			b.Fatal(err)
		}
		return len(list.Items)
	}
}

// An owner whose pods the cloud can never run, and that come straight back, makes
// them at a growing pause.
func TestReplacementsThatComeBackArePaced(t *testing.T) {
	for name, test := range map[string]struct {
		edit   func(*corev1.Pod)
		refuse bool
	}{
		"a field":               {edit: func(p *corev1.Pod) { p.Spec.HostNetwork = true }},
		"what the cloud checks": {edit: func(*corev1.Pod) {}, refuse: true},
	} {
		bubble(t, name, func(t *testing.T) {
			b := newBed(t)
			if test.refuse {
				b.cloud.fail = refuse(providers.InvalidPod, "InvalidParameter")
			}
			b.start()
			b.settle(time.Second)
			made := replacing(b, test.edit)
			b.settle(time.Minute)
			if n := made(); n < 3 || n > 8 {
				t.Errorf("%d pods in a minute, want one at 0, 1, 3, 7, 15, 31 and 63 s", n)
			}
			b.settle(time.Hour)
			if n := made(); n > 30 {
				t.Errorf("%d pods in an hour, want one in five minutes at last", n)
			}
			if calls := b.cloud.count("Create"); calls > 60 {
				t.Errorf("%d creates", calls)
			}
		})
	}
}

// The pods that were there when the first was refused go at once: the cloud that
// takes their place should not wait for them.
func TestPodsThatWereThereBeforeAreNotPaced(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.fail = refuse(providers.InvalidPod, "InvalidParameter")
		for i := range 20 {
			b.create(testPod(fmt.Sprintf("web-%d", i), ownedBy("ReplicaSet"), granted))
		}
		b.start()
		b.settle(5 * time.Second)
		for i := range 20 {
			if s := b.pod(fmt.Sprintf("web-%d", i)).Status; s.Phase != corev1.PodFailed {
				t.Errorf("pod %d is %s: %s", i, s.Phase, s.Message)
			}
		}
	})
}
