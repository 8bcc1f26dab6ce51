package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apitypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// countGroups asks the node's agent until its cloud holds no group. A listing that
// proves it begins after the question, and the question is asked when there is no pod
// any more.
func (d *drainer) countGroups(ctx context.Context) (v1alpha1.GroupCount, error) {
	for {
		count, err := d.ask(ctx)
		switch {
		case err != nil:
			return count, err
		case count.Groups == 0:
			return count, nil
		}
		d.sayOnce("the cloud of node %s still holds %s; its agent removes those that have no pod", d.node, groups(count.Groups))
		if err := wait(ctx, lookAgain); err != nil {
			return count, err
		}
	}
}

func groups(n int) string {
	if n == 1 {
		return "1 container group"
	}
	return fmt.Sprintf("%d container groups", n)
}

// ask asks once and waits for the answer.
func (d *drainer) ask(ctx context.Context) (v1alpha1.GroupCount, error) {
	request := rand.Text()
	asked := false
	for begun := time.Now(); ; {
		node, err := d.client.CoreV1().Nodes().Get(ctx, d.node, metav1.GetOptions{})
		if err == nil && !asked {
			// Agents that were stopped by this command before it was interrupted do not
			// answer: what they said last was said of an empty node.
			if d.deleteNode && node.Spec.Unschedulable {
				if count := lastCount(node); count.Listed != "" && count.Groups == 0 {
					if stopped, err := d.agentsStopped(ctx); err != nil || stopped {
						d.sayOnce("the agents of node %s are stopped", d.node)
						return count, err
					}
				}
			}
			err = d.patchNode(ctx, node.UID, map[string]any{
				"metadata": map[string]any{"annotations": map[string]string{v1alpha1.CountGroupsAnnotation: request}},
			})
			asked = err == nil
		}
		switch {
		case ctx.Err() != nil:
			return v1alpha1.GroupCount{}, ctx.Err()
		case apierrors.IsNotFound(err):
			return v1alpha1.GroupCount{}, fmt.Errorf("somebody has deleted node %s; when its agent has registered it again, run the same command again", d.node)
		case err != nil && !passing(err):
			return v1alpha1.GroupCount{}, fmt.Errorf("asking the agent of node %s to count its container groups: %w", d.node, err)
		case err != nil:
			d.sayOnce("asking the agent of node %s: %v; trying again", d.node, err)
		default:
			count, trouble := v1alpha1.ParseGroupCount(node.Annotations[v1alpha1.GroupCountAnnotation]), d.trouble(ctx)
			switch waited := time.Since(begun); {
			case count.Request == request && count.Error == "":
				return count, nil
			case count.Request == request:
				d.sayOnce("the cloud of node %s cannot be listed, so what it holds is not known: %s; trying again", d.node, count.Error)
			case waited > agentSilence && trouble != nil:
				return v1alpha1.GroupCount{}, fmt.Errorf("what the cloud of node %s holds is not known: %w; then run the same command again", d.node, trouble)
			case waited > agentSilence:
				d.sayOnce("the agent of node %s has not answered yet", d.node)
			case waited > 2*lookAgain:
				d.sayOnce("waiting until the agent of node %s has listed the cloud", d.node)
			}
		}
		if err := wait(ctx, lookAgain/2); err != nil {
			return v1alpha1.GroupCount{}, err
		}
	}
}

// lastCount is the agent's last answer, if it answers the last question.
func lastCount(node *corev1.Node) v1alpha1.GroupCount {
	count := v1alpha1.ParseGroupCount(node.Annotations[v1alpha1.GroupCountAnnotation])
	if count.Request == "" || count.Request != node.Annotations[v1alpha1.CountGroupsAnnotation] || count.Error != "" {
		return v1alpha1.GroupCount{}
	}
	return count
}

// trouble is what keeps an agent from doing its part, nil where nothing does.
func (d *drainer) trouble(ctx context.Context) error {
	node, err := d.client.CoreV1().Nodes().Get(ctx, d.node, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading node %s: %w", d.node, err)
	}
	for _, c := range node.Status.Conditions {
		if c.Type == v1alpha1.CloudReachableCondition && c.Status == corev1.ConditionFalse {
			return fmt.Errorf("the cloud of node %s does not answer its agent (%s: %s); nothing is removed there until it does", d.node, c.Reason, c.Message)
		}
	}
	lease, err := d.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, d.node, metav1.GetOptions{})
	switch {
	case err != nil && !apierrors.IsNotFound(err):
		return nil // no right to know
	case err == nil && d.quiet(lease) < agentSilence:
		return nil
	}
	return fmt.Errorf("no agent of node %s runs, and nobody else can remove its container groups; start it: kubectl -n %s get deployments -l %s=%s",
		d.node, d.releaseNamespace, v1alpha1.AgentLabel, d.node)
}

// groupsLeft is what stands in the way when no pod is left.
func (d *drainer) groupsLeft(ctx context.Context) error {
	node, err := d.client.CoreV1().Nodes().Get(ctx, d.node, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading node %s: %w", d.node, err)
	}
	count := v1alpha1.ParseGroupCount(node.Annotations[v1alpha1.GroupCountAnnotation])
	trouble := d.trouble(ctx)
	switch asked := node.Annotations[v1alpha1.CountGroupsAnnotation]; {
	case trouble != nil:
		return trouble
	case asked == "" || count.Request != asked:
		return errors.New("its agent has not said how many container groups its cloud holds")
	case count.Error != "":
		return fmt.Errorf("its cloud cannot be listed: %s", count.Error)
	case count.Groups > 0 && d.ignoreDaemonSets:
		return fmt.Errorf("its cloud still holds %s; are they of DaemonSets? Keep these off virtual nodes", groups(count.Groups))
	case count.Groups > 0:
		return fmt.Errorf("its cloud still holds %s", groups(count.Groups))
	}
	return nil
}

// retire stops the agents, which would register the node again, and deletes it.
func (d *drainer) retire(ctx context.Context) error {
	deployments, err := d.client.AppsV1().Deployments(d.releaseNamespace).List(ctx, d.agents())
	if err != nil {
		return fmt.Errorf("listing the agents of node %s in namespace %s: %w", d.node, d.releaseNamespace, err)
	}
	for i := range deployments.Items {
		deployment := &deployments.Items[i]
		if ptr.Deref(deployment.Spec.Replicas, 1) == 0 {
			continue
		}
		_, err := d.client.AppsV1().Deployments(deployment.Namespace).Patch(ctx, deployment.Name, apitypes.MergePatchType,
			[]byte(`{"spec":{"replicas":0}}`), metav1.PatchOptions{}, "scale")
		if err != nil {
			return fmt.Errorf("scaling Deployment %s/%s to 0: %w", deployment.Namespace, deployment.Name, err)
		}
		d.say("Deployment %s/%s is scaled to 0; take the node out of virtualNodes, or bring its agents back by helm upgrade --force-conflicts", deployment.Namespace, deployment.Name)
	}
	for {
		stopped, err := d.agentsStopped(ctx)
		if err != nil {
			return err
		}
		if stopped {
			break
		}
		if len(deployments.Items) == 0 {
			d.sayOnce("the agent of node %s runs, and no Deployment in namespace %s is its own; stop it, or the node would come back", d.node, d.releaseNamespace)
		} else {
			d.sayOnce("waiting until the agents of node %s have stopped", d.node)
		}
		if err := wait(ctx, lookAgain); err != nil {
			return err
		}
	}
	node, err := d.client.CoreV1().Nodes().Get(ctx, d.node, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading node %s: %w", d.node, err)
	}
	pods, err := d.podsThere(ctx)
	if err != nil {
		return err
	}
	if len(pods) > 0 {
		return fmt.Errorf("pod %s came to node %s while its agents stopped; start them again (helm upgrade), and run the same command again", nameOf(&pods[0]), d.node)
	}
	err = d.client.CoreV1().Nodes().Delete(ctx, d.node, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &node.UID}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting node %s: %w", d.node, err)
	}
	d.say("node %s is deleted", d.node)
	return nil
}

func (d *drainer) agents() metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: v1alpha1.AgentLabel + "=" + d.node}
}

// agentsStopped tells whether no agent of the node runs: there is no pod of one, and
// the Leases that agents keep, of their election and of the node, were given up or
// are not renewed any more. A leader that stops gives up that of the election last.
func (d *drainer) agentsStopped(ctx context.Context) (bool, error) {
	pods, err := d.client.CoreV1().Pods(d.releaseNamespace).List(ctx, d.agents())
	if err != nil {
		return false, fmt.Errorf("listing the agents of node %s in namespace %s: %w", d.node, d.releaseNamespace, err)
	}
	elections, err := d.client.CoordinationV1().Leases(d.releaseNamespace).List(ctx, d.agents())
	if err != nil {
		return false, fmt.Errorf("listing the Leases of the agents of node %s in namespace %s: %w", d.node, d.releaseNamespace, err)
	}
	own, err := d.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, d.node, metav1.GetOptions{})
	gone := apierrors.IsNotFound(err)
	if err != nil && !gone {
		return false, fmt.Errorf("reading the lease of node %s: %w", d.node, err)
	}
	alive := len(pods.Items) > 0
	var given time.Time // when the last leader gave up
	for i := range elections.Items {
		switch l := &elections.Items[i]; {
		case ptr.Deref(l.Spec.HolderIdentity, "") != "":
			alive = alive || d.quiet(l) < duration(l)
		case l.Spec.RenewTime != nil && l.Spec.RenewTime.After(given):
			given = l.Spec.RenewTime.Time
		}
	}
	if gone || own.Spec.RenewTime == nil { // nobody keeps the node
		return !alive, nil
	}
	// Both times are by the clock of the agent that gave up.
	quiet := d.quiet(own)
	return !alive && (!own.Spec.RenewTime.After(given) || quiet >= duration(own)), nil
}

// renewal is a renewal of a Lease, and when it was first seen.
type renewal struct{ of, seen time.Time }

// quiet is for how long a Lease was not renewed, as far as was seen here: clocks of
// two machines may differ.
func (d *drainer) quiet(lease *coordinationv1.Lease) time.Duration {
	key, of := lease.Namespace+"/"+lease.Name, time.Time{}
	if lease.Spec.RenewTime != nil {
		of = lease.Spec.RenewTime.Time
	}
	last, ok := d.renewed[key]
	if !ok || !last.of.Equal(of) {
		last = renewal{of: of, seen: time.Now()}
		d.renewed[key] = last
	}
	return time.Since(last.seen)
}

func duration(lease *coordinationv1.Lease) time.Duration {
	return time.Duration(ptr.Deref(lease.Spec.LeaseDurationSeconds, 40)) * time.Second
}
