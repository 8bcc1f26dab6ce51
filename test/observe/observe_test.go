// Package observe looks at the whole system as its operators do: a real Prometheus
// scrapes it, every query of the chart's dashboards has data, and its alerts fire.
package observe

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/controller"
	"github.com/autoburst/autoburst/policy/metric"
	"github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/observe/files"
	"github.com/autoburst/autoburst/test/playground"
	"github.com/autoburst/autoburst/vnode"
	"github.com/autoburst/autoburst/webhook"
	"github.com/autoburst/autoburst/webhook/certs"
)

// window takes the place of the windows of rates, which are minutes.
const window = "10s"

// workload fills four local slots, and more: two pods wait for the controller's
// grant, one runs on ACI at once.
const workload = `
apiVersion: autoburst.io/v1alpha1
kind: BurstPolicy
metadata: {name: late, namespace: shop}
spec: {mode: Overflow, podSelector: {matchLabels: {app: late}}, overflow: {afterPendingSeconds: 2}, limits: {pods: 100}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 8
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: nginx, resources: {requests: {cpu: "1", memory: 1Gi}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: on-aci, namespace: shop, annotations: {autoburst.io/mode: Always}}
spec:
  nodeSelector: {autoburst.io/provider: aci}
  containers: [{name: app, image: nginx, resources: {requests: {cpu: "1", memory: 1Gi}}}]
`

const latePods = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: late, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: late}}
  template:
    metadata: {labels: {app: late}}
    spec: {containers: [{name: app, image: nginx, resources: {requests: {cpu: "1", memory: 1Gi}}}]}
`

func TestObserve(t *testing.T) {
	traces, err := startCollector()
	if err != nil {
		t.Fatal(err)
	}
	defer traces.stop()
	p, err := playground.Start(t.Context(), playground.Options{
		Progress: os.Stderr,
		Local:    playground.LocalNodes{Count: 1, CPU: "4", Memory: "32Gi", Pods: 40},
		Cloud:    sim.Config{Timing: sim.DefaultTiming().Scaled(0.05)},
		Race:     raceEnabled,
		Set:      []string{"tracing.enabled=true", "tracing.endpoint=" + traces.HTTP, "tracing.samplingRatio=1"},
		Cluster:  cluster.Options{APIServerArgs: []string{"--tracing-config-file=" + tracingConfiguration(t, traces)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			p.KeepLogs()
			t.Logf("logs are kept in %s\n%s", p.Dir, p.Logs(15))
		}
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}()
	rules, err := hasty()
	if err != nil {
		t.Fatal(err)
	}
	server, err := startPrometheus(t.Context(), p, rules)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.process.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
	}()

	burst(t, p)
	t.Run("programs show what the reference says", func(t *testing.T) { checkPrograms(t, p) })
	t.Run("dashboards have data", func(t *testing.T) { checkDashboards(t, server) })
	t.Run("traces reach from the client to the cloud", func(t *testing.T) { checkTraces(t, p, traces) })
	t.Run("rules work", func(t *testing.T) { checkRules(t, server, rules) })
	t.Run("alerts fire", func(t *testing.T) { checkAlerts(t, p, server) })
}

// burst has pods start in both clouds, some of them granted late.
func burst(t *testing.T, p *playground.Playground) {
	t.Helper()
	ctx := t.Context()
	if err := p.CreateNamespace(ctx, "shop", map[string]string{"autoburst.io/mode": "Overflow"}); err != nil {
		t.Fatal(err)
	}
	for _, manifest := range []string{workload, latePods} {
		if _, err := p.Kubectl(ctx, manifest, "apply", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		if err := playground.Poll(ctx, time.Minute, "all pods run", func(ctx context.Context) (bool, error) {
			list, err := p.Client().CoreV1().Pods("shop").List(ctx, metav1.ListOptions{})
			if err != nil {
				return false, err
			}
			nodes := map[string]int{}
			for _, pod := range list.Items {
				if pod.Status.Phase != corev1.PodRunning {
					return false, fmt.Errorf("pod %s is %s", pod.Name, pod.Status.Phase)
				}
				nodes[pod.Spec.NodeName]++
			}
			if len(list.Items) < 9 || nodes[playground.ECINode] == 0 || nodes[playground.ACINode] == 0 {
				return false, fmt.Errorf("pods by node: %v", nodes)
			}
			return true, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// hasty are the chart's rules, made for a run of a minute: they fire at once, and look
// back for seconds.
func hasty() (files.RuleFile, error) {
	rules, err := files.Rules()
	minutes := regexp.MustCompile(`\[\d+[mh]\]`)
	for _, g := range rules.Groups {
		for i := range g.Rules {
			g.Rules[i].For = ""
			g.Rules[i].Expr = minutes.ReplaceAllString(g.Rules[i].Expr, "["+window+"]")
		}
	}
	return rules, err
}

// checkPrograms compares what the programs show of theirs with how it is declared.
func checkPrograms(t *testing.T, p *playground.Playground) {
	build := metric.BuildInfo("").Families()
	addresses := map[string][]metric.Family{}
	for _, c := range p.Controllers() {
		addresses[c.Metrics] = slices.Concat(build, webhook.Families(), certs.Families(), controller.Families())
	}
	for _, node := range []string{playground.ECINode, playground.ACINode} {
		for _, a := range p.Agents(node) {
			addresses[a.Metrics] = slices.Concat(build, vnode.Families())
		}
	}
	for address, families := range addresses {
		text, err := get(t.Context(), "http://"+address+"/metrics")
		if err != nil {
			t.Fatal(err)
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		shown, err := parser.TextToMetricFamilies(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		declared := map[string]metric.Family{}
		for _, f := range families {
			declared[f.Name] = f
		}
		var ours []*dto.MetricFamily
		for name, f := range shown {
			if !strings.HasPrefix(name, "autoburst_") {
				continue
			}
			ours = append(ours, f)
			d, ok := declared[name]
			if !ok {
				t.Errorf("%s shows %s, which is not declared", address, name)
				continue
			}
			if help := "[" + string(d.Stability) + "] " + d.Help; f.GetHelp() != help || !strings.EqualFold(f.GetType().String(), d.Type) {
				t.Errorf("%s: %s is a %s with the help %q, want a %s with %q", address, name, f.GetType(), f.GetHelp(), d.Type, help)
			}
			for _, m := range f.GetMetric() {
				checkLabels(t, d, m.GetLabel())
			}
		}
		if len(ours) < 15 {
			t.Errorf("%s shows %d metrics of ours", address, len(ours))
		}
		problems, err := promlint.NewWithMetricFamilies(ours).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range problems {
			t.Errorf("%s: %s: %s", address, problem.Metric, problem.Text)
		}
	}
}

func checkLabels(t *testing.T, f metric.Family, shown []*dto.LabelPair) {
	t.Helper()
	for _, l := range shown {
		if l.GetName() == metric.LabelVirtualNode || l.GetName() == metric.LabelProvider {
			continue
		}
		i := slices.IndexFunc(f.Labels, func(d metric.Label) bool { return d.Name == l.GetName() })
		if i < 0 {
			t.Errorf("%s has the label %s, which is not declared", f.Name, l.GetName())
			continue
		}
		if values := f.Labels[i].Values; len(values) > 0 && !slices.Contains(values, l.GetValue()) {
			t.Errorf("%s has %s=%q, which is not among the declared %v", f.Name, l.GetName(), l.GetValue(), values)
		}
	}
}

// checkDashboards waits until every query of every panel has had a value.
func checkDashboards(t *testing.T, server *prometheus) {
	dashboards, err := files.Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	type query struct{ panel, expr string }
	var open []query
	for _, d := range dashboards {
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				open = append(open, query{panel.Title, target.Query(window)})
			}
		}
	}
	all := len(open)
	err = playground.Poll(t.Context(), time.Minute, "every query has data", func(ctx context.Context) (bool, error) {
		for len(open) > 0 {
			n, err := server.points(ctx, open[0].expr)
			if err != nil {
				return false, err
			}
			if n == 0 {
				return false, fmt.Errorf("panel %q has no data: %s", open[0].panel, open[0].expr)
			}
			open = open[1:]
		}
		return true, nil
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d queries of %d have data", all-len(open), all)
}

// checkRules waits until every rule was evaluated, and none fails.
func checkRules(t *testing.T, server *prometheus, rules files.RuleFile) {
	type rule struct{ Name, Health, LastError string }
	if err := playground.Poll(t.Context(), time.Minute, "every rule was evaluated", func(ctx context.Context) (bool, error) {
		var data struct{ Groups []struct{ Rules []rule } }
		if err := server.ask(ctx, "/api/v1/rules", nil, &data); err != nil {
			return false, err
		}
		n := 0
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					return false, fmt.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
				}
				n++
			}
		}
		if want := len(rules.Alerts()); n != want {
			return false, fmt.Errorf("%d rules, want %d", n, want)
		}
		return true, nil
	}); err != nil {
		t.Error(err)
	}
}

// checkAlerts makes things go wrong that alerts are for.
func checkAlerts(t *testing.T, p *playground.Playground, server *prometheus) {
	told := func(name, virtualNode string, found []alert) {
		t.Helper()
		if !slices.ContainsFunc(found, func(a alert) bool {
			for _, text := range a.Annotations {
				if strings.Contains(text, "{{") || strings.Contains(text, "error expanding") || strings.Contains(text, "<no value>") {
					t.Errorf("%s tells %q", name, text)
				}
			}
			return a.Labels["virtual_node"] == virtualNode && strings.Contains(a.Annotations["summary"], virtualNode)
		}) {
			t.Errorf("%s does not tell of %q: %v", name, virtualNode, found)
		}
	}
	quiet := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if found, err := server.firing(t.Context(), name); err != nil || len(found) > 0 {
				t.Errorf("%s fires: %v, %v", name, found, err)
			}
		}
	}
	quiet("AutoburstCloudUnreachable", "AutoburstWebhookFailingOpen", "AutoburstWebhookSkipped", "AutoburstNoLeader", "AutoburstControllerMissing",
		"AutoburstVirtualNodeNotReady", "AutoburstGroupsWithoutPod", "AutoburstCloudClockDiffers", "AutoburstAgentMissing", "AutoburstStopped")

	// Each virtual node has one agent here.
	const alone = "AutoburstAgentWithoutStandby"
	told(alone, playground.ECINode, server.waitAlert(t, alone, true))

	// While the cloud is away, other things go wrong.
	p.ECI.Inject(eci.Fault{Calls: -1, Cut: true})
	failOpen(t, p, server)
	skip(t, p, server)
	const unreachable = "AutoburstCloudUnreachable"
	found := server.waitAlert(t, unreachable, true)
	told(unreachable, playground.ECINode, found)
	if len(found) != 1 {
		t.Errorf("%s fires for %v, want one virtual node", unreachable, found)
	}
	p.ECI.ClearFaults()
	server.waitAlert(t, unreachable, false)
}

// failOpen sends a replica of the webhook what it cannot read.
func failOpen(t *testing.T, p *playground.Playground, server *prometheus) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the webhook's own
	defer transport.CloseIdleConnections()
	const name = "AutoburstWebhookFailingOpen"
	if err := playground.Poll(t.Context(), time.Minute, "the alert "+name+" fires", func(ctx context.Context) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+p.Controllers()[0].Webhook+webhook.PodsPath, strings.NewReader("{"))
		if err != nil {
			return false, err
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return false, err
		}
		if err := resp.Body.Close(); err != nil {
			return false, err
		}
		found, err := server.firing(ctx, name)
		return slices.ContainsFunc(found, func(a alert) bool { return a.Labels["hook"] == "pods" && a.Labels["cause"] == "undecodable" }), err
	}); err != nil {
		t.Error(err)
	}
	server.waitAlert(t, name, false)
}

// skip lets the replicas of the webhook stand still while the API server calls them.
func skip(t *testing.T, p *playground.Playground, server *prometheus) {
	signal := func(s syscall.Signal) {
		for _, c := range p.Controllers() {
			if err := c.Process.Signal(s); err != nil {
				t.Error(err)
			}
		}
	}
	const name = "AutoburstWebhookSkipped"
	signal(syscall.SIGSTOP)
	// Each takes the API server its timeout of 2 s. It shows the first as a series
	// that is new, which no rate sees.
	for i := range 4 {
		if _, err := p.Kubectl(t.Context(), "", "--namespace=shop", "run", fmt.Sprintf("meanwhile-%d", i), "--image=nginx"); err != nil {
			t.Errorf("a pod was not admitted without the webhook: %v", err)
		}
	}
	signal(syscall.SIGCONT)
	server.waitAlert(t, name, true)
	server.waitAlert(t, name, false)
}
