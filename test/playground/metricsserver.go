package playground

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/autoburst/autoburst/test/cluster"
)

// metricsServerService leads the API server to a program outside the cluster: an
// APIService names a Service, and one with an external name may be anywhere.
const metricsServerService = `
apiVersion: v1
kind: Service
metadata: {name: metrics-server, namespace: kube-system}
spec: {type: ExternalName, externalName: localhost}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  service: {name: metrics-server, namespace: kube-system, port: %s}
  group: metrics.k8s.io
  version: v1beta1
  insecureSkipTLSVerify: true
  groupPriorityMinimum: 100
  versionPriority: 100
`

// StartMetricsServer runs metrics-server with its own ServiceAccount and the Roles
// of its own manifests, behind the API server's aggregation layer. It looks at the
// virtual nodes only, as kwok plays no kubelet that measures. It returns when the API
// is there, which is before there are metrics; stop takes it away again.
func (p *Playground) StartMetricsServer(ctx context.Context) (stop func(context.Context) error, err error) {
	program, source, err := buildModule(ctx, "metricsserver", "metrics-server", "sigs.k8s.io/metrics-server", p.progress)
	if err != nil {
		return nil, err
	}
	if _, err := p.Kubectl(ctx, "", "apply", "-f", filepath.Join(source, "manifests", "base", "rbac.yaml")); err != nil {
		return nil, err
	}
	kubeconfig, err := p.ServiceAccountKubeconfig(ctx, "kube-system", "metrics-server")
	if err != nil {
		return nil, err
	}
	port, err := cluster.FreePort()
	if err != nil {
		return nil, err
	}
	process, err := cluster.StartProcess(p.Dir, "metrics-server", nil, program,
		"--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--bind-address=127.0.0.1", "--secure-port="+port, "--cert-dir="+p.file("metrics-server"),
		"--kubelet-preferred-address-types=InternalIP", "--kubelet-use-node-status-port", "--kubelet-insecure-tls",
		"--kubelet-request-timeout=5s", "--metric-resolution=10s", "--node-selector=type=virtual-kubelet",
	)
	if err != nil {
		return nil, err
	}
	service := fmt.Sprintf(metricsServerService, port)
	stop = func(ctx context.Context) error {
		_, err := p.Kubectl(ctx, service, "delete", "--ignore-not-found", "-f", "-")
		if stopped := process.Stop(stopGrace); err == nil {
			err = stopped
		}
		return err
	}
	if _, err = p.Kubectl(ctx, service, "apply", "-f", "-"); err == nil {
		err = Poll(ctx, time.Minute, "the metrics API is served", func(ctx context.Context) (bool, error) {
			if err := process.Err(); err != nil {
				return false, err
			}
			_, err := p.Kubectl(ctx, "", "get", "--raw", "/apis/metrics.k8s.io/v1beta1")
			return err == nil, err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("starting metrics-server: %w\n%s", errors.Join(err, stop(context.WithoutCancel(ctx))), process.Tail(20))
	}
	return stop, nil
}
