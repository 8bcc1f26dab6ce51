// Package tour leads through a playground: a few commands for each thing to see,
// with what must come of them. The page docs/playground.md is made of the same steps
// and of what they printed.
package tour

import (
	"fmt"

	"github.com/autoburst/autoburst/test/playground/live"
)

// Step is one thing to see.
type Step struct {
	Title string
	// Why is one sentence, or two.
	Why      string
	Commands []Command
	// Look says what to look at.
	Look string
}

// Command is a line for a shell at the root of the checkout.
type Command struct {
	Line string
	// Settled is nil once the playground is as the command makes it, and otherwise says
	// what is missing. Nil waits for nothing.
	Settled func(live.State) error
}

// places waits until so many pods are local, on virtual nodes, and wait.
func places(local, virtual, waiting int) func(live.State) error {
	return func(s live.State) error {
		p, starting := s.Places(), 0
		for _, n := range append(s.Local[:len(s.Local):len(s.Local)], s.Virtual...) {
			starting += n.Starting
		}
		if p.Local != local || p.ECI+p.ACI != virtual || p.Waiting != waiting || starting != 0 {
			return fmt.Errorf("%d pods are local, %d on ECI, %d on ACI, %d of them not running yet, and %d wait; want %d local, %d on virtual nodes and %d waiting",
				p.Local, p.ECI, p.ACI, starting, p.Waiting, local, virtual, waiting)
		}
		return nil
	}
}

// all waits until all conditions hold.
func all(conditions ...func(live.State) error) func(live.State) error {
	return func(s live.State) error {
		for _, c := range conditions {
			if err := c(s); err != nil {
				return err
			}
		}
		return nil
	}
}

// on waits until so many pods are on ECI and on ACI.
func on(eci, aci int) func(live.State) error {
	return func(s live.State) error {
		if p := s.Places(); p.ECI != eci || p.ACI != aci {
			return fmt.Errorf("%d pods are on ECI and %d on ACI, want %d and %d", p.ECI, p.ACI, eci, aci)
		}
		return nil
	}
}

func free(s live.State) error {
	for currency, b := range s.Bills() {
		if b.PerHour != 0 || b.Groups != 0 {
			return fmt.Errorf("%s %.2f per hour is charged for %d container groups, want nothing", currency, b.PerHour, b.Groups)
		}
	}
	return nil
}

func stopped(want bool) func(live.State) error {
	return func(s live.State) error {
		if s.Stopped != want {
			return fmt.Errorf("bursting is stopped: %v, want %v", s.Stopped, want)
		}
		return nil
	}
}

const (
	// byNode and byPlace count the pods by a node's whole name, and by its first word.
	byNode  = "kubectl -n shop get pods --field-selector=status.phase!=Failed --no-headers -o custom-columns=NODE:.spec.nodeName | sort | uniq -c"
	byPlace = "kubectl -n shop get pods --field-selector=status.phase!=Failed --no-headers -o custom-columns=NODE:.spec.nodeName | cut -d- -f1 | sort | uniq -c"
	// why is what explain says about the decision.
	why = "kubectl autoburst explain deployment/web -n shop | sed -n '/^Decision/,/^$/p'"
)

// Steps are the tour. It wants a playground in which nothing has happened, and leaves
// it so.
func Steps() []Step {
	return []Step{
		{
			Title: "The cluster",
			Why:   "Three local nodes hold 24 pods of half a CPU. Two virtual nodes stand for a region of Alibaba Cloud ECI and one of Azure Container Instances; nothing is paid for while no pod runs there.",
			Commands: []Command{
				{Line: "kubectl get nodes -L autoburst.io/provider"},
				{Line: "kubectl autoburst status"},
			},
			Look: "The virtual nodes are the last two. To a scheduler they look like nodes with very much room. `status` says what Autoburst does, and `status --watch` goes on saying it.",
		},
		{
			Title: "A full cluster, without Autoburst",
			Why:   "An ordinary Deployment with 30 replicas, in a namespace that nobody has opted in.",
			Commands: []Command{
				{Line: "kubectl create namespace shop"},
				{Line: "kubectl -n shop apply -f test/demo/manifests/web.yaml"},
				{Line: "kubectl -n shop scale deployment web --replicas=30", Settled: places(24, 0, 6)},
				{Line: byNode},
			},
			Look: "Eight pods on each local node, and six without a node: Pending, as ever.",
		},
		{
			Title: "Why nothing bursts",
			Why:   "`explain` runs the rules of the webhook and of the controller on your machine and changes nothing.",
			Commands: []Command{
				{Line: why},
			},
			Look: "No policy and no annotation selects the pods, so Autoburst leaves them alone.",
		},
		{
			Title: "One annotation",
			Why:   "It opts the namespace in. The manifest stays as it is, and so do the pods that exist: those that wait are allowed to burst.",
			Commands: []Command{
				{Line: "kubectl annotate namespace shop autoburst.io/mode=Overflow", Settled: places(24, 6, 0)},
				{Line: byPlace},
				{Line: "kubectl autoburst check --wait=1m -o short"},
			},
			Look: "The six that waited run on virtual nodes. In the live view the bill begins to run. `check` finds nothing that is not well.",
		},
		{
			Title: "What is paid for goes first",
			Why:   "When a Deployment shrinks, Kubernetes would pick any of its pods. Pods on virtual nodes have a lower deletion cost, so they go first.",
			Commands: []Command{
				{Line: "kubectl -n shop scale deployment web --replicas=24", Settled: all(places(24, 0, 0), free)},
				{Line: byPlace},
			},
			Look: "The 24 local pods were not touched, and the clouds charge for nothing any more.",
		},
		{
			Title: "A policy: an order and a limit",
			Why:   "A BurstPolicy says what an annotation cannot: first ECI, then ACI, and ten pods at once at most.",
			Commands: []Command{
				{Line: "kubectl apply -f test/playground/tour/manifests/policy.yaml"},
				{Line: "kubectl -n shop wait --for=condition=Ready burstpolicy/web --timeout=30s"},
				{Line: "kubectl -n shop scale deployment web --replicas=40", Settled: all(places(24, 10, 6), on(10, 0))},
				{Line: byNode},
				{Line: why},
				{Line: "kubectl -n shop wait --for=jsonpath='{.status.pods.waiting}'=6 burstpolicy/web --timeout=30s"},
				{Line: "kubectl autoburst status | sed -n '/^Policies/,/^$/p'"},
			},
			Look: "Ten pods on ECI and none more: a limit is never exceeded, by whichever replica of the webhook and the controller grants. What waits says why.",
		},
		{
			Title: "Raise the limit",
			Why:   "What waits is granted in its turn, by priority and age.",
			Commands: []Command{
				{Line: `kubectl -n shop patch burstpolicy web --type=merge --patch='{"spec":{"limits":{"pods":100}}}'`, Settled: all(places(24, 16, 0), on(16, 0))},
				{Line: byNode},
			},
			Look: "All 40 run.",
		},
		{
			Title: "A cloud is out of stock",
			Why:   "The namespace `clouds` stands for the consoles of the emulated clouds: from now on ECI has no machines. Its refusals are the real service's.",
			Commands: []Command{
				{Line: `kubectl -n clouds patch configmap virtual-eci --type=merge --patch='{"data":{"stock":"none"}}'`},
				{Line: "kubectl -n clouds wait --for=jsonpath='{.data.inForce}'=none configmap/virtual-eci --timeout=30s"},
				{Line: "kubectl -n shop scale deployment web --replicas=44", Settled: all(places(24, 20, 0), on(16, 4))},
				{Line: byNode},
				{Line: `kubectl -n shop get pods --field-selector=status.phase=Failed --no-headers -o custom-columns=REASON:.status.reason | sort | uniq -c`},
				{Line: `kubectl -n clouds patch configmap virtual-eci --type=merge --patch='{"data":{"stock":"plenty"}}'`},
			},
			Look: "ECI refused four pods for three seconds; they were failed with the reason OutOfStock, and the Deployment's replacements run on ACI. The 16 that ran on ECI were not touched.",
		},
		{
			Title: "Stop everything now",
			Why:   "One ConfigMap stops all bursting within a second, in every mode and under every policy. Pods that run are left alone.",
			Commands: []Command{
				{Line: "kubectl -n autoburst-system create configmap autoburst-switch --from-literal=stopped=true", Settled: stopped(true)},
				{Line: "kubectl -n shop scale deployment web --replicas=46", Settled: places(24, 20, 2)},
				{Line: "kubectl autoburst explain deployment/web -n shop | sed -n '/^Decision/,/lifted/p'"},
				{Line: "kubectl autoburst status | grep ^Bursting"},
				{Line: "kubectl -n autoburst-system delete configmap autoburst-switch", Settled: all(stopped(false), places(24, 22, 0))},
			},
			Look: "Two pods waited while the switch was on, and burst once it was off.",
		},
		{
			Title: "Back home",
			Why:   "A node is added, as an autoscaler would. A policy with repatriation moves pods back while local nodes have room, one at a time, and honours disruption budgets.",
			Commands: []Command{
				{Line: `kubectl -n shop patch burstpolicy web --type=merge --patch='{"spec":{"repatriation":{"mode":"WhenRoom","minBurstSeconds":0,"holdSeconds":0}}}'`},
				{Line: "kubectl apply -f test/playground/tour/manifests/node.yaml", Settled: places(28, 18, 0)},
				{Line: byPlace},
			},
			Look: "Four pods left the clouds for the new node, local-4.",
		},
		{
			Title: "Drain a virtual node",
			Why:   "Before a virtual node is taken away or Autoburst is uninstalled, `drain` evicts its pods and proves that the cloud holds nothing of it any more.",
			Commands: []Command{
				{Line: "kubectl autoburst drain virtual-eci --timeout=5m | grep 'is empty'", Settled: all(places(28, 18, 0), on(0, 18))},
				{Line: byPlace},
				{Line: "kubectl uncordon virtual-eci"},
			},
			Look: "The pods of ECI run on ACI now, as the policy names it next.",
		},
		{
			Title: "Nothing is left",
			Why:   "No container group outlives its pod.",
			Commands: []Command{
				{Line: "kubectl delete namespace shop", Settled: all(places(0, 0, 0), free)},
				{Line: "kubectl delete node local-4"},
			},
			Look: "Every bar of the live view is empty, and both clouds charge for nothing.",
		},
	}
}
