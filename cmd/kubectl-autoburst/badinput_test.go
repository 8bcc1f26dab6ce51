package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// asProgram makes the test binary be the program.
const asProgram = "KUBECTL_AUTOBURST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program runs the program as a process of its own, with a home that is empty.
func program(t *testing.T, env []string, args ...string) ended {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append([]string{asProgram + "=1", "HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ended{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// refuser answers every request with a failure, and counts those that would change
// something.
type refuser struct {
	*httptest.Server
	mu     sync.Mutex
	writes []string
}

func refusing(t *testing.T, code int, reason metav1.StatusReason) *refuser {
	t.Helper()
	r := &refuser{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet {
			r.mu.Lock()
			r.writes = append(r.writes, req.Method+" "+req.URL.Path)
			r.mu.Unlock()
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason,
			Message: fmt.Sprintf("%s %s is not for User %q", strings.ToLower(req.Method), req.URL.Path, "jane"),
		}) // a failed write means that the program has gone
	}))
	t.Cleanup(r.Close)
	return r
}

// secure serves with a certificate for that name and time, and returns its URL and a
// file with its authority.
func secure(t *testing.T, host string, from, until time.Time) (server, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: from, NotAfter: until, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	ca = filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.URL, ca
}

// silent takes connections and answers nothing.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and nobody reads
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// TestBadInput: each wrong flag, value, file, kubeconfig and answer ends the program
// with one line that says what to mend, and before anything is changed.
func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const config = `{apiVersion: v1, kind: Config, current-context: %s, clusters: [{name: c, cluster: {server: "%s"}}], users: [{name: u, user: {%s}}], contexts: [{name: c, context: {cluster: c, user: u}}]}`
	good := file("good", fmt.Sprintf(config, "c", "https://127.0.0.1:1", "token: t"))
	var (
		now             = time.Now()
		expired, oldCA  = secure(t, "127.0.0.1", now.Add(-2*time.Hour), now.Add(-time.Hour))
		other, otherCA  = secure(t, "api.example.com", now.Add(-time.Hour), now.Add(time.Hour))
		unknown, _      = secure(t, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour))
		stranger        = refusing(t, http.StatusUnauthorized, metav1.StatusReasonUnauthorized)
		forbidden       = refusing(t, http.StatusForbidden, metav1.StatusReasonForbidden)
		closed, mute    = "https://127.0.0.1:1", "https://" + silent(t) // a port that nobody listens on
		to              = func(server string, args ...string) []string { return append(args, "--server="+server) }
		noKubeconfig    = []string{}
		withKubeconfig  = func(paths ...string) []string { return []string{"KUBECONFIG=" + strings.Join(paths, ":")} }
		usage, failed   = exitUsage, exitFailure
		wrongContext    = file("context", fmt.Sprintf(config, "none", "https://127.0.0.1:1", "token: t"))
		wrongFile       = file("data", "{apiVersion: v1, kind: Config, clusters: [{")
		wrongServer     = file("server", fmt.Sprintf(config, "c", "https://%zz", "token: t"))
		wrongCredential = file("credential", fmt.Sprintf(config, "c", "https://127.0.0.1:1", "client-certificate: /none/a.crt, client-key: /none/a.key"))
		wrongPlugin     = file("plugin", fmt.Sprintf(config, "c", "https://127.0.0.1:1", "exec: {apiVersion: client.authentication.k8s.io/v1, command: /none/login, interactiveMode: Never}"))
	)
	tests := map[string]struct {
		env  []string
		args []string
		code int
		want string
	}{
		// The command line.
		"unknown command":             {nil, []string{"stauts"}, usage, `unknown command "stauts"; see kubectl autoburst --help`},
		"unknown flag":                {nil, []string{"status", "--wach"}, usage, "unknown flag: --wach; see kubectl autoburst status --help"},
		"unknown short flag":          {nil, []string{"check", "-q"}, usage, "unknown shorthand flag: 'q' in -q; see kubectl autoburst check --help"},
		"flag without its value":      {nil, []string{"check", "--wait"}, usage, "flag needs an argument: --wait"},
		"check with an argument":      {nil, []string{"check", "all"}, usage, `unexpected argument "all"`},
		"check of no format":          {nil, []string{"check", "-o", "yaml"}, usage, `--output "yaml": must be short or json`},
		"check for no time":           {nil, []string{"check", "--wait=soon"}, usage, `invalid argument "soon" for "--wait"`},
		"check back in time":          {nil, []string{"check", "--wait=-1s"}, usage, "--wait is -1s: must not be negative"},
		"check before what":           {nil, []string{"check", "--pre=maybe"}, usage, `invalid argument "maybe" for "--pre"`},
		"status with an argument":     {nil, []string{"status", "shop"}, usage, `unexpected argument "shop"`},
		"status of no format":         {nil, []string{"status", "-o", "wide"}, usage, `--output "wide": must be json or yaml`},
		"status of a namespace":       {nil, []string{"status", "-n", "shop"}, usage, "unknown shorthand flag: 'n' in -n"},
		"enable nothing":              {nil, []string{"enable"}, usage, "say which namespace; see kubectl autoburst enable --help"},
		"enable two":                  {nil, []string{"enable", "a", "b"}, usage, `unexpected argument "b": one namespace at a time`},
		"enable in no mode":           {nil, []string{"enable", "shop", "--mode=overflow"}, usage, `--mode "overflow": must be Overflow, Always or Auto`},
		"enable in mode Never":        {nil, []string{"enable", "shop", "--mode=Never"}, usage, "to keep pods local, see disable"},
		"enable in an empty mode":     {nil, []string{"enable", "shop", "--mode="}, usage, `--mode "": must be Overflow`},
		"enable as a dry run of none": {nil, []string{"enable", "shop", "--dry-run=yes"}, usage, `--dry-run "yes": must be client, server or none`},
		"disable nothing":             {nil, []string{"disable"}, usage, "say which namespace; see kubectl autoburst disable --help"},
		"disable in a mode":           {nil, []string{"disable", "shop", "--mode=Auto"}, usage, "unknown flag: --mode"},
		"drain nothing":               {nil, []string{"drain"}, usage, "say which virtual node to drain"},
		"drain two":                   {nil, []string{"drain", "a", "b"}, usage, "say which virtual node to drain"},
		"drain for no time":           {nil, []string{"drain", "a", "--timeout=-1s"}, usage, "--timeout is -1s: must not be negative"},
		"drain without grace":         {nil, []string{"drain", "a", "--grace-period=-2"}, usage, "--grace-period is -2: must be 0 or more"},
		"drain with half a grace":     {nil, []string{"drain", "a", "--grace-period=0.5"}, usage, `invalid argument "0.5" for "--grace-period"`},
		"version of no format":        {nil, []string{"version", "-o", "yaml"}, usage, `--output "yaml": must be json`},
		"version with an argument":    {nil, []string{"version", "1"}, usage, `unexpected argument "1"`},
		"completion of no shell":      {nil, []string{"completion", "csh"}, usage, `unknown command "csh"; see kubectl autoburst completion --help`},

		// Files.
		"explain a file that is not there": {nil, []string{"explain", "-f", "/none.yaml"}, usage, "reading /none.yaml: no such file or directory"},
		"explain a file of something else": {nil, []string{"explain", "-f", wrongFile}, usage, "data"},
		"simulate a folder of nothing":     {nil, []string{"simulate", "--suite", t.TempDir()}, usage, "has no case"},

		// The kubeconfig.
		"no kubeconfig":                        {noKubeconfig, []string{"status"}, usage, "there is no cluster to speak to: no kubeconfig was found in "},
		"a kubeconfig that is not there":       {withKubeconfig("/none"), []string{"check"}, usage, "no kubeconfig was found in /none"},
		"a named one that is not there":        {noKubeconfig, []string{"status", "--kubeconfig=/none"}, usage, "reading the kubeconfig: stat /none: no such file or directory"},
		"one that cannot be read as one":       {withKubeconfig(wrongFile), []string{"status"}, usage, "reading the kubeconfig: error loading config file"},
		"two, of which one is broken":          {withKubeconfig(good, wrongFile), []string{"enable", "shop"}, usage, "reading the kubeconfig: error loading config file"},
		"a current context that is not there":  {withKubeconfig(wrongContext), []string{"enable", "shop"}, usage, `reading the kubeconfig: invalid configuration: context was not found for specified context: none`},
		"a named context that is not there":    {withKubeconfig(good), []string{"drain", "a", "--context=prod"}, usage, `reading the kubeconfig: context "prod" does not exist`},
		"a named cluster that is not there":    {withKubeconfig(good), []string{"status", "--cluster=prod"}, usage, `reading the kubeconfig: cluster "prod" does not exist`},
		"a named user that is not there":       {withKubeconfig(good), []string{"status", "--user=jane"}, usage, `reading the kubeconfig: auth info "jane" does not exist`},
		"a server that is no URL":              {withKubeconfig(wrongServer), []string{"status"}, usage, "reading the kubeconfig: "},
		"a certificate file that is not there": {withKubeconfig(wrongCredential), []string{"enable", "shop"}, usage, "reading the kubeconfig: invalid configuration: [unable to read client-cert /none/a.crt"},
		"a login program that is not there":    {withKubeconfig(wrongPlugin), []string{"enable", "shop"}, failed, "/none/login"},
		"a time-out that is none":              {withKubeconfig(good), []string{"status", "--request-timeout=soon"}, usage, "reading the kubeconfig: "},

		// The API server.
		"nobody listens":                    {nil, to(closed, "status"), failed, "refuses connections; is it running, and is this the right context?"},
		"nobody listens, for enable":        {nil, to(closed, "enable", "shop"), failed, "the API server " + closed + " refuses connections"},
		"nobody answers":                    {nil, to(mute, "status", "--request-timeout=1s"), failed, "does not answer in time"},
		"a name that is not found":          {nil, to("https://api.invalid", "status", "--request-timeout=5s"), failed, "the API server https://api.invalid "},
		"its certificate has expired":       {nil, to(expired, "status", "--certificate-authority="+oldCA), failed, "has expired or is not valid yet"},
		"its certificate is another's":      {nil, to(other, "status", "--certificate-authority="+otherCA), failed, "is for another name"},
		"its certificate is of who knows":   {nil, to(unknown, "enable", "shop"), failed, "is signed by an authority that the kubeconfig does not name"},
		"it does not know the user":         {nil, to(stranger.URL, "enable", "shop"), failed, "the API server does not know you"},
		"it does not know the user, status": {nil, to(stranger.URL, "status"), failed, "the API server does not know you"},
		"it forbids to look":                {nil, to(forbidden.URL, "status"), failed, "listing the Deployments of Autoburst: get /apis/apps/v1/namespaces/autoburst-system/deployments is not for User"},
		"it forbids to enable":              {nil, to(forbidden.URL, "enable", "shop"), failed, "reading namespace shop: get /api/v1/namespaces/shop is not for User"},
		"it forbids to disable":             {nil, to(forbidden.URL, "disable", "shop"), failed, "reading namespace shop: "},
		"it forbids to drain":               {nil, to(forbidden.URL, "drain", "virtual-eci"), failed, "reading node virtual-eci: "},
		"it forbids to tell versions":       {nil, to(forbidden.URL, "version", "--release-namespace=x"), failed, "listing the Deployments of Autoburst: "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := program(t, test.env, test.args...)
			if e.code != test.code {
				t.Errorf("ended with %d, want %d", e.code, test.code)
			}
			if !strings.HasPrefix(e.errOut, "error: ") || !strings.Contains(e.errOut, test.want) || strings.Count(e.errOut, "\n") != 1 {
				t.Errorf("said %q, want one line with %q", e.errOut, test.want)
			}
			if e.out != "" {
				t.Errorf("printed %q", e.out)
			}
		})
	}
	t.Cleanup(func() {
		for _, r := range []*refuser{stranger, forbidden} {
			if len(r.writes) > 0 {
				t.Errorf("something was to be changed: %q", r.writes)
			}
		}
	})
}
