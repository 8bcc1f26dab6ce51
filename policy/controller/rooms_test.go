package controller

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/autoburst/autoburst/policy"
)

// No more pods are granted a virtual node than it has room for beside those that were
// granted and are not bound yet.
func TestGrantsStayWithinTheRoom(t *testing.T) {
	room := func(cpu, pods string) func(*policy.Snapshot) {
		return func(s *policy.Snapshot) {
			n := *s.VirtualNodes[0]
			n.Free = corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("1Ti"), corev1.ResourcePods: resource.MustParse(pods),
			}
			s.VirtualNodes = []*policy.VirtualNode{&n}
		}
	}
	f := newFixture(t)
	f.rules(room("100", "2"))
	var pods []*corev1.Pod
	for i := range 5 {
		pods = append(pods, f.submit(unschedulable(fmt.Sprint("web-", i))))
	}
	granted := func() (n int) {
		f.granter.waiting.again()
		f.work()
		for i := range pods {
			n += tolerates(f.pod("shop", fmt.Sprint("web-", i)), hardTaint)
		}
		return n
	}
	if n := granted(); n != 2 {
		t.Fatalf("%d pods were granted room for two", n)
	}
	if n := granted(); n != 2 {
		t.Errorf("%d pods were granted when they were looked at again", n)
	}
	// One is bound: it counts on the node now.
	f.settle(pods[0], "eci")
	f.rules(room("100", "1"))
	if n := granted(); n != 2 {
		t.Errorf("%d pods were granted after one of two was bound", n)
	}
	// The other is deleted, and its room is free.
	f.settle(pods[1], "")
	if n := granted(); n != 3 {
		t.Errorf("%d pods were granted after one of two was deleted, want one more", n)
	}
	// What the scheduler does not bind in a minute takes no room.
	f.clock.Step(grantLife + time.Second)
	if n := granted(); n != 4 {
		t.Errorf("%d pods were granted after a minute, want one more", n)
	}
}
