package vnode

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

// ask asks on the node how many groups there are.
func (b *bed) ask(request string, cordoned bool) {
	b.Helper()
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": map[string]string{v1alpha1.CountGroupsAnnotation: request}},
		"spec":     map[string]any{"unschedulable": cordoned},
	})
	if err == nil {
		_, err = b.client.CoreV1().Nodes().Patch(b.Context(), testNode, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		b.Fatal(err)
	}
}

// told waits for the answer to a question.
func (b *bed) told(request string) v1alpha1.GroupCount {
	b.Helper()
	var answer v1alpha1.GroupCount
	b.node("answers "+request, func(n *corev1.Node) error {
		answer = v1alpha1.ParseGroupCount(n.Annotations[v1alpha1.GroupCountAnnotation])
		if answer.Request != request {
			return fmt.Errorf("answer %+v", answer)
		}
		return nil
	})
	return answer
}

func TestGroupsAreCountedOnRequest(t *testing.T) {
	bothListings(t, func(t *testing.T, carries bool) {
		b := newBed(t)
		b.cloud.listStatus = carries
		stranger := ours()
		stranger.NodeName = "another"
		b.cloud.put(testPod("foreign"), stranger, running("app"))
		b.start()
		for _, name := range []string{"a", "b"} {
			b.create(testPod(name))
			b.eventually("the group is there", func() error {
				if !strings.Contains(fmt.Sprint(b.cloud.ids()), "g-uid-"+name) {
					return fmt.Errorf("groups %v", b.cloud.ids())
				}
				return nil
			})
		}
		b.settle(settling)

		begun := time.Now()
		b.ask("one", true)
		answer := b.told("one")
		if answer.Groups != 2 || answer.Error != "" || answer.Listed == "" {
			t.Errorf("answer %+v, want 2 groups", answer)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("answered after %s", took)
		}
		lists := b.cloud.count("List")
		b.settle(5 * time.Second)
		if n := b.cloud.count("List") - lists; n > 5 {
			t.Errorf("%d listings after the answer", n)
		}

		b.remove("a")
		b.remove("b")
		b.absent("a")
		b.absent("b")
		b.ask("two", true)
		if answer := b.told("two"); answer.Groups != 0 {
			t.Errorf("answer %+v, want no group", answer)
		}

		// A node that takes pods again forgets what was said.
		b.ask("two", false)
		b.node("says nothing", func(n *corev1.Node) error {
			if n.Annotations[v1alpha1.GroupCountAnnotation]+n.Annotations[v1alpha1.CountGroupsAnnotation] != "" {
				return fmt.Errorf("annotations %v", n.Annotations)
			}
			return nil
		})
	})
}

// What nobody knows is not said to be nothing: a cloud that does not answer, a create
// that is under way, one whose answer was lost, and whatever an earlier leader may
// have begun.
func TestCountWaitsForWhatMayYetBe(t *testing.T) {
	bubble(t, "an earlier leader's", func(t *testing.T) {
		b := newBed(t)
		begun := time.Now()
		b.start()
		b.node("is there", func(*corev1.Node) error { return nil })
		b.ask("one", true)
		b.told("one")
		if took := time.Since(begun); took < settling {
			t.Errorf("an agent that has just begun answered after %s, want at least %s", took, settling)
		}
	})
	bubble(t, "no answer of the cloud", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.node("is there", func(*corev1.Node) error { return nil })
		b.settle(settling)
		b.cloud.setFail(func(string, string, int) error { return fault(providers.Unavailable, "Down") })
		b.ask("one", true)
		if answer := b.told("one"); !strings.Contains(answer.Error, "Down") || answer.Listed != "" {
			t.Errorf("answer %+v, want an error", answer)
		}
		version := b.node("is there", func(*corev1.Node) error { return nil }).Annotations[v1alpha1.GroupCountAnnotation]
		b.settle(5 * time.Second)
		if now := b.node("is there", func(*corev1.Node) error { return nil }).Annotations[v1alpha1.GroupCountAnnotation]; now != version {
			t.Errorf("the same error was written anew: %s, then %s", version, now)
		}
		b.cloud.setFail(nil)
		b.node("answers at last", func(n *corev1.Node) error {
			if a := v1alpha1.ParseGroupCount(n.Annotations[v1alpha1.GroupCountAnnotation]); a.Error != "" || a.Listed == "" {
				return fmt.Errorf("answer %+v", a)
			}
			return nil
		})
	})
	bubble(t, "a create under way", func(t *testing.T) {
		b := newBed(t)
		b.cloud.hold = make(chan struct{})
		b.start()
		b.node("is there", func(*corev1.Node) error { return nil })
		b.settle(settling)
		b.create(testPod("web"))
		b.settle(time.Second)
		b.ask("one", true)
		if answer := b.told("one"); answer.Groups != 1 || len(b.cloud.ids()) != 0 {
			t.Errorf("answer %+v while the cloud holds %v, want 1 for the create that is under way", answer, b.cloud.ids())
		}
		close(b.cloud.hold)
	})
	bubble(t, "a lost answer", func(t *testing.T) {
		b := newBed(t)
		b.cloud.fail = func(op, _ string, n int) error {
			if op == "Create" && n == 1 {
				return fault(providers.Unknown, "Lost")
			}
			return nil
		}
		b.start()
		b.node("is there", func(*corev1.Node) error { return nil })
		b.settle(settling)
		lost := time.Now()
		b.create(testPod("web"))
		b.settle(100 * time.Millisecond)
		b.ask("one", true)
		b.told("one")
		if took := time.Since(lost); took < settling {
			t.Errorf("answered %s after the outcome of a create became unknown, want at least %s", took, settling)
		}
	})
}
