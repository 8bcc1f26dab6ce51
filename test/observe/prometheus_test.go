package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/debian"
	"github.com/autoburst/autoburst/test/playground"
)

// prometheus is a server that scrapes the playground every second.
type prometheus struct {
	process *cluster.Process
	address string
	began   time.Time
}

// startPrometheus runs Debian's Prometheus with these rules against all programs of
// the playground, and the API server.
func startPrometheus(ctx context.Context, p *playground.Playground, rules any) (*prometheus, error) {
	root, err := cluster.RepositoryRoot()
	if err != nil {
		return nil, err
	}
	tree, err := debian.Extract(ctx, filepath.Join(root, ".cache", "debian"), "prometheus")
	if err != nil {
		return nil, err
	}
	program, err := tree.Program("prometheus")
	if err != nil {
		return nil, err
	}
	port, err := cluster.FreePort()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(p.Dir, "prometheus")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	admin := p.Config()
	if err := rest.LoadTLSFiles(admin); err != nil {
		return nil, err
	}
	var controllers, agents []string
	for _, c := range p.Controllers() {
		controllers = append(controllers, c.Metrics)
	}
	for _, node := range []string{playground.ECINode, playground.ACINode} {
		for _, a := range p.Agents(node) {
			agents = append(agents, a.Metrics)
		}
	}
	type object = map[string]any
	targets := func(addresses ...string) []object { return []object{{"targets": addresses}} }
	files := map[string]any{
		"rules.yaml": rules,
		"prometheus.yaml": object{
			"global":     object{"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
			"rule_files": []string{"rules.yaml"},
			"scrape_configs": []object{
				{"job_name": "controller", "static_configs": targets(controllers...)},
				{"job_name": "vnode", "static_configs": targets(agents...)},
				{
					"job_name": "apiserver", "scheme": "https", "static_configs": targets(strings.TrimPrefix(p.Server(), "https://")),
					"scrape_interval": "2s", "scrape_timeout": "2s",
					"tls_config": object{"ca_file": p.CAFile(), "cert_file": "admin.crt", "key_file": "admin.key"},
					// It has very many series.
					"metric_relabel_configs": []object{{"source_labels": []string{"__name__"}, "regex": "apiserver_admission_webhook_fail_open_count", "action": "keep"}},
				},
			},
		},
		"admin.crt": admin.CertData, "admin.key": admin.KeyData,
	}
	for name, content := range files {
		text, ok := content.([]byte)
		if !ok {
			if text, err = yaml.Marshal(content); err != nil {
				return nil, err
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	s := &prometheus{address: "127.0.0.1:" + port, began: time.Now()}
	s.process, err = cluster.StartProcess(dir, "prometheus", nil, program,
		"--config.file="+filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+s.address)
	if err != nil {
		return nil, err
	}
	want := len(controllers) + len(agents) + 1
	return s, playground.Poll(ctx, time.Minute, "Prometheus scrapes all programs", func(ctx context.Context) (bool, error) {
		if err := s.process.Err(); err != nil {
			return false, err
		}
		var data struct {
			ActiveTargets []struct{ ScrapeURL, Health, LastError string }
		}
		if err := s.ask(ctx, "/api/v1/targets", nil, &data); err != nil {
			return false, err
		}
		up := 0
		for _, t := range data.ActiveTargets {
			if t.Health == "up" {
				up++
			} else if t.LastError != "" {
				return false, fmt.Errorf("%s: %s", t.ScrapeURL, t.LastError)
			}
		}
		if up != want {
			return false, fmt.Errorf("%d targets of %d are up", up, want)
		}
		return true, nil
	})
}

// ask asks one of its endpoints and decodes what it says.
func (s *prometheus) ask(ctx context.Context, path string, params url.Values, into any) error {
	text, err := get(ctx, "http://"+s.address+path+"?"+params.Encode())
	if err != nil {
		return err
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// points is how many values a query has had since the server began, without those
// that are no number.
func (s *prometheus) points(ctx context.Context, query string) (n int, err error) {
	var data struct {
		Result []struct {
			Values [][2]any
		}
	}
	unix := func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
	if err := s.ask(ctx, "/api/v1/query_range", url.Values{
		"query": {query}, "start": {unix(s.began)}, "end": {unix(time.Now())}, "step": {"1"},
	}, &data); err != nil {
		return 0, fmt.Errorf("%s: %w", query, err)
	}
	for _, series := range data.Result {
		for _, point := range series.Values {
			text, _ := point[1].(string)
			if value, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(value) {
				n++
			}
		}
	}
	return n, nil
}

// alert is one that Prometheus holds.
type alert struct {
	Labels, Annotations map[string]string
	State               string
}

// firing are the alerts of a name that fire.
func (s *prometheus) firing(ctx context.Context, name string) ([]alert, error) {
	var data struct{ Alerts []alert }
	if err := s.ask(ctx, "/api/v1/alerts", nil, &data); err != nil {
		return nil, err
	}
	var found []alert
	for _, a := range data.Alerts {
		if a.Labels["alertname"] == name && a.State == "firing" {
			found = append(found, a)
		}
	}
	return found, nil
}

// waitAlert waits until an alert fires, or does not any more, and returns those that
// do.
func (s *prometheus) waitAlert(t *testing.T, name string, fires bool) (found []alert) {
	t.Helper()
	if err := playground.Poll(t.Context(), 2*time.Minute, fmt.Sprintf("the alert %s fires: %t", name, fires), func(ctx context.Context) (bool, error) {
		var err error
		found, err = s.firing(ctx, name)
		return (len(found) > 0) == fires, err
	}); err != nil {
		t.Error(err)
	}
	return found
}

func get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 500 {
		return nil, fmt.Errorf("%s answers %s: %s", address, resp.Status, text)
	}
	return text, nil
}
