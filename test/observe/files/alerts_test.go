package files

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/debian"
)

const runbook = "https://github.com/autoburst/autoburst/blob/main/docs/alerts.md#"

// situation is what Prometheus has scraped every minute until then: series in the
// notation of promtool.
type situation struct {
	series []string
	at     time.Duration
}

// alerts says of each alert when it fires, with which labels beside its name and
// severity, and when it is quiet although something is near.
var alerts = map[string]struct {
	fires  situation
	labels map[string]string
	quiet  situation
}{
	"AutoburstWebhookFailingOpen": {
		fires:  situation{[]string{`autoburst_webhook_failed_open_total{hook="pods",cause="deadline"} 0+6x30`}, 12 * time.Minute},
		labels: map[string]string{"hook": "pods", "cause": "deadline"},
		quiet:  situation{[]string{`autoburst_webhook_failed_open_total{hook="pods",cause="deadline"} 0x5 40x30`}, 20 * time.Minute}, // once, long ago
	},
	"AutoburstWebhookSkipped": {
		fires:  situation{[]string{`apiserver_admission_webhook_fail_open_count{name="pods.autoburst.io",type="admit"} 0+3x30`}, 12 * time.Minute},
		labels: map[string]string{"name": "pods.autoburst.io"},
		quiet:  situation{[]string{`apiserver_admission_webhook_fail_open_count{name="pods.example.com",type="admit"} 0+3x30`}, 12 * time.Minute}, // another's
	},
	"AutoburstWebhookSlow": {
		fires: situation{[]string{
			`autoburst_webhook_duration_seconds_bucket{hook="pods",le="0.5"} 0+90x40`,
			`autoburst_webhook_duration_seconds_bucket{hook="pods",le="1"} 0+100x40`,
			`autoburst_webhook_duration_seconds_bucket{hook="pods",le="+Inf"} 0+100x40`,
		}, 30 * time.Minute},
		labels: map[string]string{"hook": "pods"},
		quiet: situation{[]string{
			`autoburst_webhook_duration_seconds_bucket{hook="pods",le="0.5"} 0+100x40`,
			`autoburst_webhook_duration_seconds_bucket{hook="pods",le="+Inf"} 0+100x40`,
			// Nobody asks this one.
			`autoburst_webhook_duration_seconds_bucket{hook="bindings",le="0.5"} 0x40`,
			`autoburst_webhook_duration_seconds_bucket{hook="bindings",le="+Inf"} 0x40`,
		}, 30 * time.Minute},
	},
	"AutoburstWebhookCertificateNotReady": {
		fires: situation{[]string{`autoburst_webhook_certificate_ready{instance="a"} 1x20`, `autoburst_webhook_certificate_ready{instance="b"} 0x20`}, 10 * time.Minute},
		quiet: situation{[]string{`autoburst_webhook_certificate_ready{instance="a"} 1x20`, `autoburst_webhook_certificate_ready{instance="b"} 0x2 1x20`}, 10 * time.Minute},
	},
	"AutoburstWebhookCertificateExpires": {
		fires:  situation{[]string{`autoburst_webhook_certificate_expiry_timestamp_seconds{certificate="leaf"} 120000x40`}, 30 * time.Minute},
		labels: map[string]string{"certificate": "leaf"},
		quiet: situation{[]string{
			`autoburst_webhook_certificate_expiry_timestamp_seconds{certificate="leaf"} 210000x40`, // due for renewal
			`autoburst_webhook_certificate_expiry_timestamp_seconds{certificate="authority"} 700000x40`,
		}, 30 * time.Minute},
	},
	"AutoburstWebhookCertificateErrors": {
		fires: situation{[]string{`autoburst_webhook_certificate_errors_total 0+2x90`}, 60 * time.Minute},
		quiet: situation{[]string{`autoburst_webhook_certificate_errors_total 0x10 3x90`}, 40 * time.Minute},
	},
	"AutoburstControllerMissing": {
		fires: situation{[]string{`up{job="other"} 1x30`}, 12 * time.Minute},
		quiet: situation{[]string{`autoburst_controller_live{instance="a"} 1x30`}, 12 * time.Minute},
	},
	"AutoburstNoLeader": {
		fires: situation{[]string{`autoburst_controller_live{instance="a"} 0x20`, `autoburst_controller_live{instance="b"} 0x20`}, 10 * time.Minute},
		quiet: situation{[]string{`autoburst_controller_live{instance="a"} 0x20`, `autoburst_controller_live{instance="b"} 1x20`}, 10 * time.Minute},
	},
	"AutoburstVirtualNodeNotReady": {
		fires: situation{[]string{`autoburst_virtual_nodes{ready="false"} 1x20`, `autoburst_virtual_nodes{ready="true"} 1x20`}, 15 * time.Minute},
		quiet: situation{[]string{`autoburst_virtual_nodes{ready="false"} 0x20`, `autoburst_virtual_nodes{ready="true"} 2x20`}, 15 * time.Minute},
	},
	"AutoburstStopped": {
		fires: situation{[]string{`autoburst_stopped 1x100`}, 70 * time.Minute},
		quiet: situation{[]string{`autoburst_stopped 0x30 1x50`}, 70 * time.Minute},
	},
	"AutoburstPodsWait": {
		fires: situation{[]string{
			`autoburst_waiting_pod_oldest_seconds{reason="AlreadyGranted"} 0+60x40`, `autoburst_vnode_node_condition{condition="CapacityAvailable"} 1x40`,
		}, 20 * time.Minute},
		labels: map[string]string{"reason": "AlreadyGranted"},
		quiet: situation{[]string{
			`autoburst_waiting_pod_oldest_seconds{reason="LimitReached"} 0+60x40`, // as its owner wants
			`autoburst_waiting_pod_oldest_seconds{reason="AlreadyGranted"} 30x40`, `autoburst_vnode_node_condition{condition="CapacityAvailable"} 1x40`,
		}, 20 * time.Minute},
	},
	"AutoburstLimitReached": {
		fires:  situation{[]string{`autoburst_waiting_pods{reason="LimitReached"} 4x40`}, 20 * time.Minute},
		labels: map[string]string{"reason": "LimitReached"},
		quiet:  situation{[]string{`autoburst_waiting_pods{reason="LimitReached"} 4x10 0x30`, `autoburst_waiting_pods{reason="FitsLocally"} 4x40`}, 20 * time.Minute},
	},
	"AutoburstGrantsFail": {
		fires:  situation{[]string{`autoburst_late_grant_failures_total{cause="rejected"} 0+1x40`}, 20 * time.Minute},
		labels: map[string]string{"cause": "rejected"},
		quiet:  situation{[]string{`autoburst_late_grant_failures_total{cause="changed"} 0+1x40`}, 20 * time.Minute}, // looked at again
	},
	"AutoburstTargetsSuspended": {
		fires: situation{[]string{`autoburst_suspended_targets 2x60`}, 40 * time.Minute},
		quiet: situation{[]string{`autoburst_suspended_targets 2x20 0x40`}, 40 * time.Minute},
	},
	"AutoburstCloudUnreachable": {
		fires: situation{[]string{
			agent("autoburst_vnode_cloud_reachable", "a", "0x20"), agent("autoburst_vnode_leader", "a", "1x20"),
			agent("autoburst_vnode_cloud_reachable", "b", "0x20"), agent("autoburst_vnode_leader", "b", "0x20"),
		}, 10 * time.Minute},
		labels: node,
		quiet: situation{[]string{ // the one that stands by asks nothing
			agent("autoburst_vnode_cloud_reachable", "a", "1x20"), agent("autoburst_vnode_leader", "a", "1x20"),
			agent("autoburst_vnode_cloud_reachable", "b", "0x20"), agent("autoburst_vnode_leader", "b", "0x20"),
		}, 10 * time.Minute},
	},
	"AutoburstCloudOperationFails": {
		fires:  situation{[]string{agent(`autoburst_vnode_cloud_operation_failing`, `a",operation="Delete`, "1x30")}, 20 * time.Minute},
		labels: map[string]string{"virtual_node": "virtual-eci", "provider": "eci", "operation": "Delete"},
		quiet:  situation{[]string{agent(`autoburst_vnode_cloud_operation_failing`, `a",operation="Delete`, "1x10 _x20")}, 20 * time.Minute},
	},
	"AutoburstAgentMissing": {
		fires:  situation{[]string{agent("autoburst_vnode_leader", "a", "0x20"), agent("autoburst_vnode_leader", "b", "0x20")}, 10 * time.Minute},
		labels: node,
		quiet:  situation{[]string{agent("autoburst_vnode_leader", "a", "1x5 0x15"), agent("autoburst_vnode_leader", "b", "0x5 1x15")}, 10 * time.Minute}, // taken over
	},
	"AutoburstAgentWithoutStandby": {
		fires:  situation{[]string{agent("autoburst_vnode_leader", "a", "1x30")}, 20 * time.Minute},
		labels: node,
		quiet:  situation{[]string{agent("autoburst_vnode_leader", "a", "1x30"), agent("autoburst_vnode_leader", "b", "0x30")}, 20 * time.Minute},
	},
	"AutoburstCreatesFail": {
		fires: situation{[]string{
			agent("autoburst_provider_requests_total", `a",operation="Create",code="OK`, "0+5x40"),
			agent("autoburst_provider_requests_total", `a",operation="Create",code="Unauthorized`, "0+5x40"),
		}, 30 * time.Minute},
		labels: node,
		quiet: situation{[]string{ // for want of room is another matter, and one of ten is little
			agent("autoburst_provider_requests_total", `a",operation="Create",code="OK`, "0+9x40"),
			agent("autoburst_provider_requests_total", `a",operation="Create",code="OutOfStock`, "0+50x40"),
			agent("autoburst_provider_requests_total", `a",operation="Create",code="Unknown`, "0+1x40"),
		}, 30 * time.Minute},
	},
	"AutoburstThrottled": {
		fires:  situation{[]string{agent("autoburst_vnode_quota_throttled_total", `a",operation="CreateContainerGroup`, "0+1x60")}, 50 * time.Minute},
		labels: map[string]string{"virtual_node": "virtual-eci", "provider": "eci", "operation": "CreateContainerGroup"},
		quiet:  situation{[]string{agent("autoburst_vnode_quota_throttled_total", `a",operation="CreateContainerGroup`, "0+1x20 20x40")}, 50 * time.Minute},
	},
	"AutoburstNoCapacity": {
		fires: situation{[]string{
			agent("autoburst_vnode_pods_held", "a", "7x30"), agent("autoburst_vnode_cloud_reachable", "a", "1x30"),
			agent("autoburst_vnode_node_condition", `a",condition="CapacityAvailable`, "0x30"),
		}, 20 * time.Minute},
		labels: node,
		quiet: situation{[]string{ // the cloud is down: another alert
			agent("autoburst_vnode_pods_held", "a", "7x30"), agent("autoburst_vnode_cloud_reachable", "a", "0x30"),
			agent("autoburst_vnode_node_condition", `a",condition="CapacityAvailable`, "0x30"),
		}, 20 * time.Minute},
	},
	"AutoburstGroupsWithoutPod": {
		fires:  situation{[]string{agent("autoburst_vnode_groups_without_pod_long", "a", "1x20")}, 10 * time.Minute},
		labels: node,
		quiet:  situation{[]string{agent("autoburst_vnode_groups_without_pod_long", "a", "1x3 0x20")}, 10 * time.Minute},
	},
	"AutoburstStatusesAreOld": {
		fires:  situation{[]string{agent("autoburst_vnode_last_sweep_timestamp_seconds", "a", "60x40")}, 20 * time.Minute},
		labels: node,
		quiet: situation{[]string{ // one that has never led does not count
			agent("autoburst_vnode_last_sweep_timestamp_seconds", "a", "0+60x40"), agent("autoburst_vnode_last_sweep_timestamp_seconds", "b", "0x40"),
		}, 20 * time.Minute},
	},
	"AutoburstCreateLoop": {
		fires:  situation{[]string{agent("autoburst_vnode_create_loops_total", "a", "0x5 1x30")}, 10 * time.Minute},
		labels: node,
		quiet:  situation{[]string{agent("autoburst_vnode_create_loops_total", "a", "3x30")}, 10 * time.Minute},
	},
	"AutoburstAgentPanics": {
		fires:  situation{[]string{agent("autoburst_vnode_panics_total", "a", "0x5 1x30")}, 10 * time.Minute},
		labels: node,
		quiet:  situation{[]string{agent("autoburst_vnode_panics_total", "a", "0x5 1x60")}, 50 * time.Minute},
	},
	"AutoburstCloudClockDiffers": {
		fires:  situation{[]string{agent("autoburst_provider_clock_offset_seconds", "a", "-120x30")}, 20 * time.Minute},
		labels: node,
		quiet:  situation{[]string{agent("autoburst_provider_clock_offset_seconds", "a", "20x30")}, 20 * time.Minute},
	},
}

var node = map[string]string{"virtual_node": "virtual-eci", "provider": "eci"}

// agent is a series of the named agent of a virtual node.
func agent(metric, instance, values string) string {
	return fmt.Sprintf(`%s{virtual_node="virtual-eci",provider="eci",instance="%s"} %s`, metric, instance, values)
}

// TestAlertsFire has promtool play every alert twice.
func TestAlertsFire(t *testing.T) {
	rules, err := Rules()
	if err != nil {
		t.Fatal(err)
	}
	type sample struct {
		Labels string  `json:"labels"`
		Value  float64 `json:"value"`
	}
	type query struct {
		Expr    string   `json:"expr"`
		At      string   `json:"eval_time"`
		Samples []sample `json:"exp_samples"`
	}
	type series struct {
		Series string `json:"series"`
		Values string `json:"values"`
	}
	type group struct {
		Name     string   `json:"name"`
		Interval string   `json:"interval"`
		Input    []series `json:"input_series"`
		Queries  []query  `json:"promql_expr_test"`
	}
	var groups []group
	add := func(name string, s situation, alert string, want []sample) {
		g := group{Name: name, Interval: "1m", Queries: []query{{fmt.Sprintf("ALERTS{alertname=%q,alertstate=\"firing\"}", alert), s.at.String(), want}}}
		for _, text := range s.series {
			i := strings.LastIndex(text, "} ") + 1
			if i == 0 {
				i = strings.Index(text, " ")
			}
			g.Input = append(g.Input, series{text[:i], text[i+1:]})
		}
		groups = append(groups, g)
	}
	var names []string
	for _, r := range rules.Alerts() {
		names = append(names, r.Alert)
		a, ok := alerts[r.Alert]
		if !ok {
			t.Errorf("%s has no case: say when it fires and when it is quiet", r.Alert)
			continue
		}
		labels := []string{fmt.Sprintf("alertname=%q", r.Alert), `alertstate="firing"`, fmt.Sprintf("severity=%q", r.Labels["severity"])}
		for name, value := range a.labels {
			labels = append(labels, fmt.Sprintf("%s=%q", name, value))
		}
		add(r.Alert+" fires", a.fires, r.Alert, []sample{{"ALERTS{" + strings.Join(labels, ",") + "}", 1}})
		add(r.Alert+" is quiet", a.quiet, r.Alert, nil)
	}
	for name := range alerts {
		if !slices.Contains(names, name) {
			t.Errorf("there is no alert %s", name)
		}
	}
	paths, err := RulePaths()
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(map[string]any{"rule_files": paths, "evaluation_interval": "1m", "tests": groups})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "alerts.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "test", "rules", file)
}

func TestRulesAreValid(t *testing.T) {
	paths, err := RulePaths()
	if err != nil {
		t.Fatal(err)
	}
	promtool(t, append([]string{"check", "rules", "--lint=all", "--lint-fatal"}, paths...)...)
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t, "promtool"), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args[:2], " "), err, out)
	}
}

// program is one of Debian's package of Prometheus.
func program(t *testing.T, name string) string {
	t.Helper()
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := debian.Extract(t.Context(), filepath.Join(root, ".cache", "debian"), "prometheus")
	if err != nil {
		t.Fatal(err)
	}
	path, err := tree.Program(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	severities = []string{"warning", "critical"}
	used       = regexp.MustCompile(`\$labels\.([a-z_]+)`)
	grouping   = regexp.MustCompile(`by \(([a-z_, ]*)\)`)
)

// TestAlertsSayWhatToDo checks what an alert tells, and that each has its section in
// the runbook, and each section its alert.
func TestAlertsSayWhatToDo(t *testing.T) {
	rules, err := Rules()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range rules.Alerts() {
		names = append(names, r.Alert)
		if !slices.Contains(severities, r.Labels["severity"]) {
			t.Errorf("%s is of severity %q", r.Alert, r.Labels["severity"])
		}
		if want := runbook + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s has the runbook %q, want %s", r.Alert, r.Annotations["runbook_url"], want)
		}
		for _, annotation := range []string{"summary", "description"} {
			text := r.Annotations[annotation]
			if text == "" || !strings.HasSuffix(text, ".") {
				t.Errorf("%s: its %s is no sentence: %q", r.Alert, annotation, text)
			}
			by := grouping.FindStringSubmatch(r.Expr)
			for _, label := range used.FindAllStringSubmatch(text, -1) {
				if by == nil || !slices.Contains(strings.Split(strings.ReplaceAll(by[1], " ", ""), ","), label[1]) {
					t.Errorf("%s: its %s names the label %s, which the result of its query does not have", r.Alert, annotation, label[1])
				}
			}
		}
	}
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs/alerts.md"))
	if err != nil {
		t.Fatal(err)
	}
	var sections []string
	for _, part := range strings.Split(string(page), "\n### ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		sections = append(sections, name)
		for _, heading := range []string{"**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Mitigation.**"} {
			if !strings.Contains(text, "\n"+heading+" ") {
				t.Errorf("docs/alerts.md: section %s has no %s", name, heading)
			}
		}
		if !strings.Contains(text, "```sh\n") {
			t.Errorf("docs/alerts.md: section %s shows no command", name)
		}
	}
	if diff := cmp.Diff(names, sections); diff != "" {
		t.Errorf("alerts and sections of docs/alerts.md, in this order (-alerts +sections):\n%s", diff)
	}
}

// TestQueriesNameMetrics: a query of a metric that nobody shows never fires, and
// never says so.
func TestQueriesNameMetrics(t *testing.T) {
	rules, err := Rules()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules.Alerts() {
		checkMetrics(t, r.Alert, r.Expr)
	}
}

// Pages that name a metric name one that there is.
func TestPagesNameMetrics(t *testing.T) {
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages, %v", err)
	}
	for _, page := range append(pages, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		checkMetrics(t, filepath.Base(page), string(text))
	}
}

// checkMetrics compares the metrics of a query with their reference.
func checkMetrics(t *testing.T, what, query string) {
	t.Helper()
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	reference, err := os.ReadFile(filepath.Join(root, "docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Metrics(query) {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && strings.Contains(string(reference), "`"+base+"` | histogram") {
				name = base
			}
		}
		if !strings.Contains(string(reference), "| `"+name+"` |") {
			t.Errorf("%s: there is no metric %s in docs/metrics.md", what, name)
		}
	}
}
