package chart

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/test/cluster"
)

// kubelet runs the pods of one node as processes of this machine. All listen on
// loopback, each at ports of its own; a pod's address is made up, and leads to it
// through dial.
type kubelet struct {
	node     string
	cluster  *cluster.Cluster
	client   kubernetes.Interface
	programs string            // the folder of the built programs
	images   map[string]string // a program's name by repository
	server   *http.Server

	mu   sync.Mutex
	pods map[types.UID]*sandbox
	next int
	done sync.WaitGroup
}

// sandbox is a pod that runs.
type sandbox struct {
	ip    string
	ports map[int32]string // where what listens on a port of the pod does
	logs  map[string]string
	end   context.CancelCauseFunc
}

// errDeleted ends a pod that the API server tells to.
var errDeleted = errors.New("the pod is deleted")

// startKubelet registers a node with those labels and runs what is bound to it until
// the context ends.
func startKubelet(ctx context.Context, c *cluster.Cluster, programs, node string, labels map[string]string) (*kubelet, error) {
	k := &kubelet{
		node: node, cluster: c, client: c.Client(), programs: programs,
		images: map[string]string{
			"ghcr.io/autoburst/autoburst": "autoburst", "ghcr.io/autoburst/autoburst-vnode": "autoburst-vnode",
		},
		pods: map[types.UID]*sandbox{},
	}
	certificate, err := c.Certificate("kubelet-"+node, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.serveLogs)
	k.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = k.server.Serve(listener) }()
	port := listener.Addr().(*net.TCPAddr).Port
	if err := k.register(ctx, int32(port), labels); err != nil {
		return nil, err
	}
	k.done.Go(func() { k.beat(ctx) })
	k.done.Go(func() { k.watch(ctx) })
	return k, nil
}

// wait returns when all has ended after the context.
func (k *kubelet) wait() {
	k.done.Wait()
	_ = k.server.Close()
}

func (k *kubelet) register(ctx context.Context, port int32, labels map[string]string) error {
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("32Gi"), corev1.ResourcePods: resource.MustParse("40"),
	}
	all := map[string]string{corev1.LabelHostname: k.node, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"}
	maps.Copy(all, labels)
	now := metav1.Now()
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: k.node, Labels: all},
		Status: corev1.NodeStatus{
			Capacity: room, Allocatable: room,
			Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}, {Type: corev1.NodeHostName, Address: k.node}},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: port}},
			Conditions:      []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now}},
		},
	}
	if _, err := k.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("registering node %s: %w", k.node, err)
	}
	return nil
}

// beat renews the node's lease.
func (k *kubelet) beat(ctx context.Context) {
	leases := k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: k.node},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &k.node, LeaseDurationSeconds: ptr.To[int32](40)},
	}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		lease.Spec.RenewTime = ptr.To(metav1.NowMicro())
		if lease.ResourceVersion == "" {
			if created, err := leases.Create(ctx, lease, metav1.CreateOptions{}); err == nil {
				lease = created
			}
		} else if updated, err := leases.Update(ctx, lease, metav1.UpdateOptions{}); err == nil {
			lease = updated
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// watch starts what is bound to the node, and ends what is deleted. It lists anew
// each time, which few pods allow.
func (k *kubelet) watch(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := k.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + k.node})
		if err == nil {
			k.compare(ctx, list.Items)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (k *kubelet) compare(ctx context.Context, pods []corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range pods {
		pod := &pods[i]
		s := k.pods[pod.UID]
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		switch {
		case pod.DeletionTimestamp != nil && s != nil:
			s.end(errDeleted)
		case pod.DeletionTimestamp != nil:
			k.done.Go(func() { k.remove(ctx, pod) })
		case s == nil && !ended:
			k.next++
			s = &sandbox{ip: fmt.Sprintf("10.244.%d.%d", 100+len(k.node)%100+k.next/250, 1+k.next%250), ports: map[int32]string{}, logs: map[string]string{}}
			life, end := context.WithCancelCause(ctx)
			s.end = end
			k.pods[pod.UID] = s
			k.done.Go(func() {
				k.run(life, pod, s)
				<-life.Done()
				if errors.Is(context.Cause(life), errDeleted) {
					k.remove(context.WithoutCancel(ctx), pod)
				}
			})
		}
	}
}

func (k *kubelet) remove(ctx context.Context, pod *corev1.Pod) {
	err := k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0), Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if err == nil || apierrors.IsNotFound(err) {
		k.mu.Lock()
		delete(k.pods, pod.UID)
		k.mu.Unlock()
	}
}

// dial returns where a port of a pod is.
func (k *kubelet) dial(ip string, port int32) (string, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.pods {
		if address, ok := s.ports[port]; ok && s.ip == ip {
			return address, true
		}
	}
	return "", false
}

func (k *kubelet) serveLogs(w http.ResponseWriter, r *http.Request) {
	pod, err := k.client.CoreV1().Pods(r.PathValue("namespace")).Get(r.Context(), r.PathValue("pod"), metav1.GetOptions{})
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	k.mu.Lock()
	var path string
	if s := k.pods[pod.UID]; s != nil {
		path = s.logs[r.PathValue("container")]
	}
	k.mu.Unlock()
	f, err := os.Open(path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	defer f.Close()
	_, _ = io.Copy(w, f)
}

// container is one that runs, or has run.
type container struct {
	spec    corev1.Container
	process *cluster.Process
	status  corev1.ContainerStatus
}

// run runs a pod until it has ended or is told to.
func (k *kubelet) run(ctx context.Context, pod *corev1.Pod, s *sandbox) {
	var all []*container
	for i := range pod.Spec.Containers {
		c := &container{spec: pod.Spec.Containers[i]}
		c.status = corev1.ContainerStatus{Name: c.spec.Name, Image: c.spec.Image}
		all = append(all, c)
		if err := k.start(ctx, pod, s, c, i); err != nil {
			c.status.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: err.Error()}
		}
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		phase := k.look(pod, s, all)
		if err := k.report(ctx, pod, s, all, phase); err == nil && (phase == corev1.PodSucceeded || phase == corev1.PodFailed) {
			return
		}
		select {
		case <-ctx.Done():
			k.stop(pod, all)
			return
		case <-tick.C:
		}
	}
}

// start starts a container.
func (k *kubelet) start(ctx context.Context, pod *corev1.Pod, s *sandbox, c *container, i int) error {
	repository, tag, _ := strings.Cut(c.spec.Image, ":")
	program := k.images[repository]
	if program == "" || tag == "broken" {
		return fmt.Errorf("pulling %s: there is no such image", c.spec.Image)
	}
	if len(c.spec.Command) > 0 {
		// The image of the controller holds the plugin, that of the agents does not.
		if program != "autoburst" || c.spec.Command[0] != "kubectl-autoburst" {
			return fmt.Errorf("%s has no program %v", c.spec.Image, c.spec.Command)
		}
		program = c.spec.Command[0]
	}
	env, err := k.environment(ctx, pod, c.spec)
	if err != nil {
		return err
	}
	var args []string
	for _, a := range c.spec.Args {
		args = append(args, strings.ReplaceAll(a, "$(POD_NAMESPACE)", pod.Namespace))
	}
	// Only a pod that mounts the token of its ServiceAccount has it.
	if slices.ContainsFunc(c.spec.VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.MountPath == "/var/run/secrets/kubernetes.io/serviceaccount"
	}) {
		kubeconfig, err := k.cluster.ServiceAccountKubeconfig(ctx, pod.Namespace, pod.Spec.ServiceAccountName)
		if err != nil {
			return err
		}
		env = append(env, "KUBECONFIG="+kubeconfig)
	}
	ports := map[string]string{}
	for _, p := range c.spec.Ports {
		free, err := cluster.FreePort()
		if err != nil {
			return err
		}
		ports[p.Name] = free
		k.mu.Lock()
		s.ports[p.ContainerPort] = "127.0.0.1:" + free
		k.mu.Unlock()
	}
	// Here all pods share one address, so their ports are not those of the manifest.
	switch program {
	case "autoburst":
		args = append(args, "--metrics-bind-address=127.0.0.1:"+ports["metrics"], "--health-probe-bind-address=127.0.0.1:"+ports["health"])
		if ports["webhook"] != "" {
			args = append(args, "--webhook-host=127.0.0.1", "--webhook-port="+ports["webhook"])
		}
	case "autoburst-vnode":
		args = append(args, "--metrics-bind-address=127.0.0.1:"+ports["metrics"], "--kubelet-bind-address=127.0.0.1", "--client-ca-file="+k.cluster.CAFile())
		env = append(env, "KUBELET_PORT="+ports["kubelet"], "VKUBELET_POD_IP=127.0.0.1")
	}
	name := fmt.Sprintf("%s-%d-%d", pod.Name, i, c.status.RestartCount)
	c.process, err = cluster.StartProcess(k.cluster.Dir, name, env, filepath.Join(k.programs, program), args...)
	if err != nil {
		return err
	}
	k.mu.Lock()
	s.logs[c.spec.Name] = c.process.Log
	k.mu.Unlock()
	c.status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
	return nil
}

func (k *kubelet) environment(ctx context.Context, pod *corev1.Pod, c corev1.Container) ([]string, error) {
	var env []string
	for _, e := range c.Env {
		value := e.Value
		switch from := e.ValueFrom; {
		case from == nil:
		case from.SecretKeyRef != nil:
			secret, err := k.client.CoreV1().Secrets(pod.Namespace).Get(ctx, from.SecretKeyRef.Name, metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			data, ok := secret.Data[from.SecretKeyRef.Key]
			if !ok && ptr.Deref(from.SecretKeyRef.Optional, false) {
				continue
			}
			value = string(data)
		default:
			fields := map[string]string{"metadata.namespace": pod.Namespace, "metadata.name": pod.Name, "status.podIP": "127.0.0.1"}
			value = fields[from.FieldRef.FieldPath]
		}
		env = append(env, e.Name+"="+value)
	}
	return env, nil
}

// look sees what has become of the containers, and asks those that run whether they
// are ready.
func (k *kubelet) look(pod *corev1.Pod, s *sandbox, all []*container) corev1.PodPhase {
	ended, failed := 0, 0
	for i, c := range all {
		if c.process == nil {
			continue
		}
		select {
		case <-c.process.Done():
			code := int32(c.process.ExitCode())
			if pod.Spec.RestartPolicy == corev1.RestartPolicyAlways {
				c.status.RestartCount++
				_ = k.start(context.Background(), pod, s, c, i)
				continue
			}
			ended++
			reason := "Completed"
			if code != 0 {
				failed++
				reason = "Error"
			}
			c.status.Ready = false
			c.status.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, FinishedAt: metav1.Now()}}
		default:
			c.status.Ready = k.probe(s, c.spec)
		}
	}
	switch {
	case ended == len(all) && failed == 0:
		return corev1.PodSucceeded
	case ended == len(all):
		return corev1.PodFailed
	}
	return corev1.PodRunning
}

func (k *kubelet) probe(s *sandbox, c corev1.Container) bool {
	if c.ReadinessProbe == nil {
		return true
	}
	get := c.ReadinessProbe.HTTPGet
	for _, p := range c.Ports {
		if p.Name != get.Port.StrVal {
			continue
		}
		k.mu.Lock()
		address := s.ports[p.ContainerPort]
		k.mu.Unlock()
		resp, err := (&http.Client{Timeout: 2 * time.Second}).Get("http://" + address + get.Path)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	return false
}

// report writes the pod's status, if it has changed.
func (k *kubelet) report(ctx context.Context, pod *corev1.Pod, s *sandbox, all []*container, phase corev1.PodPhase) error {
	status := corev1.PodStatus{Phase: phase, PodIP: s.ip, PodIPs: []corev1.PodIP{{IP: s.ip}}, HostIP: "127.0.0.1", StartTime: pod.Status.StartTime}
	if status.StartTime == nil {
		status.StartTime = ptr.To(metav1.Now())
	}
	ready := corev1.ConditionTrue
	for _, c := range all {
		status.ContainerStatuses = append(status.ContainerStatuses, c.status)
		if !c.status.Ready {
			ready = corev1.ConditionFalse
		}
	}
	status.Conditions = slices.Clone(pod.Status.Conditions)
	for _, t := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		value := ready
		if t == corev1.PodInitialized {
			value = corev1.ConditionTrue
		}
		i := slices.IndexFunc(status.Conditions, func(c corev1.PodCondition) bool { return c.Type == t })
		switch {
		case i < 0:
			status.Conditions = append(status.Conditions, corev1.PodCondition{Type: t, Status: value, LastTransitionTime: metav1.Now()})
		case status.Conditions[i].Status != value:
			status.Conditions[i].Status, status.Conditions[i].LastTransitionTime = value, metav1.Now()
		}
	}
	if equality.Semantic.DeepEqual(status, pod.Status) {
		return nil
	}
	fresh, err := k.client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
	if err != nil || fresh.UID != pod.UID {
		return err
	}
	fresh.Status = status
	if _, err = k.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, fresh, metav1.UpdateOptions{}); err != nil {
		return err
	}
	pod.Status = status
	return nil
}

// stop ends a pod's processes as a kubelet does: the hook, then the signal, then the
// kill, all within the pod's time.
func (k *kubelet) stop(pod *corev1.Pod, all []*container) {
	grace := time.Duration(ptr.Deref(pod.Spec.TerminationGracePeriodSeconds, 30)) * time.Second
	var stops sync.WaitGroup
	for _, c := range all {
		if c.process == nil {
			continue
		}
		stops.Go(func() {
			left := grace
			if hook := c.spec.Lifecycle; hook != nil && hook.PreStop != nil && hook.PreStop.Sleep != nil {
				sleep := time.Duration(hook.PreStop.Sleep.Seconds) * time.Second
				timer := time.NewTimer(sleep)
				defer timer.Stop()
				select {
				case <-timer.C:
				case <-c.process.Done():
				}
				left -= sleep
			}
			_ = c.process.Stop(left)
		})
	}
	stops.Wait()
}
