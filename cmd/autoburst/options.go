package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client/config"

	"github.com/autoburst/autoburst/policy/store"
	"github.com/autoburst/autoburst/tracing"
	"github.com/autoburst/autoburst/webhook/certs"
)

// The values of --admission.
const (
	admissionWebhook = "webhook"
	admissionPolicy  = "mutating-admission-policy"
)

// options are the settings of the program.
type options struct {
	namespace string

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
// sets. A request for help is flag.ErrHelp, and the text goes to usage.
func parseOptions(args []string, getenv func(string) string, usage io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("autoburst", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	config.RegisterFlags(fs)
	fs.StringVar(&o.namespace, "namespace", getenv("POD_NAMESPACE"),
		"Release namespace: it holds the lease and the CA Secret, and its pods never burst. Defaults to POD_NAMESPACE.")
	fs.StringVar(&o.admission, "admission", admissionWebhook,
		"Who admits pods: "+admissionWebhook+", or "+admissionPolicy+", the API server itself from Kubernetes 1.36 on.")
	fs.StringVar(&o.policyName, "mutating-admission-policy-name", "autoburst",
		"MutatingAdmissionPolicy that reads the BurstAdmission of the same name, with --admission="+admissionPolicy+".")
	fs.StringVar(&o.webhookHost, "webhook-host", "", "Address that the webhook listens on; empty means all.")
	fs.IntVar(&o.webhookPort, "webhook-port", 9443, "Port that the webhook listens on.")
	fs.StringVar(&o.webhookURL, "webhook-url", "",
		"URL by which the API server reaches the webhook, if not by a Service. Its host goes into the serving certificate.")
	fs.StringVar(&o.webhookDNSNames, "webhook-dns-names", "",
		"DNS names and IP addresses of the webhook for its serving certificate, separated by commas. Defaults to autoburst-webhook.NAMESPACE.svc.")
	fs.StringVar(&o.configurationName, "webhook-configuration-name", "autoburst",
		"MutatingWebhookConfiguration that is given the CA bundle.")
	fs.StringVar(&o.caSecretName, "ca-secret-name", "autoburst-webhook-ca",
		"Secret of the release namespace that keeps the webhook's CA.")
	fs.DurationVar(&o.authorityLife, "ca-lifetime", certs.DefaultAuthorityLife,
		"How long that CA is valid; another takes its place at two thirds.")
	fs.DurationVar(&o.leafLife, "certificate-lifetime", certs.DefaultLeafLife,
		"How long a serving certificate of that CA is valid, at most a sixth of the CA's lifetime; another takes its place at two thirds.")
	fs.StringVar(&o.tlsSecretName, "tls-secret-name", "",
		"Secret of the release namespace with the serving certificate (tls.crt, tls.key, ca.crt), in place of a CA of one's own.")
	fs.StringVar(&o.certificateName, "tls-certificate-name", "",
		"cert-manager's Certificate that keeps the Secret of --tls-secret-name.")
	fs.BoolVar(&o.writeBundle, "write-ca-bundle", true,
		"Write the CA bundle into the MutatingWebhookConfiguration. False leaves that to cert-manager's cainjector or to whoever renders it; needs --tls-secret-name.")
	fs.DurationVar(&o.certInterval, "certificate-check-interval", certs.DefaultInterval,
		"How often the serving certificate is checked, and how long the API server has to learn of a new CA before it is used.")
	fs.StringVar(&o.switchName, "switch-name", "autoburst-switch",
		"ConfigMap of the release namespace that stops all bursting while it exists and its key "+store.SwitchKey+" is true.")
	fs.StringVar(&o.ledgerName, "ledger-name", "autoburst-ledger",
		"ConfigMap of the release namespace in which the elected replica keeps what is reserved under limits.")
	fs.StringVar(&o.replica, "replica-name", cmp.Or(getenv("POD_NAME"), "autoburst"),
		"Name of this replica, by which its shares of limits are known. Defaults to POD_NAME.")
	fs.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080", "Address of the metrics endpoint; 0 turns it off.")
	fs.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz; 0 turns it off.")
	fs.BoolVar(&o.leaderElect, "leader-elect", true,
		"Elect one replica to write grants and status. Turn it off only for a single replica.")
	o.tracing.AddFlags(fs, getenv)
	fs.StringVar(&o.logFormat, "log-format", "json", "json or text.")
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error.")

	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(usage)
			fs.Usage()
		}
		return options{}, err
	}
	if fs.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q: all settings are flags", fs.Arg(0))
	}
	if err := o.check(); err != nil {
		return options{}, err
	}
	return o, nil
}

// check validates the settings and works out what follows from them.
func (o *options) check() error {
	if problems := validation.IsDNS1123Label(o.namespace); len(problems) > 0 {
		return fmt.Errorf("--namespace %q: %s; set it, or POD_NAMESPACE, to the release namespace", o.namespace, problems[0])
	}
	if o.admission != admissionWebhook && o.admission != admissionPolicy {
		return fmt.Errorf("--admission %q: must be %s or %s", o.admission, admissionWebhook, admissionPolicy)
	}
	if o.webhookPort < 1 || o.webhookPort > 65535 {
		return fmt.Errorf("--webhook-port %d: must be from 1 to 65535", o.webhookPort)
	}
	for _, name := range []struct{ flag, value string }{
		{"--webhook-configuration-name", o.configurationName},
		{"--ca-secret-name", o.caSecretName},
		{"--switch-name", o.switchName},
		{"--mutating-admission-policy-name", o.policyName},
		{"--ledger-name", o.ledgerName},
		{"--replica-name", o.replica},
	} {
		if problems := validation.IsDNS1123Subdomain(name.value); len(problems) > 0 {
			return fmt.Errorf("%s %q: %s", name.flag, name.value, problems[0])
		}
	}
	if err := o.checkCertificates(); err != nil {
		return err
	}
	if err := o.tracing.Check(); err != nil {
		return err
	}
	if o.logFormat != "json" && o.logFormat != "text" {
		return fmt.Errorf("--log-format %q: must be json or text", o.logFormat)
	}
	if err := o.level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: must be debug, info, warn or error", o.logLevel)
	}
	for _, address := range []struct{ flag, value string }{
		{"--metrics-bind-address", o.metricsAddress},
		{"--health-probe-bind-address", o.healthAddress},
	} {
		if address.value == "0" || address.value == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(address.value); err != nil {
			return fmt.Errorf("%s %q: must be HOST:PORT, :PORT, or 0 for none", address.flag, address.value)
		}
	}
	return o.checkNames()
}

// checkCertificates validates where the serving certificate comes from.
func (o *options) checkCertificates() error {
	for _, name := range []struct{ flag, value string }{{"--tls-secret-name", o.tlsSecretName}, {"--tls-certificate-name", o.certificateName}} {
		if name.value == "" {
			continue
		}
		if problems := validation.IsDNS1123Subdomain(name.value); len(problems) > 0 {
			return fmt.Errorf("%s %q: %s", name.flag, name.value, problems[0])
		}
	}
	switch {
	case o.certificateName != "" && o.tlsSecretName == "":
		return errors.New("--tls-certificate-name needs --tls-secret-name, the Secret that the Certificate keeps")
	case !o.writeBundle && o.tlsSecretName == "":
		return errors.New("--write-ca-bundle=false needs --tls-secret-name: nobody else knows the CA that is kept without it")
	case o.certInterval < 100*time.Millisecond || o.certInterval > time.Minute:
		return fmt.Errorf("--certificate-check-interval %s: must be from 100ms to 1m", o.certInterval)
	case o.leafLife < 3*o.certInterval:
		return fmt.Errorf("--certificate-lifetime %s: must be at least three times --certificate-check-interval, %s", o.leafLife, o.certInterval)
	case o.leafLife > o.authorityLife/6:
		return fmt.Errorf("--certificate-lifetime %s: must be at most a sixth of --ca-lifetime, %s", o.leafLife, o.authorityLife)
	}
	return nil
}

// checkNames fills dnsNames and ips.
func (o *options) checkNames() error {
	for name := range strings.SplitSeq(cmp.Or(o.webhookDNSNames, "autoburst-webhook."+o.namespace+".svc"), ",") {
		if err := o.addName(strings.TrimSpace(name)); err != nil {
			return fmt.Errorf("--webhook-dns-names: %w", err)
		}
	}
	if o.webhookURL == "" {
		return nil
	}
	u, err := url.Parse(o.webhookURL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return fmt.Errorf("--webhook-url %q: must be https://HOST:PORT", o.webhookURL)
	}
	if err := o.addName(u.Hostname()); err != nil {
		return fmt.Errorf("--webhook-url: %w", err)
	}
	return nil
}

func (o *options) addName(name string) error {
	if ip := net.ParseIP(name); ip != nil {
		o.ips = append(o.ips, ip)
		return nil
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return fmt.Errorf("%q is neither a DNS name nor an IP address: %s", name, problems[0])
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
