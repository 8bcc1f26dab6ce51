package playground

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cluster"
)

// certManagerNamespace is where cert-manager is installed.
const certManagerNamespace = "cert-manager"

// CertManager is cert-manager with its own chart, Roles and ServiceAccounts. Its
// three programs run as processes.
type CertManager struct {
	playground *Playground
	program    string
	port       string
	processes  map[string]*cluster.Process
}

// InstallCertManager installs cert-manager's own chart with all that belongs to it but
// the programs, and starts these. It returns once its webhook answers.
func (p *Playground) InstallCertManager(ctx context.Context) (*CertManager, error) {
	program, source, err := buildModule(ctx, "certmanager", "cert-manager", "github.com/cert-manager/cert-manager", p.progress)
	if err != nil {
		return nil, err
	}
	port, err := cluster.FreePort()
	if err != nil {
		return nil, err
	}
	p.say("installing cert-manager")
	if _, err := p.Helm(ctx, "install", "cert-manager", filepath.Join(source, "deploy", "charts", "cert-manager"),
		"--namespace", certManagerNamespace, "--create-namespace", "--set", "crds.enabled=true,startupapicheck.enabled=false",
		"--set", "replicaCount=0,cainjector.replicaCount=0,webhook.replicaCount=0", "--set", "webhook.url.host=localhost:"+port); err != nil {
		return nil, err
	}
	m := &CertManager{playground: p, program: program, port: port, processes: map[string]*cluster.Process{}}
	for _, part := range []string{"controller", "cainjector", "webhook"} {
		if err := m.Start(ctx, part); err != nil {
			return nil, errors.Join(err, m.Stop())
		}
	}
	if err := m.wait(ctx); err != nil {
		for _, process := range m.processes {
			err = fmt.Errorf("%w\n--- %s\n%s", err, process.Name, process.Tail(10))
		}
		return nil, errors.Join(err, m.Stop())
	}
	return m, nil
}

// Start starts one of controller, cainjector and webhook with its own rights.
func (m *CertManager) Start(ctx context.Context, part string) error {
	account := "cert-manager"
	if part != "controller" {
		account += "-" + part
	}
	kubeconfig, err := m.playground.ServiceAccountKubeconfig(ctx, certManagerNamespace, account)
	if err != nil {
		return err
	}
	args := []string{part, "--kubeconfig=" + kubeconfig, "--namespace=" + certManagerNamespace}
	if part == "webhook" {
		args = append(args, "--port="+m.port)
	}
	process, err := cluster.StartProcess(m.playground.Dir, "cert-manager-"+part, nil, m.program, args...)
	if err == nil {
		m.processes[part] = process
	}
	return err
}

// StopPart stops one of controller, cainjector and webhook.
func (m *CertManager) StopPart(part string) error {
	process := m.processes[part]
	delete(m.processes, part)
	return process.Stop(stopGrace)
}

// Stop stops what runs; the installation stays.
func (m *CertManager) Stop() error {
	var errs []error
	for part := range m.processes {
		errs = append(errs, m.StopPart(part))
	}
	return errors.Join(errs...)
}

// wait waits until cainjector has made the API server trust cert-manager's webhook,
// and that answers.
func (m *CertManager) wait(ctx context.Context) error {
	const issuer = `{"apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "probe", "namespace": "cert-manager"}, "spec": {"selfSigned": {}}}`
	p := m.playground
	return Poll(ctx, time.Minute, "cert-manager answers", func(ctx context.Context) (bool, error) {
		for _, process := range m.processes {
			if err := process.Err(); err != nil {
				return false, err
			}
		}
		var c *admissionregistrationv1.ValidatingWebhookConfiguration
		c, err := p.Client().AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, "cert-manager-webhook", metav1.GetOptions{})
		if err != nil || len(c.Webhooks[0].ClientConfig.CABundle) == 0 {
			return false, err
		}
		_, err = p.Kubectl(ctx, issuer, "apply", "--dry-run=server", "-f", "-")
		return err == nil, err
	})
}
