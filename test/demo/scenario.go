package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/playground"
	"github.com/autoburst/autoburst/test/playground/session"
)

//go:embed manifests/*.yaml
var manifests embed.FS

const (
	eciNode = playground.ECINode
	aciNode = playground.ACINode
)

// demo plays the scenario and checks every step from the outside: with the API
// server and the clouds' own records.
type demo struct {
	*playground.Playground
	screen     *screen
	placements *playground.Placements
}

func (d *demo) play(ctx context.Context) (summary string, err error) {
	if d.placements, err = playground.WatchPlacements(ctx, d.Client()); err != nil {
		return "", err
	}
	defer d.placements.Close()
	var full counts
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"a. hand-written manifests of the two seeds run on ECI and ACI, unchanged", d.seeds},
		{"b. the same two without nodeSelector and tolerations run locally, as there is room", d.plain},
		{"c. three times more than the cluster holds: two namespaces overflow, the third waits", func(ctx context.Context) (err error) {
			full, err = d.overflow(ctx)
			return err
		}},
		{"d. scaled down and deleted: nothing is left in either cloud", d.cleanUp},
	} {
		d.screen.print("\n%s", step.title)
		begin := time.Now()
		if err := step.do(ctx); err != nil {
			return "", fmt.Errorf("step %s: %w", step.title, err)
		}
		d.screen.print("   done in %.1f s", time.Since(begin).Seconds())
	}
	strays := d.placements.Strays()
	for _, s := range strays {
		d.screen.print("   stray: %s", s)
	}
	leaked := len(d.Groups(eciNode)) + len(d.Groups(aciNode)) + d.Billed(eciNode) + d.Billed(aciNode)
	if len(strays) > 0 || leaked > 0 {
		return "", fmt.Errorf("strays=%d leaked_groups=%d, want none", len(strays), leaked)
	}
	return fmt.Sprintf("demo: local=%d eci=%d aci=%d pending=%d strays=%d leaked_groups=%d",
		full.local, full.eci, full.aci, full.pending, len(strays), leaked), nil
}

func (d *demo) apply(ctx context.Context, namespace, manifest string) error {
	b, err := manifests.ReadFile("manifests/" + manifest)
	if err != nil {
		return err
	}
	_, err = d.Kubectl(ctx, string(b), "--namespace="+namespace, "apply", "-f", "-")
	return err
}

// until shows the table while it waits.
func (d *demo) until(ctx context.Context, timeout time.Duration, what string, condition func(context.Context) (bool, error)) error {
	defer d.screen.keep()
	return playground.Poll(ctx, timeout, what, func(ctx context.Context) (bool, error) {
		d.screen.table(d.table())
		return condition(ctx)
	})
}

func (d *demo) seeds(ctx context.Context) error {
	for _, m := range []string{"seed-eci.yaml", "seed-aci.yaml"} {
		if err := d.apply(ctx, "default", m); err != nil {
			return err
		}
	}
	if err := d.until(ctx, 60*time.Second, "both seeds run on their clouds", func(ctx context.Context) (bool, error) {
		nginx, err := d.running(ctx, "default", eciNode, "mypod")
		if err != nil {
			return false, err
		}
		hello, err := d.running(ctx, "default", aciNode, "aci-helloworld")
		return nginx == 1 && hello == 1, err
	}); err != nil {
		return err
	}
	for _, target := range []string{"pod/mypod", "deployment/aci-helloworld"} {
		out, err := d.Kubectl(ctx, "", "--namespace=default", "logs", target)
		if err != nil {
			return err
		}
		if strings.TrimSpace(out) == "" {
			return fmt.Errorf("kubectl logs %s printed nothing", target)
		}
		first, _, _ := strings.Cut(out, "\n")
		d.screen.print("   kubectl logs %s: %s", target, first)
	}
	return nil
}

func (d *demo) plain(ctx context.Context) error {
	if err := d.CreateNamespace(ctx, "seeds", map[string]string{"autoburst.io/mode": "Overflow"}); err != nil {
		return err
	}
	if err := d.apply(ctx, "seeds", "plain.yaml"); err != nil {
		return err
	}
	return d.until(ctx, 30*time.Second, "both run on local nodes", func(ctx context.Context) (bool, error) {
		n, err := d.running(ctx, "seeds", "", "")
		if err != nil {
			return false, err
		}
		virtual := 0
		for _, node := range []string{eciNode, aciNode} {
			v, err := d.running(ctx, "seeds", node, "")
			if err != nil {
				return false, err
			}
			virtual += v
		}
		if virtual > 0 {
			return false, fmt.Errorf("%d pods of namespace seeds run on a virtual node while local nodes are free", virtual)
		}
		return n == 2, nil
	})
}

// counts are pods by where they are.
type counts struct{ local, eci, aci, pending int }

func (d *demo) overflow(ctx context.Context) (counts, error) {
	for namespace, annotations := range map[string]map[string]string{
		"shop":    {"autoburst.io/mode": "Overflow"},
		"ledger":  nil,
		"nothing": nil,
	} {
		if err := d.CreateNamespace(ctx, namespace, annotations); err != nil {
			return counts{}, err
		}
	}
	if err := d.apply(ctx, "ledger", "policy-aci.yaml"); err != nil {
		return counts{}, err
	}
	if _, err := d.Kubectl(ctx, "", "--namespace=ledger", "wait", "--for=condition=Ready", "burstpolicy/to-aci", "--timeout=20s"); err != nil {
		return counts{}, err
	}
	namespaces := []string{"shop", "ledger", "nothing"}
	for _, namespace := range namespaces {
		if err := d.apply(ctx, namespace, "web.yaml"); err != nil {
			return counts{}, err
		}
	}
	// All at once, so that the three compete for the same room.
	var scaling sync.WaitGroup
	errs := make([]error, len(namespaces))
	for i, namespace := range namespaces {
		scaling.Go(func() {
			_, errs[i] = d.Kubectl(ctx, "", "--namespace="+namespace, "scale", "deployment/web", fmt.Sprintf("--replicas=%d", session.Slots))
		})
	}
	scaling.Wait()
	if err := errors.Join(errs...); err != nil {
		return counts{}, err
	}
	err := d.until(ctx, 60*time.Second, "everything in shop and ledger runs", func(ctx context.Context) (bool, error) {
		for _, namespace := range []string{"shop", "ledger"} {
			n, err := d.running(ctx, namespace, "", "web")
			if err != nil || n < session.Slots {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return counts{}, err
	}
	return d.checkOverflow(ctx)
}

func (d *demo) checkOverflow(ctx context.Context) (counts, error) {
	pods, err := d.Client().CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		return counts{}, err
	}
	var c counts
	for _, pod := range pods.Items {
		switch node := pod.Spec.NodeName; {
		case node == eciNode:
			c.eci++
			if pod.Namespace != "shop" {
				return c, fmt.Errorf("pod %s/%s runs on ECI, which its policy does not name", pod.Namespace, pod.Name)
			}
		case node == aciNode:
			c.aci++
			if pod.Namespace == "nothing" {
				return c, fmt.Errorf("pod %s/%s runs on ACI, but its namespace is not opted in", pod.Namespace, pod.Name)
			}
		case node != "":
			c.local++
		default:
			c.pending++
			if pod.Namespace != "nothing" {
				return c, fmt.Errorf("pod %s/%s is pending", pod.Namespace, pod.Name)
			}
			if touched(&pod) {
				return c, fmt.Errorf("pod %s/%s was touched, but its namespace is not opted in", pod.Namespace, pod.Name)
			}
		}
	}
	if c.local != session.Slots {
		return c, fmt.Errorf("%d pods run locally, want the cluster full with %d", c.local, session.Slots)
	}
	if want := 3 * session.Slots; len(pods.Items) != want {
		return c, fmt.Errorf("%d pods exist, want %d", len(pods.Items), want)
	}
	// The clouds must bill what the API server shows, the two seeds included.
	for node, want := range map[string]int{eciNode: c.eci + 1, aciNode: c.aci + 1} {
		if got := d.Billed(node); got != want {
			return c, fmt.Errorf("the cloud of %s bills %d groups, the API server shows %d pods there", node, got, want)
		}
	}
	d.screen.print("   local %d, ECI %d, ACI %d, pending %d (all in the namespace that is not opted in)", c.local, c.eci, c.aci, c.pending)
	return c, nil
}

func touched(pod *corev1.Pod) bool {
	for key := range pod.Annotations {
		if strings.HasPrefix(key, "autoburst.io/") {
			return true
		}
	}
	return pod.Spec.Affinity != nil || slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return !strings.HasPrefix(t.Key, "node.kubernetes.io/")
	})
}

func (d *demo) cleanUp(ctx context.Context) error {
	for _, namespace := range []string{"shop", "ledger", "nothing"} {
		if _, err := d.Kubectl(ctx, "", "--namespace="+namespace, "scale", "deployment/web", "--replicas=1"); err != nil {
			return err
		}
	}
	if _, err := d.Kubectl(ctx, "", "delete", "--wait=false", "namespace", "shop", "ledger", "nothing", "seeds"); err != nil {
		return err
	}
	if _, err := d.Kubectl(ctx, "", "--namespace=default", "delete", "--wait=false", "pod/mypod", "deployment/aci-helloworld"); err != nil {
		return err
	}
	return d.until(ctx, 90*time.Second, "every container group and pod is gone", func(ctx context.Context) (bool, error) {
		pods, err := d.Client().CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		return len(pods.Items)+len(d.Groups(eciNode))+len(d.Groups(aciNode)) == 0, nil
	})
}

// running counts the ready pods of a namespace whose names begin with prefix, on
// a node or, for "", on any.
func (d *demo) running(ctx context.Context, namespace, node, prefix string) (int, error) {
	pods, err := d.Client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	n := 0
	for _, pod := range pods.Items {
		if strings.HasPrefix(pod.Name, prefix) && (node == "" || pod.Spec.NodeName == node) && pod.Status.Phase == corev1.PodRunning {
			n++
		}
	}
	return n, nil
}

// table shows where the pods are: a line a node.
func (d *demo) table() []string {
	byNode := d.placements.ByNode()
	names := []string{}
	for i := range session.Local.Count {
		names = append(names, fmt.Sprintf("local-%d", i+1))
	}
	names = append(names, eciNode, aciNode, "")
	lines := make([]string, 0, len(names))
	for _, name := range names {
		n := byNode[name]
		title := name
		if name == "" {
			title = "pending"
		}
		if d.screen.terminal {
			lines = append(lines, fmt.Sprintf("%-12s %3d %s", title, n, strings.Repeat("■", n)))
		} else {
			lines = append(lines, fmt.Sprintf("%s %d", title, n))
		}
	}
	return lines
}
