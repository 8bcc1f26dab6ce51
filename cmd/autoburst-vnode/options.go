package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cert-manager/cert-manager/pkg/apis/certmanager"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/autoburst/autoburst/cmd/startup"
	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/tracing"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers/quota"
	"github.com/autoburst/autoburst/vnode"
)

// inClusterCA is the authority that signs for the API server of the cluster
// that a pod runs in; on most clusters it signs the API server's client
// certificate as well.
const inClusterCA = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"

// options are the command line and the environment, checked.
type options struct {
	cloud      string // "eci" or "aci"
	kubeconfig string
	config     vnode.Config
	quota      quota.Settings
	api        vnode.APISettings
	kubeletAt  startup.Address
	metricsAt  startup.Address
	logLevel   slog.Level
	logFormat  string
	tracing    tracing.Options
	version    bool
	// waived are fields that every pod may run without on this node.
	waived []string
}

// clouds are the names under which a provider may be chosen, with the value of
// the taint that virtual nodes of that cloud have always had.
var clouds = map[string]struct{ name, taint string }{
	"eci":          {"eci", "alibabacloud"},
	"alibabacloud": {"eci", "alibabacloud"},
	"aci":          {"aci", "azure"},
	"azure":        {"aci", "azure"},
}

// parse reads the command line over the environment. Its error names every
// setting that is wrong, one to a line.
func parse(args []string, getenv func(string) string, usage io.Writer) (options, error) {
	o := options{config: vnode.Config{}}
	var errs []error
	flags := startup.NewFlags("autoburst-vnode", "autoburst-vnode is one virtual node: it registers the node, runs the pods that are bound to it as container\ngroups of a cloud, and serves their logs. The settings of the cloud are environment variables.")

	env := func(name, otherwise string) string {
		if v := strings.TrimSpace(getenv(name)); v != "" {
			return v
		}
		return otherwise
	}
	fs := flags.Group("Node")
	provider := fs.String("provider", env("PROVIDER", ""), "`cloud` of the node: alibabacloud (eci) or azure (aci) (PROVIDER)")
	node := &o.config.Node
	name := env("DEFAULT_NODE_NAME", "virtual-kubelet")
	fs.StringVar(&node.Name, "nodename", name, "name of the node (DEFAULT_NODE_NAME)")
	fs.StringVar(&node.Name, "node-name", name, "the same as --nodename")
	fs.StringVar(&node.InternalIP, "node-ip", env("VKUBELET_POD_IP", ""), "address at which the API server reaches the agent (VKUBELET_POD_IP)")
	port := fs.String("kubelet-port", env("KUBELET_PORT", "10250"), "port of the kubelet API (KUBELET_PORT)")
	fs.StringVar(&node.Taint.Key, "taint-key", env("VKUBELET_TAINT_KEY", v1alpha1.ProviderTaintKey), "key of the taint that keeps other pods away (VKUBELET_TAINT_KEY)")
	taintValue := fs.String("taint-value", env("VKUBELET_TAINT_VALUE", ""), "value of the taint; the cloud's name by default (VKUBELET_TAINT_VALUE)")
	effect := fs.String("taint-effect", env("VKUBELET_TAINT_EFFECT", string(corev1.TaintEffectNoSchedule)), "effect of the taint (VKUBELET_TAINT_EFFECT)")
	cpu := fs.String("cpu", "", "CPU that the node offers to the scheduler (default 10000)")
	memory := fs.String("memory", "", "memory that the node offers (default 40Ti)")
	pods := fs.String("pods", "", "pods that the node offers (default 5000)")
	gpus := fs.String("gpus", "", "GPUs, of the resource nvidia.com/gpu, that the node offers; without, pods that ask for them stay away")
	waive := fs.String("waive", env("WAIVE", ""), "fields, separated by commas, that every pod may run without on this node where the cloud cannot carry them out: "+strings.Join(burstable.Waivable(), ", ")+" (WAIVE)")

	fs = flags.Group("Cluster")
	fs.StringVar(&o.kubeconfig, "kubeconfig", env("KUBECONFIG", ""), "`file` that tells where the API server is; in a cluster, the pod's own ServiceAccount by default (KUBECONFIG)")
	fs.StringVar(&o.config.ClusterUID, "cluster-uid", "", "identity of the cluster in the tags of groups; the UID of namespace kube-system by default")
	dns := fs.String("cluster-dns", "", "addresses of the cluster's DNS server, separated by commas; without, pods use the cloud's")
	fs.StringVar(&o.config.Resolver.ClusterDomain, "cluster-domain", "cluster.local", "domain of the cluster's services")

	fs = flags.Group("Kubelet API")
	bind := fs.String("kubelet-bind-address", "", "`IP` address to serve the kubelet API on; all by default")
	fs.StringVar(&o.api.CertFile, "tls-cert-file", env("APISERVER_CERT_LOCATION", ""), "`file` with the serving certificate of the kubelet API; made in memory by default (APISERVER_CERT_LOCATION)")
	fs.StringVar(&o.api.KeyFile, "tls-private-key-file", env("APISERVER_KEY_LOCATION", ""), "`file` with the key of the serving certificate (APISERVER_KEY_LOCATION)")
	fs.BoolVar(&o.api.FromCluster, "rotate-server-certificates", false, "ask the cluster's signer kubernetes.io/kubelet-serving for the serving certificate, and in time for the next; somebody must approve each request")
	issuer := fs.String("cert-manager-issuer", "", "`issuer` of cert-manager to ask for the serving certificate, such as Issuer/NAME or ClusterIssuer/NAME, and in time for the next; needs POD_NAME and the namespace of the release")
	group := fs.String("cert-manager-issuer-group", certmanager.GroupName, "API `group` of that issuer")
	fs.DurationVar(&o.api.CertManager.Duration, "cert-manager-duration", 90*24*time.Hour, "how long a certificate of that issuer is to be valid")
	fs.StringVar(&o.api.ClientCAFile, "client-ca-file", env("CLIENT_CA_FILE", ""), "`file` with the authorities of client certificates; in a cluster, that of the ServiceAccount by default (CLIENT_CA_FILE)")

	fs = flags.Group("Election")
	elect := fs.Bool("leader-elect", false, "elect the one that works among the agents of this node; all of them bear its name")
	election := &o.config.Election
	fs.StringVar(&election.Namespace, "leader-elect-resource-namespace", env("POD_NAMESPACE", ""), "namespace of the Lease of the election (POD_NAMESPACE)")
	fs.StringVar(&election.Name, "leader-elect-resource-name", "", "name of the Lease; autoburst-vnode-NODENAME by default")
	fs.StringVar(&election.Identity, "leader-elect-identity", env("POD_NAME", ""), "name of this agent in the election; that of its pod (POD_NAME), or of the host with a random part, by default")
	fs.DurationVar(&election.LeaseDuration, "leader-elect-lease-duration", 10*time.Second, "how long after the leader's last sign of life another agent leads; whole seconds")
	fs.DurationVar(&election.RenewDeadline, "leader-elect-renew-deadline", 7*time.Second, "how long after its last renewal of the Lease the leader stops to write")
	fs.DurationVar(&election.RetryPeriod, "leader-elect-retry-period", 1500*time.Millisecond, "time between two renewals, or two tries to lead")

	fs = flags.Group("Pace")
	fs.IntVar(&o.config.Workers, "workers", 50, "pods that are worked on at once")
	fs.IntVar(&o.config.Writers, "writers", 100, "groups that are created, and that are deleted, at once")
	fs.StringVar(&o.config.Namespace, "namespace", env("POD_NAMESPACE", ""), "namespace of the release, where agents share a cloud account's request quotas out; empty uses them all (POD_NAMESPACE)")
	quotas := fs.String("cloud-quota", env("CLOUD_QUOTA", ""), "request quotas of the cloud account where they differ from the documented ones, such as CreateContainerGroup=200+40/s;DescribeContainerGroups=4000/1m, or unlimited (CLOUD_QUOTA)")
	fs.DurationVar(&o.config.SweepInterval, "sweep-interval", 10*time.Second, "time between two comparisons of all pods with all groups")
	fs.DurationVar(&o.config.FastInterval, "fast-interval", 2*time.Second, "shortest time between two looks at a group that changes")
	fs.DurationVar(&o.config.CheckInterval, "check-interval", 10*time.Second, "time between two checks of the cloud's health")
	fs.DurationVar(&o.config.MissingInterval, "missing-interval", 3*time.Second, "how often a pod that waits for a ConfigMap or Secret is tried again")
	fs.DurationVar(&o.config.CallTimeout, "call-timeout", time.Minute, "bound of one call; also what the agent takes to stop at most")
	fs.DurationVar(&o.config.LogRetention, "log-retention", 24*time.Hour, "how long the group of a pod that has ended is kept for its logs, unless the pod is deleted before")
	grace := fs.String("refusal-grace", env("REFUSAL_GRACE", "10s"), "how long the cloud must have no room for a pod before the pod is failed, so that its owner replaces it elsewhere (REFUSAL_GRACE)")
	pause := fs.String("capacity-pause", env("CAPACITY_PAUSE", "2m"), "how long after the last such refusal the node says that the cloud has no room (CAPACITY_PAUSE)")
	fs.Float64Var(&o.config.ReadsPerSecond, "reads-per-second", 12, "planned reads of single groups, in one second")

	fs = flags.Group("Health, metrics, traces and logs")
	metrics := fs.String("metrics-bind-address", ":10255", "`IP:PORT` of /metrics, /healthz and /readyz, without TLS; :10250 by default where the kubelet API has 10255; empty serves none")
	o.tracing.AddFlags(fs, func(name string) string { return env(name, "") })
	level := fs.String("log-level", "info", "debug, info, warn or error")
	fs.StringVar(&o.logFormat, "log-format", "json", "json or text")
	fs.BoolVar(&o.version, "version", false, "print the version and end")

	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			flags.Usage(usage)
		}
		return options{}, err
	}
	if o.version {
		return o, nil
	}

	cloud, ok := clouds[strings.ToLower(*provider)]
	switch {
	case ok:
		o.cloud = cloud.name
	case *provider == "":
		errs = append(errs, errors.New("--provider is not set: choose alibabacloud (eci) or azure (aci)"))
	default:
		errs = append(errs, fmt.Errorf("--provider is %q: choose alibabacloud (eci) or azure (aci)", *provider))
	}
	node.Taint.Value = *taintValue
	if node.Taint.Value == "" {
		node.Taint.Value = cloud.taint
	}
	node.Taint.Effect = corev1.TaintEffect(*effect)
	errs = append(errs, checkNode(node))
	if node.InternalIP == "" {
		errs = append(errs, errors.New("--node-ip is not set: set it, or VKUBELET_POD_IP, to the address at which the API server reaches this agent (in a pod: fieldRef status.podIP)"))
	} else if net.ParseIP(node.InternalIP) == nil {
		errs = append(errs, fmt.Errorf("--node-ip (VKUBELET_POD_IP) is %q: write an IP address", node.InternalIP))
	}
	number, err := strconv.ParseUint(*port, 10, 16)
	if err != nil || number == 0 {
		errs = append(errs, fmt.Errorf("--kubelet-port (KUBELET_PORT) is %q: write a port from 1 to 65535", *port))
	}
	node.KubeletPort = int32(number) //nolint:gosec // at most 16 bits
	o.kubeletAt = startup.Address{Flag: "--kubelet-bind-address and --kubelet-port (KUBELET_PORT)", Value: net.JoinHostPort(*bind, *port)}
	if *port == "10255" && !fs.Changed("metrics-bind-address") {
		*metrics = ":10250" // the classic ACI node serves its kubelet API where metrics are by default
	}
	o.metricsAt = startup.Address{Flag: "--metrics-bind-address", Value: *metrics}
	if err == nil && number > 0 { // told above
		errs = append(errs, startup.CheckAddresses(o.kubeletAt, o.metricsAt))
	}
	node.Capacity = corev1.ResourceList{}
	for _, q := range []struct {
		flag, value string
		name        corev1.ResourceName
	}{{"--cpu", *cpu, corev1.ResourceCPU}, {"--memory", *memory, corev1.ResourceMemory}, {"--pods", *pods, corev1.ResourcePods}, {"--gpus", *gpus, "nvidia.com/gpu"}} {
		if q.value == "" {
			continue
		}
		amount, err := resource.ParseQuantity(q.value)
		if err != nil || amount.Sign() < 0 {
			errs = append(errs, fmt.Errorf("%s is %q: write a quantity such as 100 or 4Ti", q.flag, q.value))
			continue
		}
		node.Capacity[q.name] = amount
	}
	for address := range strings.SplitSeq(*dns, ",") {
		if address = strings.TrimSpace(address); address == "" {
			continue
		}
		if net.ParseIP(address) == nil {
			errs = append(errs, fmt.Errorf("--cluster-dns has %q: write IP addresses, separated by commas", address))
		}
		o.config.Resolver.ClusterDNS = append(o.config.Resolver.ClusterDNS, address)
	}
	var bad []string
	if o.waived, bad = burstable.ParseWaived(*waive); len(bad) > 0 {
		errs = append(errs, fmt.Errorf("--waive (WAIVE) names %s, which cannot be waived: choose among %s", strings.Join(bad, ", "), strings.Join(burstable.Waivable(), ", ")))
	}
	errs = append(errs, settleElection(*elect, election, node.Name))
	if (o.api.CertFile == "") != (o.api.KeyFile == "") {
		errs = append(errs, errors.New("--tls-cert-file and --tls-private-key-file belong together: set both or none"))
	}
	if o.api.FromCluster && o.api.CertFile != "" {
		errs = append(errs, errors.New("--rotate-server-certificates and --tls-cert-file are two ways to the same certificate: set one"))
	}
	errs = append(errs, o.settleCertManager(*issuer, *group, env("POD_NAME", "")))
	errs = append(errs, checkFiles(o.api))
	if o.api.ClientCAFile == "" && o.kubeconfig == "" {
		if _, err := os.Stat(inClusterCA); err == nil {
			o.api.ClientCAFile = inClusterCA
		}
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"--sweep-interval", o.config.SweepInterval}, {"--fast-interval", o.config.FastInterval}, {"--check-interval", o.config.CheckInterval},
		{"--missing-interval", o.config.MissingInterval}, {"--call-timeout", o.config.CallTimeout}, {"--log-retention", o.config.LogRetention},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("%s is %s: write a time above zero, such as 90s", d.flag, d.value))
		}
	}
	for _, d := range []struct {
		flag, value string
		into        *time.Duration
	}{
		{"--refusal-grace (REFUSAL_GRACE)", *grace, &o.config.RefusalGrace}, {"--capacity-pause (CAPACITY_PAUSE)", *pause, &o.config.CapacityPause},
	} {
		v, err := time.ParseDuration(d.value)
		if err != nil || v <= 0 {
			errs = append(errs, fmt.Errorf("%s is %q: write a time above zero, such as 90s", d.flag, d.value))
		}
		*d.into = v
	}
	if o.quota, err = quota.Parse(*quotas); err != nil {
		errs = append(errs, fmt.Errorf("--cloud-quota (CLOUD_QUOTA): %w", err))
	}
	if o.config.Writers < 1 {
		errs = append(errs, fmt.Errorf("--writers is %d: write a number from 1 on", o.config.Writers))
	}
	if o.config.Workers < 1 {
		errs = append(errs, fmt.Errorf("--workers is %d: write a number from 1 on", o.config.Workers))
	}
	if o.config.ReadsPerSecond <= 0 {
		errs = append(errs, fmt.Errorf("--reads-per-second is %g: write a number above zero", o.config.ReadsPerSecond))
	}
	if err := o.logLevel.UnmarshalText([]byte(*level)); err != nil {
		errs = append(errs, fmt.Errorf("--log-level is %q: choose debug, info, warn or error", *level))
	}
	errs = append(errs, o.tracing.Check())
	if o.logFormat != "json" && o.logFormat != "text" {
		errs = append(errs, fmt.Errorf("--log-format is %q: choose json or text", o.logFormat))
	}
	return o, errors.Join(errs...)
}

// settleCertManager completes and checks who at cert-manager signs.
func (o *options) settleCertManager(issuer, group, pod string) error {
	s := &o.api.CertManager
	if issuer == "" {
		*s = vnode.CertManagerSettings{}
		return nil
	}
	kind, name, _ := strings.Cut(issuer, "/")
	s.Issuer = cmmeta.IssuerReference{Kind: kind, Name: name, Group: group}
	s.RequestName = pod
	var errs []error
	if kind == "" || len(validation.IsDNS1123Subdomain(name)) > 0 {
		errs = append(errs, fmt.Errorf("--cert-manager-issuer is %q: write KIND/NAME, such as Issuer/kubelets", issuer))
	}
	if group == "" {
		errs = append(errs, errors.New("--cert-manager-issuer-group is empty: write the API group of the issuer, such as "+certmanager.GroupName))
	}
	if pod == "" || o.config.Namespace == "" {
		errs = append(errs, errors.New("--cert-manager-issuer needs POD_NAME and POD_NAMESPACE: the agent's request has the name of its pod, in the namespace of the release"))
	}
	if s.Duration < 10*time.Second {
		errs = append(errs, fmt.Errorf("--cert-manager-duration is %s: write at least 10s", s.Duration))
	}
	if o.api.FromCluster || o.api.CertFile != "" {
		errs = append(errs, errors.New("--cert-manager-issuer, --rotate-server-certificates and --tls-cert-file are ways to the same certificate: set one"))
	}
	return errors.Join(errs...)
}

// settleElection completes and checks the settings of the election.
func settleElection(elect bool, s *vnode.ElectionSettings, node string) error {
	if !elect {
		*s = vnode.ElectionSettings{}
		return nil
	}
	var errs []error
	if s.Namespace == "" {
		errs = append(errs, errors.New("--leader-elect needs a namespace for its Lease: set --leader-elect-resource-namespace, or POD_NAMESPACE, to that of the agent"))
	}
	s.Name = cmp.Or(s.Name, "autoburst-vnode-"+node)
	if problems := validation.IsDNS1123Label(s.Namespace); s.Namespace != "" && len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--leader-elect-resource-namespace (POD_NAMESPACE) is %q: write a namespace; %s", s.Namespace, problems[0]))
	}
	if problems := validation.IsDNS1123Subdomain(s.Name); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--leader-elect-resource-name is %q: write the name of a Lease; %s", s.Name, problems[0]))
	}
	if s.Identity == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "agent"
		}
		s.Identity = host + "_" + string(uuid.NewUUID())
	}
	if s.RetryPeriod <= 0 || s.LeaseDuration%time.Second != 0 || s.LeaseDuration <= s.RenewDeadline || 2*s.RetryPeriod > s.RenewDeadline {
		errs = append(errs, fmt.Errorf("--leader-elect-lease-duration %s, --leader-elect-renew-deadline %s and --leader-elect-retry-period %s do not go together: "+
			"the first must be whole seconds and longer than the second, and the second at least twice the third", s.LeaseDuration, s.RenewDeadline, s.RetryPeriod))
	}
	return errors.Join(errs...)
}
