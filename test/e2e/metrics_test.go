package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// A Deployment that has burst is scaled by what its containers use in the cloud: a
// real metrics-server reads it from the agent, and the HorizontalPodAutoscaler of
// kube-controller-manager follows it, out under load and in when the load has ended.
func TestHorizontalPodAutoscaler(t *testing.T) {
	ns := namespace(t, "busy", nil)
	policy(t, ns, "always", `{mode: Always, targets: [{name: eci, nodeSelector: {matchLabels: {autoburst.io/provider: eci}}}]}`)
	ours := func(s sim.Spec, _ sim.Container) bool {
		for key, value := range s.Tags {
			if strings.HasSuffix(key, "namespace") && value == ns {
				return true
			}
		}
		return false
	}
	load := func(cpu float64) { system.ECI.Fleet().SetLoad(ours, sim.Load{CPU: cpu, Memory: 48 << 20}) }
	load(0.9)

	stop, err := system.StartMetricsServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	begun := time.Now()
	kubectl(t, deployment("shop", 1, podSpec{cpu: "500m"})+`
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: shop}
  minReplicas: 1
  maxReplicas: 3
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
  behavior: {scaleUp: {stabilizationWindowSeconds: 0}, scaleDown: {stabilizationWindowSeconds: 0}}
`, "--namespace="+ns, "apply", "-f", "-")
	scaled := func(want int) func(context.Context) (bool, error) {
		return func(ctx context.Context) (bool, error) {
			list, err := client().CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
			if err != nil {
				return false, err
			}
			running := 0
			for i := range list.Items {
				if onNode(eciNode)(&list.Items[i]) && list.Items[i].DeletionTimestamp == nil {
					running++
				}
			}
			hpa, err := client().AutoscalingV2().HorizontalPodAutoscalers(ns).Get(ctx, "shop", metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			if running != want || int(hpa.Status.CurrentReplicas) != want {
				return false, fmt.Errorf("%d of %d pods run on %s; the autoscaler sees %+v, %+v", running, len(list.Items), eciNode, hpa.Status.CurrentMetrics, hpa.Status.Conditions)
			}
			return true, nil
		}
	}
	mustEventually(t, 90*time.Second, "the Deployment is scaled out under load", scaled(3))
	t.Logf("scaled out after %s", time.Since(begun).Round(time.Second))

	mustEventually(t, 60*time.Second, "kubectl top pod shows the load of each pod", func(context.Context) (bool, error) {
		top, err := system.Kubectl(t.Context(), "", "--namespace="+ns, "top", "pod", "--no-headers")
		if err != nil {
			return false, err
		}
		used := regexp.MustCompile(`(?m)^shop-\S+ +(\d+)m +48Mi`).FindAllStringSubmatch(top, -1)
		if len(used) != 3 {
			return false, fmt.Errorf("it prints %q", top)
		}
		for _, u := range used {
			if m, err := strconv.Atoi(u[1]); err != nil || m < 850 || m > 950 {
				return false, fmt.Errorf("it prints %q, want 900m for each", top)
			}
		}
		return true, nil
	})
	if top := kubectl(t, "", "top", "node", eciNode, "--no-headers"); !regexp.MustCompile(`^` + eciNode + ` +\d{3,}m`).MatchString(top) {
		t.Errorf("kubectl top node prints %q", top)
	}

	eased := time.Now()
	load(0.01)
	mustEventually(t, 90*time.Second, "the Deployment is scaled in when the load has ended", scaled(1))
	t.Logf("scaled in after %s", time.Since(eased).Round(time.Second))
}

// Figures are served at once, for both clouds and with every container that runs,
// whether or not the cloud has told something of it; and to those who may read them.
func TestResourceMetrics(t *testing.T) {
	onBothClouds(t, func(t *testing.T, node, ns string) {
		kubectl(t, `
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: reader, namespace: `+ns+`}}
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: other, namespace: `+ns+`}}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRole
  metadata: {name: reader-`+ns+`}
  rules: [{apiGroups: [""], resources: [nodes/metrics, nodes/stats], verbs: [get]}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRoleBinding
  metadata: {name: reader-`+ns+`}
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader-`+ns+`}
  subjects: [{kind: ServiceAccount, name: reader, namespace: `+ns+`}]
`, "apply", "-f", "-")
		t.Cleanup(func() {
			if _, err := system.Kubectl(context.Background(), "", "delete", "clusterrole,clusterrolebinding", "reader-"+ns); err != nil {
				t.Error(err)
			}
		})
		kubectl(t, barePod("measured", podSpec{extra: pinned[node]}), "--namespace="+ns, "apply", "-f", "-")
		waitPod(t, ns, "measured", "runs", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
		for path, series := range map[string][]string{
			"/metrics/resource": {
				`container_start_time_seconds{container="app",pod="measured",namespace="` + ns + `"} `,
				`container_cpu_usage_seconds_total{container="app",pod="measured",namespace="` + ns + `"} `,
				`pod_cpu_usage_seconds_total{namespace="` + ns + `",pod="measured"} `,
				"\nscrape_error 0\n", "\nresource_scrape_error 0\n",
			},
			"/stats/summary": {`"nodeName":"` + node + `"`, `"podRef":{"name":"measured","namespace":"` + ns + `"`},
		} {
			eventually(t, 20*time.Second, path+" shows the pod", func(context.Context) (bool, error) {
				status, figures := readFigures(t, node, path, ns, "reader")
				if status != http.StatusOK {
					return false, fmt.Errorf("it answers %d %s", status, figures)
				}
				for _, want := range series {
					if !strings.Contains(figures, want) {
						return false, fmt.Errorf("there is no %s in %s", want, figures)
					}
				}
				return true, nil
			})
			for account, want := range map[string]int{"": http.StatusUnauthorized, "other": http.StatusForbidden} {
				if status, figures := readFigures(t, node, path, ns, account); status != want || strings.Contains(figures, "measured") {
					t.Errorf("GET %s as %q answers %d %s, want %d", path, account, status, figures, want)
				}
			}
		}
	})
}

// readFigures asks the agent itself, as a ServiceAccount or as nobody: the API server
// is no proxy to addresses of its own host.
func readFigures(t *testing.T, node, path, namespace, account string) (status int, body string) {
	t.Helper()
	n, err := client().CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool { return a.Type == corev1.NodeInternalIP })
	address := net.JoinHostPort(n.Status.Addresses[i].Address, strconv.Itoa(int(n.Status.DaemonEndpoints.KubeletEndpoint.Port)))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if account != "" {
		token, err := client().CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token.Status.Token)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a certificate signed by itself
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}
