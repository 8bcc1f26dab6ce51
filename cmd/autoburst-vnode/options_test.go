package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/vnode"
)

func environment(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return m[name] }
}

func TestSettingsOfOlderVirtualNodes(t *testing.T) {
	type result struct {
		Cloud, Name, IP, Listen, Metrics string
		Taint                            corev1.Taint
	}
	for name, test := range map[string]struct {
		args []string
		env  []string
		want result
	}{
		"the ECI manifest": {
			args: []string{"--provider", "alibabacloud"},
			env:  []string{"KUBELET_PORT", "10250", "VKUBELET_POD_IP", "172.20.1.5", "VKUBELET_TAINT_KEY", "alibabacloud.com/eci", "VKUBELET_TAINT_EFFECT", "NoSchedule"},
			want: result{"eci", "virtual-kubelet", "172.20.1.5", ":10250", ":10255", corev1.Taint{Key: "alibabacloud.com/eci", Value: "alibabacloud", Effect: "NoSchedule"}},
		},
		"the ACI chart": {
			args: []string{"--provider", "azure", "--nodename", "vk-aci"},
			env:  []string{"KUBELET_PORT", "10255", "VKUBELET_POD_IP", "fd00::5"},
			want: result{"aci", "vk-aci", "fd00::5", ":10255", ":10250", corev1.Taint{Key: "virtual-kubelet.io/provider", Value: "azure", Effect: "NoSchedule"}},
		},
		"flags go before variables": {
			args: []string{"--provider=eci", "--node-name=n", "--node-ip=192.0.2.9", "--kubelet-port=1234", "--kubelet-bind-address=127.0.0.1", "--taint-value=v", "--taint-effect=NoExecute"},
			env:  []string{"DEFAULT_NODE_NAME", "other", "KUBELET_PORT", "1", "VKUBELET_POD_IP", "192.0.2.1", "VKUBELET_TAINT_VALUE", "w"},
			want: result{"eci", "n", "192.0.2.9", "127.0.0.1:1234", ":10255", corev1.Taint{Key: "virtual-kubelet.io/provider", Value: "v", Effect: "NoExecute"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := parse(test.args, environment(test.env...), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			n := o.config.Node
			if diff := cmp.Diff(test.want, result{o.cloud, n.Name, n.InternalIP, o.kubeletAt.Value, o.metricsAt.Value, n.Taint}); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBadSettingsAreNamed(t *testing.T) {
	for _, test := range []struct{ arg, want string }{
		{"--provider=gcp", `--provider is "gcp"`},
		{"--node-ip=host", `--node-ip (VKUBELET_POD_IP) is "host"`},
		{"--kubelet-port=99999", `--kubelet-port (KUBELET_PORT) is "99999"`},
		{"--kubelet-port=0", `--kubelet-port (KUBELET_PORT) is "0"`},
		{"--cpu=lots", `--cpu is "lots"`},
		{"--memory=-1Gi", `--memory is "-1Gi"`},
		{"--cluster-dns=kube-dns", `--cluster-dns has "kube-dns"`},
		{"--gpus=some", `--gpus is "some"`},
		{"--waive=subdomain,hostNetwork", "--waive (WAIVE) names hostNetwork, which cannot be waived"},
		{"--tls-cert-file=x", "belong together"},
		{"--workers=0", "--workers is 0"},
		{"--writers=0", "--writers is 0"},
		{"--cloud-quota=CreateContainerGroup=20", "--cloud-quota (CLOUD_QUOTA): quota of CreateContainerGroup"},
		{"--sweep-interval=0s", "--sweep-interval is 0s"},
		{"--reads-per-second=-1", "--reads-per-second is -1"},
		{"--leader-elect", "--leader-elect needs a namespace"},
		{"--tracing-endpoint=ftp://collector", "--tracing-endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) is no URL"},
		{"--tracing-sampling-ratio=-1", "--tracing-sampling-ratio is -1"},
		{"--log-level=loud", `--log-level is "loud"`},
		{"--log-format=xml", `--log-format is "xml"`},
		{"--no-such-flag", "no-such-flag"},
		{"stray", `argument "stray"`},
	} {
		t.Run(test.arg, func(t *testing.T) {
			_, err := parse([]string{"--provider=eci", "--node-ip=192.0.2.1", test.arg}, environment(), io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestServingCertificateFromTheCluster(t *testing.T) {
	args := []string{"--provider=eci", "--node-ip=192.0.2.1", "--rotate-server-certificates"}
	o, err := parse(args, environment(), io.Discard)
	if err != nil || !o.api.FromCluster {
		t.Errorf("settings %+v, error %v", o.api, err)
	}
	if _, err := parse(append(args, "--tls-cert-file=c", "--tls-private-key-file=k"), environment(), io.Discard); err == nil || !strings.Contains(err.Error(), "two ways to the same certificate") {
		t.Errorf("with files as well: error %v", err)
	}
}

func TestServingCertificateFromCertManager(t *testing.T) {
	args := []string{"--provider=eci", "--node-ip=192.0.2.1", "--cert-manager-issuer=ClusterIssuer/kubelets"}
	pod := environment("POD_NAME", "agent-1", "POD_NAMESPACE", "autoburst-system")
	o, err := parse(args, pod, io.Discard)
	want := vnode.CertManagerSettings{
		RequestName: "agent-1", Duration: 90 * 24 * time.Hour,
		Issuer: cmmeta.IssuerReference{Kind: "ClusterIssuer", Name: "kubelets", Group: "cert-manager.io"},
	}
	if err != nil || o.api.CertManager != want {
		t.Errorf("settings %+v, error %v, want %+v", o.api.CertManager, err, want)
	}
	if o, err := parse(args[:2], pod, io.Discard); err != nil || o.api.CertManager != (vnode.CertManagerSettings{}) {
		t.Errorf("without an issuer: settings %+v, error %v", o.api.CertManager, err)
	}
	for name, test := range map[string]struct {
		more []string
		env  func(string) string
		want string
	}{
		"no kind":       {[]string{"--cert-manager-issuer=kubelets"}, pod, "write KIND/NAME"},
		"bad name":      {[]string{"--cert-manager-issuer=Issuer/A_B"}, pod, "write KIND/NAME"},
		"no group":      {[]string{"--cert-manager-issuer-group="}, pod, "--cert-manager-issuer-group is empty"},
		"short":         {[]string{"--cert-manager-duration=1s"}, pod, "at least 10s"},
		"no pod":        {nil, environment(), "needs POD_NAME and POD_NAMESPACE"},
		"two ways":      {[]string{"--rotate-server-certificates"}, pod, "ways to the same certificate"},
		"files as well": {[]string{"--tls-cert-file=c", "--tls-private-key-file=k"}, pod, "ways to the same certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(slices.Concat(args, test.more), test.env, io.Discard); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestElectionSettings(t *testing.T) {
	for name, test := range map[string]struct {
		args, env []string
		want      vnode.ElectionSettings
		err       string
	}{
		"by hand": {env: []string{"POD_NAMESPACE", "ns", "POD_NAME", "agent-1"}},
		"in the chart": {
			args: []string{"--leader-elect", "--leader-elect-resource-name=agents"},
			env:  []string{"POD_NAMESPACE", "ns", "POD_NAME", "agent-1"},
			want: vnode.ElectionSettings{
				Namespace: "ns", Name: "agents", Identity: "agent-1",
				LeaseDuration: 10 * time.Second, RenewDeadline: 7 * time.Second, RetryPeriod: 1500 * time.Millisecond,
			},
		},
		"all set": {
			args: []string{
				"--leader-elect", "--leader-elect-resource-namespace=other", "--leader-elect-identity=me",
				"--leader-elect-lease-duration=30s", "--leader-elect-renew-deadline=20s", "--leader-elect-retry-period=5s",
			},
			want: vnode.ElectionSettings{
				Namespace: "other", Name: "autoburst-vnode-virtual-kubelet", Identity: "me",
				LeaseDuration: 30 * time.Second, RenewDeadline: 20 * time.Second, RetryPeriod: 5 * time.Second,
			},
		},
		"a deadline that is too long": {
			args: []string{"--leader-elect", "--leader-elect-renew-deadline=10s"}, env: []string{"POD_NAMESPACE", "ns"},
			err: "--leader-elect-lease-duration 10s, --leader-elect-renew-deadline 10s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := parse(append([]string{"--provider=eci", "--node-ip=192.0.2.1"}, test.args...), environment(test.env...), io.Discard)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want one with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, o.config.Election); diff != "" {
				t.Errorf("election (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("names differ without a pod's", func(t *testing.T) {
		names := map[string]bool{}
		for range 2 {
			o, err := parse([]string{"--provider=eci", "--node-ip=192.0.2.1", "--leader-elect", "--leader-elect-resource-namespace=ns"}, environment(), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			names[o.config.Election.Identity] = true
		}
		if len(names) != 2 || names[""] {
			t.Errorf("identities %v", names)
		}
	})
}

func TestExitCodes(t *testing.T) {
	for name, test := range map[string]struct {
		args, env []string
		code      int
		stdout    string
		help      bool
		stderr    []string
	}{
		"version": {args: []string{"--version"}, stdout: version + "\n"},
		"help":    {args: []string{"--help"}, help: true},
		"nothing": {code: 2, stderr: []string{"autoburst-vnode: --provider is not set", "autoburst-vnode: --node-ip is not set"}},
		"no settings of the cloud": {
			args: []string{"--provider", "alibabacloud", "--node-ip", "192.0.2.1"}, code: 1,
			stderr: []string{"ECI_REGION", "ECI_VSWITCH"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(test.args, environment(test.env...), &stdout, &stderr); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if test.help {
				for _, want := range []string{"Usage:", "\nNode:\n", "\nKubelet API:\n", "--kubelet-port", "(default \"10250\")"} {
					if !strings.Contains(stdout.String(), want) {
						t.Errorf("the help lacks %q:\n%s", want, stdout.String())
					}
				}
				return
			}
			if stdout.String() != test.stdout {
				t.Errorf("stdout %q, want %q", stdout.String(), test.stdout)
			}
			for _, want := range test.stderr {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr %q lacks %q", stderr.String(), want)
				}
			}
		})
	}
}
