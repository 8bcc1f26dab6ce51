package startup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/autoburst/autoburst/test/playground"
)

// bound is how long a program may take to find out what is wrong: the patience
// with an API server and a slow machine.
const bound = 90 * time.Second

// wrong is one thing that is wrong.
type wrong struct {
	args, env []string
	// code is 2 unless it is given: a mistake that the program sees by itself.
	code int
	// want is what the line must hold.
	want []string
}

func (w wrong) check(t *testing.T, base playground.Command) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	got := end(ctx, t, command(ctx, t, base, w.args, w.env))
	want := w.code
	if want == 0 {
		want = 2
	}
	if got.code != want {
		t.Errorf("exit code %d, want %d", got.code, want)
	}
	program := base.Path[strings.LastIndex(base.Path, "/")+1:]
	line, rest, _ := strings.Cut(got.stderr, "\n")
	if !strings.HasPrefix(line, program+": ") || rest != "" {
		t.Errorf("want one line that begins with the program's name, got:\n%s", got.stderr)
	}
	for _, text := range w.want {
		if !strings.Contains(line, text) {
			t.Errorf("the line lacks %q: %s", text, line)
		}
	}
	for _, secret := range secrets(t) {
		if strings.Contains(got.stderr, secret) {
			t.Errorf("the message holds a secret: %s", got.stderr)
		}
	}
}

// TestWrongSettings comes before the programs do anything.
func TestWrongSettings(t *testing.T) {
	if n, calls := writes(t), cloudCalls.Load(); n != 0 || calls != 0 {
		t.Fatalf("%d writes and %d calls of clouds before the first program has run", n, calls)
	}
	t.Run("programs", func(t *testing.T) {
		for _, set := range []struct {
			name  string
			base  playground.Command
			cases map[string]wrong
		}{
			{"controller", controller, wrongForController(t)},
			{"controller and API server", controller, wrongForBoth(t)},
			{"agent", eciAgent, wrongForAgent(t)},
			{"agent and API server", eciAgent, wrongForBoth(t)},
			{"agent of ECI", eciAgent, wrongForECI(t)},
			{"agent of ACI", aciAgent, wrongForACI(t)},
		} {
			for name, c := range set.cases {
				t.Run(set.name+"/"+name, func(t *testing.T) {
					t.Parallel()
					c.check(t, set.base)
				})
			}
		}
	})
	if n := writes(t); n != 0 {
		t.Errorf("the programs changed something at the API server: %d writes", n)
	}
	if calls := cloudCalls.Load(); calls != 0 {
		t.Errorf("the programs called a cloud %d times", calls)
	}
}

func wrongForController(t *testing.T) map[string]wrong {
	host, port := taken(t)
	return map[string]wrong{
		"unknown flag":          {args: []string{"--nonsense"}, want: []string{"--nonsense", "autoburst --help"}},
		"unknown short flag":    {args: []string{"-x"}, want: []string{"-x", "autoburst --help"}},
		"flag without value":    {args: []string{"--namespace"}, want: []string{"--namespace has no value", "--namespace=VALUE"}},
		"argument":              {args: []string{"start"}, want: []string{`"start"`, "--NAME=VALUE"}},
		"port is no number":     {args: []string{"--webhook-port=https"}, want: []string{`--webhook-port is "https"`, "whole number"}},
		"port out of range":     {args: []string{"--webhook-port=70000"}, want: []string{"--webhook-port is 70000", "1 to 65535"}},
		"boolean":               {args: []string{"--leader-elect=perhaps"}, want: []string{`--leader-elect is "perhaps"`, "true or false"}},
		"namespace":             {args: []string{"--namespace=A_B"}, want: []string{`--namespace (POD_NAMESPACE) is "A_B"`}},
		"namespace by variable": {env: []string{"POD_NAMESPACE=A_B"}, want: []string{`(POD_NAMESPACE) is "A_B"`}},
		"no namespace":          {env: []string{"POD_NAMESPACE="}, want: []string{`POD_NAMESPACE) is ""`, "set it"}},
		"replica":               {env: []string{"POD_NAME=A B"}, want: []string{`(POD_NAME) is "A B"`}},
		"log level":             {args: []string{"--log-level=loud"}, want: []string{`--log-level is "loud"`, "debug, info, warn or error"}},
		"log format":            {args: []string{"--log-format=xml"}, want: []string{`--log-format is "xml"`, "json or text"}},
		"admission":             {args: []string{"--admission=both"}, want: []string{`--admission is "both"`, "choose webhook"}},
		"policy name":           {args: []string{"--mutating-admission-policy-name=A"}, want: []string{`--mutating-admission-policy-name is "A"`}},
		"configuration name":    {args: []string{"--webhook-configuration-name="}, want: []string{`--webhook-configuration-name is ""`}},
		"Secret's name":         {args: []string{"--ca-secret-name=A B"}, want: []string{`--ca-secret-name is "A B"`}},
		"life of a certificate": {args: []string{"--certificate-lifetime=2000h"}, want: []string{"--certificate-lifetime is 2000h", "a sixth of --ca-lifetime"}},
		"certificate alone":     {args: []string{"--tls-certificate-name=c"}, want: []string{"--tls-certificate-name", "--tls-secret-name"}},
		"switch":                {args: []string{"--switch-name=Off_"}, want: []string{`--switch-name is "Off_"`}},
		"ledger":                {args: []string{"--ledger-name=.."}, want: []string{`--ledger-name is ".."`}},
		"URL without TLS":       {args: []string{"--webhook-url=http://10.0.0.1"}, want: []string{`--webhook-url is "http://10.0.0.1"`, "https://HOST:PORT"}},
		"URL with a password":   {args: []string{"--webhook-url=https://u:hunter2@10.0.0.1"}, want: []string{"--webhook-url", "without credentials"}},
		"DNS name":              {args: []string{"--webhook-dns-names=a.svc,b_c"}, want: []string{"--webhook-dns-names", `"b_c"`}},
		"metrics address":       {args: []string{"--metrics-bind-address=8080"}, want: []string{`--metrics-bind-address is "8080"`, "IP:PORT"}},
		"health address":        {args: []string{"--health-probe-bind-address=:http"}, want: []string{`--health-probe-bind-address is ":http"`, "IP:PORT"}},
		"one port for two":      {args: []string{"--metrics-bind-address=:18080", "--health-probe-bind-address=127.0.0.1:18080"}, want: []string{"--health-probe-bind-address", "--metrics-bind-address has the same port"}},
		"webhook's port taken":  {args: []string{"--webhook-port=" + port}, code: 1, want: []string{"--webhook-port", host + ":" + port, "another program listens"}},
		"metrics' port taken":   {args: []string{"--metrics-bind-address=" + host + ":" + port}, code: 1, want: []string{"--metrics-bind-address", "another program listens"}},
		"health's port taken":   {args: []string{"--health-probe-bind-address=" + host + ":" + port}, code: 1, want: []string{"--health-probe-bind-address", "another program listens"}},
		"address of another":    {args: []string{"--webhook-host=192.0.2.1"}, code: 1, want: []string{"--webhook-host", "192.0.2.1", "no such address"}},
	}
}

// wrongForBoth is what is wrong with the way to the API server, or with the API
// server.
func wrongForBoth(t *testing.T) map[string]wrong {
	edited := func(change func(*clientcmdapi.Config, *clientcmdapi.Cluster, *clientcmdapi.AuthInfo)) []string {
		return []string{"--kubeconfig=" + kubeconfig(t, change)}
	}
	old := oldServer(t)
	_, port := taken(t)
	return map[string]wrong{
		"no kubeconfig outside a cluster": {args: []string{"--kubeconfig="}, code: 1, want: []string{"--kubeconfig (KUBECONFIG)", "outside a cluster"}},
		"kubeconfig that is missing":      {args: []string{"--kubeconfig=/nowhere/config"}, code: 1, want: []string{`"/nowhere/config"`, "no such file"}},
		"kubeconfig that is none":         {args: []string{"--kubeconfig=" + file(t, "users:\n- user: {token: hunter2\n")}, code: 1, want: []string{"no kubeconfig file", "kubectl config view"}},
		"kubeconfig of another kind":      {args: []string{"--kubeconfig=" + file(t, "apiVersion: v1\nkind: Config\nclusters: hunter2\n")}, code: 1, want: []string{"no kubeconfig file"}},
		"context that does not exist": {args: edited(func(c *clientcmdapi.Config, _ *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
			c.CurrentContext = "production"
		}), code: 1, want: []string{"--kubeconfig", "production"}},
		"authority that is missing": {args: edited(func(_ *clientcmdapi.Config, c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
			c.CertificateAuthority = "/nowhere/ca.crt"
		}), code: 1, want: []string{"--kubeconfig", "/nowhere/ca.crt"}},
		"authority of another cluster": {args: edited(func(_ *clientcmdapi.Config, c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
			c.CertificateAuthority, c.CertificateAuthorityData = "", certificateOf(old)
		}), code: 1, want: []string{system.Server(), "not trusted", "certificate-authority"}},
		"authority that is no certificate": {args: edited(func(_ *clientcmdapi.Config, c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
			c.CertificateAuthority, c.CertificateAuthorityData = "", []byte("hunter2")
		}), code: 1, want: []string{system.Server(), "certificate"}},
		"server that does not listen": {args: edited(func(_ *clientcmdapi.Config, c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
			c.Server = "https://127.0.0.1:1"
		}), code: 1, want: []string{"https://127.0.0.1:1", "connection refused", "server in the kubeconfig"}},
		"server that does not answer": {args: edited(func(_ *clientcmdapi.Config, c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
			c.Server = "https://127.0.0.1:" + port
		}), code: 1, want: []string{"https://127.0.0.1:" + port, "no answer for 10s"}},
		"server without TLS": {args: edited(func(_ *clientcmdapi.Config, c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
			c.Server, c.CertificateAuthority = strings.Replace(c.Server, "https", "http", 1), ""
		}), code: 1, want: []string{"the API server http://"}},
		"token that has expired": {args: edited(func(_ *clientcmdapi.Config, _ *clientcmdapi.Cluster, u *clientcmdapi.AuthInfo) {
			u.Token = u.Token[:len(u.Token)-8] + "AAAAAAAA" // a signature that counts no more
		}), code: 1, want: []string{system.Server(), "expired", "make a new one"}},
		"no rights": {args: []string{"--kubeconfig=" + nobody(t)}, code: 1, want: []string{"may not", "docs/permissions.md"}},
		"API server too old": {args: edited(func(_ *clientcmdapi.Config, c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
			c.Server, c.CertificateAuthority = old.URL, ""
			c.CertificateAuthorityData = certificateOf(old)
		}), code: 1, want: []string{"v1.29.15", "1.30 or newer", "upgrade"}},
	}
}

func wrongForAgent(t *testing.T) map[string]wrong {
	host, port := taken(t)
	return map[string]wrong{
		"unknown flag":            {args: []string{"--no-such-flag=1"}, want: []string{"--no-such-flag", "autoburst-vnode --help"}},
		"argument":                {args: []string{"stray"}, want: []string{`"stray"`}},
		"duration":                {args: []string{"--call-timeout=soon"}, want: []string{`--call-timeout is "soon"`, "such as 90s"}},
		"duration without unit":   {args: []string{"--sweep-interval=10"}, want: []string{`--sweep-interval is "10"`, "such as 90s"}},
		"duration of zero":        {args: []string{"--fast-interval=0s"}, want: []string{"--fast-interval is 0s", "above zero"}},
		"negative duration":       {args: []string{"--log-retention=-1h"}, want: []string{"--log-retention is -1h", "above zero"}},
		"number":                  {args: []string{"--reads-per-second=many"}, want: []string{`--reads-per-second is "many"`, "a number"}},
		"no workers":              {args: []string{"--workers=0"}, want: []string{"--workers is 0", "from 1 on"}},
		"no writers":              {args: []string{"--writers=-5"}, want: []string{"--writers is -5", "from 1 on"}},
		"provider":                {args: []string{"--provider=gcp"}, want: []string{`--provider is "gcp"`, "alibabacloud (eci) or azure (aci)"}},
		"no provider":             {args: []string{"--provider="}, want: []string{"--provider is not set"}},
		"node's name":             {args: []string{"--nodename=Virtual Node"}, want: []string{`--nodename (DEFAULT_NODE_NAME) is "Virtual Node"`}},
		"node's address":          {env: []string{"VKUBELET_POD_IP=here"}, want: []string{`(VKUBELET_POD_IP) is "here"`, "IP address"}},
		"no address":              {env: []string{"VKUBELET_POD_IP="}, want: []string{"VKUBELET_POD_IP", "status.podIP"}},
		"kubelet's port":          {args: []string{"--kubelet-port=kubelet"}, want: []string{`--kubelet-port (KUBELET_PORT) is "kubelet"`, "1 to 65535"}},
		"kubelet's address":       {args: []string{"--kubelet-bind-address=every"}, want: []string{"--kubelet-bind-address", `"every:`, "IP:PORT"}},
		"kubelet's port taken":    {args: []string{"--kubelet-port=" + port}, code: 1, want: []string{"KUBELET_PORT", host + ":" + port, "another program listens"}},
		"metrics' port taken":     {args: []string{"--metrics-bind-address=" + host + ":" + port}, code: 1, want: []string{"--metrics-bind-address", "another program listens"}},
		"one port for two":        {args: []string{"--kubelet-port=18081", "--metrics-bind-address=:18081"}, want: []string{"--metrics-bind-address", "has the same port"}},
		"taint's effect":          {env: []string{"VKUBELET_TAINT_EFFECT=NoEntry"}, want: []string{`(VKUBELET_TAINT_EFFECT) is "NoEntry"`, "NoSchedule, PreferNoSchedule or NoExecute"}},
		"taint's key":             {args: []string{"--taint-key=a key"}, want: []string{`(VKUBELET_TAINT_KEY) is "a key"`}},
		"taint's value":           {args: []string{"--taint-value=a/b"}, want: []string{`(VKUBELET_TAINT_VALUE) is "a/b"`}},
		"quantity":                {args: []string{"--cpu=lots"}, want: []string{`--cpu is "lots"`, "such as 100 or 4Ti"}},
		"negative quantity":       {args: []string{"--memory=-1Gi"}, want: []string{`--memory is "-1Gi"`}},
		"DNS server":              {args: []string{"--cluster-dns=kube-dns"}, want: []string{`"kube-dns"`, "IP addresses"}},
		"waiver":                  {args: []string{"--waive=hostNetwork"}, want: []string{"--waive (WAIVE)", "hostNetwork", "choose among"}},
		"quota":                   {args: []string{"--cloud-quota=CreateContainerGroup=20"}, want: []string{"--cloud-quota (CLOUD_QUOTA)", `"20"`, "BURST+RATE/s"}},
		"lease's namespace":       {args: []string{"--leader-elect-resource-namespace=A"}, want: []string{"--leader-elect-resource-namespace", `"A"`}},
		"lease's name":            {args: []string{"--leader-elect-resource-name=A B"}, want: []string{`--leader-elect-resource-name is "A B"`}},
		"deadline of leader":      {args: []string{"--leader-elect-renew-deadline=1m"}, want: []string{"--leader-elect-renew-deadline 1m0s", "longer than"}},
		"grace":                   {env: []string{"REFUSAL_GRACE=never"}, want: []string{`(REFUSAL_GRACE) is "never"`, "such as 90s"}},
		"pause":                   {env: []string{"CAPACITY_PAUSE=-1s"}, want: []string{`(CAPACITY_PAUSE) is "-1s"`}},
		"certificate without key": {args: []string{"--tls-cert-file=" + file(t, "x")}, want: []string{"--tls-private-key-file", "set both or none"}},
		"certificate that is missing": {args: []string{"--tls-cert-file=/nowhere/tls.crt", "--tls-private-key-file=/nowhere/tls.key"},
			want: []string{`--tls-cert-file is "/nowhere/tls.crt"`, "no such file"}},
		"certificate that is none": {args: []string{"--tls-cert-file=" + file(t, "hunter2"), "--tls-private-key-file=" + file(t, "hunter2")},
			want: []string{"--tls-cert-file", "PEM"}},
		"key of another certificate": {args: []string{"--tls-cert-file=" + system.Dir + "/server.crt", "--tls-private-key-file=" + system.Dir + "/admin.key"},
			want: []string{"--tls-cert-file", "--tls-private-key-file", "does not match"}},
		"issuer": {args: []string{"--cert-manager-issuer=kubelets"}, want: []string{`--cert-manager-issuer is "kubelets"`, "KIND/NAME"}},
		"two certificates": {args: []string{"--rotate-server-certificates", "--tls-cert-file=" + system.Dir + "/server.crt", "--tls-private-key-file=" + system.Dir + "/server.key"},
			want: []string{"--rotate-server-certificates", "set one"}},
		"client authority that is missing": {args: []string{"--client-ca-file=/nowhere/ca.crt"}, want: []string{`(CLIENT_CA_FILE) is "/nowhere/ca.crt"`, "no such file"}},
		"client authority that is none":    {args: []string{"--client-ca-file=" + file(t, "hunter2")}, want: []string{"--client-ca-file", "no PEM certificate"}},
		"log level":                        {args: []string{"--log-level=loud"}, want: []string{`--log-level is "loud"`}},
		"log format":                       {args: []string{"--log-format=xml"}, want: []string{`--log-format is "xml"`}},
	}
}

func wrongForECI(t *testing.T) map[string]wrong {
	return map[string]wrong{
		"no region":              {env: []string{"ECI_REGION="}, code: 1, want: []string{"ECI_REGION is not set", "such as cn-hangzhou"}},
		"region":                 {env: []string{"ECI_REGION=US West"}, code: 1, want: []string{`ECI_REGION is "US West"`, "lower case"}},
		"no VSwitch":             {env: []string{"ECI_VSWITCH="}, code: 1, want: []string{"ECI_VSWITCH is not set"}},
		"VSwitches":              {env: []string{"ECI_VSWITCH=" + strings.Repeat("vsw-1,", 11)}, code: 1, want: []string{"ECI_VSWITCH names 11", "at most 10"}},
		"no security group":      {env: []string{"ECI_SECURITY_GROUP="}, code: 1, want: []string{"ECI_SECURITY_GROUP is not set"}},
		"no key":                 {env: []string{"ECI_ACCESS_KEY="}, code: 1, want: []string{"ECI_ACCESS_KEY is not set"}},
		"no secret":              {env: []string{"ECI_SECRET_KEY="}, code: 1, want: []string{"ECI_SECRET_KEY is not set", "ECI_SECRET_KEY_FILE"}},
		"secret twice":           {env: []string{"ECI_SECRET_KEY_FILE=/some/file"}, code: 1, want: []string{"ECI_SECRET_KEY and ECI_SECRET_KEY_FILE", "set one of them"}},
		"endpoint that is a URL": {env: []string{"ECI_ENDPOINT=https://eci.aliyuncs.com/"}, code: 1, want: []string{"ECI_ENDPOINT", "HOST or HOST:PORT"}},
		"authority":              {env: []string{"ECI_CA_FILE=/nowhere/ca"}, code: 1, want: []string{"ECI_CA_FILE", "/nowhere/ca"}},
		"authority that is none": {env: []string{"ECI_CA_FILE=" + file(t, "hunter2")}, code: 1, want: []string{"ECI_CA_FILE", "no PEM certificate"}},
		"annotations":            {env: []string{"ECI_POD_ANNOTATIONS=spot"}, code: 1, want: []string{"ECI_POD_ANNOTATIONS", "JSON"}},
		"unknown annotation":     {env: []string{`ECI_POD_ANNOTATIONS={"k8s.aliyun.com/eci-nothing":"1"}`}, code: 1, want: []string{"ECI_POD_ANNOTATIONS", "eci-nothing"}},
		"forbidden annotation":   {env: []string{"ECI_FORBIDDEN_ANNOTATIONS=eci-nothing"}, code: 1, want: []string{"ECI_FORBIDDEN_ANNOTATIONS", "eci-nothing"}},
		"half a role":            {env: []string{"ECI_ACCESS_KEY=", "ECI_SECRET_KEY=", "ALIBABA_CLOUD_ROLE_ARN=acs:ram::1:role/a", "ALIBABA_CLOUD_OIDC_TOKEN_FILE=/t"}, code: 1, want: []string{"ALIBABA_CLOUD_OIDC_PROVIDER_ARN is not set"}},
	}
}

func wrongForACI(t *testing.T) map[string]wrong {
	return map[string]wrong{
		"no resource group":      {env: []string{"ACI_RESOURCE_GROUP="}, code: 1, want: []string{"ACI_RESOURCE_GROUP is not set"}},
		"no region":              {env: []string{"ACI_REGION="}, code: 1, want: []string{"ACI_REGION is not set"}},
		"no subscription":        {env: []string{"AZURE_SUBSCRIPTION_ID="}, code: 1, want: []string{"AZURE_SUBSCRIPTION_ID is not set"}},
		"no tenant":              {env: []string{"AZURE_TENANT_ID="}, code: 1, want: []string{"AZURE_TENANT_ID is not set"}},
		"no secret":              {env: []string{"AZURE_CLIENT_SECRET="}, code: 1, want: []string{"AZURE_CLIENT_SECRET", "sign in with"}},
		"way to sign in":         {env: []string{"AZURE_TOKEN_CREDENTIALS=Password"}, code: 1, want: []string{"AZURE_TOKEN_CREDENTIALS", `"Password"`}},
		"subnet":                 {env: []string{"ACI_SUBNET_ID=default"}, code: 1, want: []string{"ACI_SUBNET_ID", `"default"`}},
		"half a subnet":          {env: []string{"ACI_VNET_NAME=net"}, code: 1, want: []string{"ACI_SUBNET_NAME is not set"}},
		"environment":            {env: []string{"AZURE_ENVIRONMENT=AzureMoon"}, code: 1, want: []string{"AZURE_ENVIRONMENT", `"AzureMoon"`, "AzurePublic"}},
		"endpoint without TLS":   {env: []string{"ACI_ARM_ENDPOINT=http://u:hunter2@management.azure.com"}, code: 1, want: []string{"ACI_ARM_ENDPOINT", "https://host"}},
		"authority":              {env: []string{"ACI_CA_FILE=/nowhere/ca"}, code: 1, want: []string{"ACI_CA_FILE", "/nowhere/ca"}},
		"priority":               {env: []string{"ACI_PRIORITY=High"}, code: 1, want: []string{"ACI_PRIORITY", `"High"`}},
		"zone":                   {env: []string{"ACI_ZONE=west"}, code: 1, want: []string{"ACI_ZONE", `"west"`}},
		"identities":             {env: []string{"ACI_POD_IDENTITIES=me"}, code: 1, want: []string{"ACI_POD_IDENTITIES", `"me"`}},
		"identity of a registry": {env: []string{"ACI_REGISTRY_IDENTITIES=registry"}, code: 1, want: []string{"ACI_REGISTRY_IDENTITIES"}},
		"public address":         {env: []string{"ACI_PUBLIC_IP=maybe"}, code: 1, want: []string{"ACI_PUBLIC_IP", `"maybe"`}},
		"logs without a key":     {env: []string{"LOG_ANALYTICS_ID=w"}, code: 1, want: []string{"LOG_ANALYTICS_KEY"}},
	}
}

// TestRightSettings shows that the programs above would have worked, and that
// what they do is seen.
func TestRightSettings(t *testing.T) {
	for name, base := range map[string]playground.Command{"controller": controller, "eci": eciAgent, "aci": aciAgent} {
		t.Run(name, func(t *testing.T) {
			before, calls := writes(t), cloudCalls.Load()
			cmd := command(context.WithoutCancel(t.Context()), t, base, nil, nil)
			stderr := start(t, cmd)
			if err := playground.Poll(t.Context(), bound, "the program writes to the API server", func(context.Context) (bool, error) {
				return writes(t) > before && (name == "controller" || cloudCalls.Load() > calls), nil
			}); err != nil {
				t.Errorf("%v\n%s", err, stderr)
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ended with %v\n%s", err, stderr)
			}
		})
	}
}

// TestMissingAPI comes last: the objects of the API go with it.
func TestMissingAPI(t *testing.T) {
	if _, err := system.Kubectl(t.Context(), "", "delete", "crd", "burstpolicies.autoburst.io", "clusterburstpolicies.autoburst.io", "burstadmissions.autoburst.io"); err != nil {
		t.Fatal(err)
	}
	before := writes(t)
	wrong{code: 1, want: []string{system.Server(), "autoburst.io/v1alpha1", "crds.enabled=true"}}.check(t, controller)
	if n := writes(t) - before; n != 0 {
		t.Errorf("the program changed something at the API server: %d writes", n)
	}
}

// TestVersionAndHelp are what a person tries first.
func TestVersionAndHelp(t *testing.T) {
	for _, base := range []playground.Command{controller, eciAgent} {
		for flag, want := range map[string][]string{
			"--version": {"v0.0.0-dev\n"},
			"--help":    {"Usage:", "\nCluster:\n", "(default ", "--log-level"},
		} {
			out, err := exec.CommandContext(t.Context(), base.Path, flag).Output()
			if err != nil {
				t.Errorf("%s %s: %v", base.Path, flag, err)
			}
			if slices.ContainsFunc(want, func(s string) bool { return !strings.Contains(string(out), s) }) {
				t.Errorf("%s %s says %q, want %q in it", base.Path, flag, out, want)
			}
		}
	}
}

func start(t *testing.T, cmd *exec.Cmd) *strings.Builder {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &stderr
}

func certificateOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func trust(roots []byte) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}
