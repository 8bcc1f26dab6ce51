package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/autoburst/autoburst/cmd/startup"
	"github.com/autoburst/autoburst/policy/store"
	"github.com/autoburst/autoburst/policy/tracing"
	"github.com/autoburst/autoburst/webhook/certs"
)

// The values of --admission.
const (
	admissionWebhook = "webhook"
	admissionPolicy  = "mutating-admission-policy"
)

// options are the settings of the program.
type options struct {
	kubeconfig string
	namespace  string
	// excludedNamespaces are never touched, beside those of Kubernetes and of the release.
	excludedNamespaces []string
	version            bool

	// admission is who admits pods: admissionWebhook or admissionPolicy.
	admission string

	webhookHost       string
	webhookPort       int
	webhookURL        string
	webhookDNSNames   string
	configurationName string
	caSecretName      string
	authorityLife     time.Duration
	leafLife          time.Duration
	certInterval      time.Duration
	tlsSecretName     string
	certificateName   string
	writeBundle       bool
	switchName        string
	policyName        string
	ledgerName        string
	replica           string

	metricsAddress string
	healthAddress  string
	leaderElect    bool

	logFormat string
	logLevel  string
	tracing   tracing.Options

	// dnsNames and ips are what the API server calls the webhook by; parse fills
	// them from the two settings above.
	dnsNames []string
	ips      []net.IP
	level    slog.Level
}

// parseOptions reads the command line; getenv gives the defaults that the chart
// sets. A request for help is pflag.ErrHelp, and the text goes to usage.
func parseOptions(args []string, getenv func(string) string, usage io.Writer) (options, error) {
	var o options
	fs := startup.NewFlags("autoburst", "autoburst is the policy side of Autoburst: the admission webhook, on every replica, and the policy controller, on\nthe elected one.")
	g := fs.Group("Cluster")
	g.StringVar(&o.kubeconfig, "kubeconfig", getenv("KUBECONFIG"),
		"`file` that tells where the API server is; in a cluster, the pod's own ServiceAccount by default (KUBECONFIG)")
	g.StringVar(&o.namespace, "namespace", getenv("POD_NAMESPACE"),
		"`namespace` of the release: it holds the lease and the CA Secret, and its pods never burst (POD_NAMESPACE)")
	g.StringSliceVar(&o.excludedNamespaces, "excluded-namespaces", nil,
		"`namespaces` that are never touched, beside kube-system, kube-node-lease and that of the release, separated by commas")
	g.StringVar(&o.replica, "replica-name", cmp.Or(getenv("POD_NAME"), "autoburst"),
		"`name` of this replica, by which its shares of limits are known (POD_NAME)")
	g.BoolVar(&o.leaderElect, "leader-elect", true,
		"elect one replica to write grants and status; turn it off only for a single replica")
	g.StringVar(&o.switchName, "switch-name", "autoburst-switch",
		"`name` of the ConfigMap of the release namespace that stops all bursting while it exists and its key "+store.SwitchKey+" is true")
	g.StringVar(&o.ledgerName, "ledger-name", "autoburst-ledger",
		"`name` of the ConfigMap of the release namespace in which the elected replica keeps what is reserved under limits")

	g = fs.Group("Admission")
	g.StringVar(&o.admission, "admission", admissionWebhook,
		"`who` admits pods: "+admissionWebhook+", or "+admissionPolicy+", the API server itself from Kubernetes 1.36 on")
	g.StringVar(&o.policyName, "mutating-admission-policy-name", "autoburst",
		"`name` of the MutatingAdmissionPolicy that reads the BurstAdmission of the same name, with --admission="+admissionPolicy)
	g.StringVar(&o.webhookHost, "webhook-host", "", "`address` that the webhook listens on; empty means all")
	g.IntVar(&o.webhookPort, "webhook-port", 9443, "`port` that the webhook listens on")
	g.StringVar(&o.webhookURL, "webhook-url", "",
		"`URL` by which the API server reaches the webhook, if not by a Service; its host goes into the serving certificate")
	g.StringVar(&o.webhookDNSNames, "webhook-dns-names", "",
		"DNS `names` and IP addresses of the webhook for its serving certificate, separated by commas; autoburst-webhook.NAMESPACE.svc by default")
	g.StringVar(&o.configurationName, "webhook-configuration-name", "autoburst",
		"`name` of the MutatingWebhookConfiguration that is given the CA bundle")
	g.StringVar(&o.caSecretName, "ca-secret-name", "autoburst-webhook-ca",
		"`name` of the Secret of the release namespace that keeps the webhook's CA")
	g.DurationVar(&o.authorityLife, "ca-lifetime", certs.DefaultAuthorityLife,
		"how long that CA is valid; another takes its place at two thirds")
	g.DurationVar(&o.leafLife, "certificate-lifetime", certs.DefaultLeafLife,
		"how long a serving certificate of that CA is valid, at most a sixth of the CA's lifetime; another takes its place at two thirds")
	g.StringVar(&o.tlsSecretName, "tls-secret-name", "",
		"`name` of the Secret of the release namespace with the serving certificate (tls.crt, tls.key, ca.crt), in place of a CA of one's own")
	g.StringVar(&o.certificateName, "tls-certificate-name", "",
		"`name` of cert-manager's Certificate that keeps the Secret of --tls-secret-name")
	g.BoolVar(&o.writeBundle, "write-ca-bundle", true,
		"write the CA bundle into the MutatingWebhookConfiguration; false leaves that to cert-manager's cainjector or to whoever renders it, and needs --tls-secret-name")
	g.DurationVar(&o.certInterval, "certificate-check-interval", certs.DefaultInterval,
		"how often the serving certificate is checked, and how long the API server has to learn of a new CA before it is used")

	g = fs.Group("Health, metrics, traces and logs")
	g.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080", "`IP:PORT` of the metrics endpoint; 0 turns it off")
	g.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081", "`IP:PORT` of /healthz and /readyz; 0 turns it off")
	o.tracing.AddFlags(g, getenv)
	g.StringVar(&o.logFormat, "log-format", "json", "json or text")
	g.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	g.BoolVar(&o.version, "version", false, "print the version and end")

	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			fs.Usage(usage)
		}
		return options{}, err
	}
	if o.version {
		return o, nil
	}
	if err := o.check(); err != nil {
		return options{}, err
	}
	return o, nil
}

// excluded are the namespaces that are never touched, beside those of Kubernetes.
func (o *options) excluded() []string {
	return append([]string{o.namespace}, o.excludedNamespaces...)
}

// check validates the settings and works out what follows from them. Its error
// names every one that is wrong, one to a line.
func (o *options) check() error {
	var errs []error
	if problems := validation.IsDNS1123Label(o.namespace); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--namespace (POD_NAMESPACE) is %q: set it to the namespace of the release; %s", o.namespace, problems[0]))
	}
	for _, name := range o.excludedNamespaces {
		if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
			errs = append(errs, fmt.Errorf("--excluded-namespaces has %q: write names of namespaces, separated by commas; %s", name, problems[0]))
		}
	}
	if o.admission != admissionWebhook && o.admission != admissionPolicy {
		errs = append(errs, fmt.Errorf("--admission is %q: choose %s or %s", o.admission, admissionWebhook, admissionPolicy))
	}
	if o.webhookPort < 1 || o.webhookPort > 65535 {
		errs = append(errs, fmt.Errorf("--webhook-port is %d: write a port from 1 to 65535", o.webhookPort))
	}
	for _, name := range []struct{ flag, value string }{
		{"--webhook-configuration-name", o.configurationName},
		{"--ca-secret-name", o.caSecretName},
		{"--switch-name", o.switchName},
		{"--mutating-admission-policy-name", o.policyName},
		{"--ledger-name", o.ledgerName},
		{"--replica-name (POD_NAME)", o.replica},
	} {
		if problems := validation.IsDNS1123Subdomain(name.value); len(problems) > 0 {
			errs = append(errs, fmt.Errorf("%s is %q: write an object's name; %s", name.flag, name.value, problems[0]))
		}
	}
	errs = append(errs, o.checkCertificates(), o.tracing.Check())
	if o.logFormat != "json" && o.logFormat != "text" {
		errs = append(errs, fmt.Errorf("--log-format is %q: choose json or text", o.logFormat))
	}
	if err := o.level.UnmarshalText([]byte(o.logLevel)); err != nil {
		errs = append(errs, fmt.Errorf("--log-level is %q: choose debug, info, warn or error", o.logLevel))
	}
	return errors.Join(append(errs, startup.CheckAddresses(o.addresses()...), o.checkNames())...)
}

// addresses are all that the program listens on.
func (o *options) addresses() []startup.Address {
	var all []startup.Address
	if o.admission == admissionWebhook && o.webhookPort > 0 && o.webhookPort <= 65535 {
		all = append(all, startup.Address{Flag: "--webhook-host and --webhook-port", Value: net.JoinHostPort(o.webhookHost, strconv.Itoa(o.webhookPort))})
	}
	for _, a := range []startup.Address{{Flag: "--metrics-bind-address", Value: o.metricsAddress}, {Flag: "--health-probe-bind-address", Value: o.healthAddress}} {
		if a.Value != "0" {
			all = append(all, a)
		}
	}
	return all
}

// checkCertificates validates where the serving certificate comes from.
func (o *options) checkCertificates() error {
	for _, name := range []struct{ flag, value string }{{"--tls-secret-name", o.tlsSecretName}, {"--tls-certificate-name", o.certificateName}} {
		if name.value == "" {
			continue
		}
		if problems := validation.IsDNS1123Subdomain(name.value); len(problems) > 0 {
			return fmt.Errorf("%s is %q: write an object's name; %s", name.flag, name.value, problems[0])
		}
	}
	switch {
	case o.certificateName != "" && o.tlsSecretName == "":
		return errors.New("--tls-certificate-name needs --tls-secret-name, the Secret that the Certificate keeps")
	case !o.writeBundle && o.tlsSecretName == "":
		return errors.New("--write-ca-bundle=false needs --tls-secret-name: nobody else knows the CA that is kept without it")
	case o.certInterval < 100*time.Millisecond || o.certInterval > time.Minute:
		return fmt.Errorf("--certificate-check-interval is %s: write a time from 100ms to 1m", o.certInterval)
	case o.leafLife < 3*o.certInterval:
		return fmt.Errorf("--certificate-lifetime is %s: write at least three times --certificate-check-interval, %s", o.leafLife, o.certInterval)
	case o.leafLife > o.authorityLife/6:
		return fmt.Errorf("--certificate-lifetime is %s: write at most a sixth of --ca-lifetime, %s", o.leafLife, o.authorityLife)
	}
	return nil
}

// checkNames fills dnsNames and ips.
func (o *options) checkNames() error {
	var errs []error
	for name := range strings.SplitSeq(cmp.Or(o.webhookDNSNames, "autoburst-webhook."+o.namespace+".svc"), ",") {
		if err := o.addName(strings.TrimSpace(name)); err != nil && o.webhookDNSNames != "" {
			errs = append(errs, fmt.Errorf("--webhook-dns-names is %q: %w", o.webhookDNSNames, err))
		}
	}
	if o.webhookURL == "" {
		return errors.Join(errs...)
	}
	u, err := url.Parse(o.webhookURL)
	switch {
	// The parser's message may quote credentials inside the URL: neither is told.
	case err != nil || u.User != nil:
		errs = append(errs, errors.New("--webhook-url is no URL that the API server takes: write https://HOST:PORT, without credentials"))
	case u.Scheme != "https" || u.Hostname() == "":
		errs = append(errs, fmt.Errorf("--webhook-url is %q: write https://HOST:PORT", o.webhookURL))
	default:
		if err := o.addName(u.Hostname()); err != nil {
			errs = append(errs, fmt.Errorf("--webhook-url is %q: %w", o.webhookURL, err))
		}
	}
	return errors.Join(errs...)
}

func (o *options) addName(name string) error {
	if ip := net.ParseIP(name); ip != nil {
		o.ips = append(o.ips, ip)
		return nil
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return fmt.Errorf("%q is neither a DNS name nor an IP address; %s", name, problems[0])
	}
	o.dnsNames = append(o.dnsNames, name)
	return nil
}

// logger is the handler of all log lines.
func (o *options) logger(w io.Writer) slog.Handler {
	h := &slog.HandlerOptions{Level: o.level}
	if o.logFormat == "text" {
		return slog.NewTextHandler(w, h)
	}
	return slog.NewJSONHandler(w, h)
}
