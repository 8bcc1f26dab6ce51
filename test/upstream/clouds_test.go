package upstream

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	"github.com/autoburst/autoburst/providers/aci"
	"github.com/autoburst/autoburst/providers/eci"
	"github.com/autoburst/autoburst/providers/providertest"
	emulatedaci "github.com/autoburst/autoburst/test/cloud/aci"
	emulatedeci "github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

func newReader(b []byte) io.Reader { return bytes.NewReader(b) }

// group is what a cloud was asked to run, read from the wire without the providers'
// code, in words that fit both clouds.
type group struct {
	// raw is all that was asked for but what tells one pod from another.
	raw string
	// twice is what is there a second time under one name or path, of which the rest
	// tells the last only.
	twice             []string
	Inits, Containers []container
	// Files are the volumes of files, by the cloud's name; EmptyDirs the others, with
	// their medium and size.
	Files     map[string]map[string]file
	EmptyDirs map[string]string
	Restart   string
	Hostname  string
	Hosts     map[string][]string
	Grace     string
	Deadline  string
	DNS       string
	Registry  []string
	Address   []string // opened ports
	Sysctls   map[string]string
}

type container struct {
	Name, Image, PullPolicy, WorkingDir string
	Command                             []string // all that is run after the entry point, if it is not replaced
	Args                                []string
	Env                                 map[string]string
	Secret                              map[string]bool
	FromCloud                           map[string]string
	Ports                               []string
	Mounts                              map[string]mount // by path
	CPU, Memory                         float64          // asked for: vCPU and GiB or GB
	Liveness, Readiness                 string
	PostStart, PreStop                  string
	Security                            map[string]string
	Stdin, TTY                          bool
}

type mount struct {
	Volume, SubPath string
	ReadOnly        bool
}

// once notes what is there a second time.
func once[V any](g *group, what string, have map[string]V, name string) {
	if _, there := have[name]; there {
		g.twice = append(g.twice, what+" "+name)
	}
}

// run is the command line that replaces the image's.
func (c *container) run() []string { return append(append([]string{}, c.Command...), c.Args...) }

// file finds a file that a container sees at a path.
func (g *group) file(c *container, name string) (file, bool) {
	for at, m := range c.Mounts {
		if rest, below := strings.CutPrefix(name, at+"/"); below {
			f, ok := g.Files[m.Volume][rest]
			return f, ok
		}
	}
	return file{}, false
}

const region = "cn-hangzhou"

func newECI(t *testing.T) account {
	server := emulatedeci.NewServer(emulatedeci.Options{
		AccessKeys: []emulatedeci.AccessKey{{ID: "LTAI-key", Secret: "key-secret"}},
		Regions: []emulatedeci.Region{{
			ID: region, Zones: []string{region + "-h"},
			VSwitches:      []emulatedeci.VSwitch{{ID: "vsw-h", ZoneID: region + "-h", VpcID: "vpc-1", CIDR: netip.MustParsePrefix("10.0.0.0/20")}},
			SecurityGroups: []emulatedeci.SecurityGroup{{ID: "sg-1", VpcID: "vpc-1"}},
		}},
		Sim: sim.Config{Timing: quick}, GracePeriod: time.Second,
	})
	into := &accepted{byUID: map[string]*group{}}
	web := serve(t, recording(server, into, readECI))
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("closing the cloud: %v", err)
		}
	})
	u, err := url.Parse(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	cfg := eci.Config{
		Region: region, Zone: region + "-h", VSwitchIDs: []string{"vsw-h"}, SecurityGroupID: "sg-1",
		Credentials: eci.StaticCredentials(eci.Credentials{AccessKeyID: "LTAI-key", AccessKeySecret: "key-secret"}),
		ClusterUID:  settings.ClusterUID, NodeName: "virtual-eci", Endpoint: u.Host, RootCAs: roots, Timeout: 10 * time.Second,
	}
	cfg.Quota = providertest.Unbounded(t, cfg.Plan())
	p, err := eci.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return account{provider: p, record: server.Record, accepted: into}
}

const (
	tenant, client = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
	subscription   = "33333333-3333-3333-3333-333333333333"
)

func newACI(t *testing.T) account {
	server := emulatedaci.NewServer(emulatedaci.Options{
		Sim:           sim.Config{Timing: quick},
		Applications:  []emulatedaci.Application{{TenantID: tenant, ClientID: client, Secrets: []emulatedaci.Secret{{Value: "client-secret"}}}},
		Subscriptions: []emulatedaci.Subscription{{ID: subscription, ResourceGroups: []string{"burst"}}},
		Settings:      emulatedaci.Settings{TransitTime: -1, RefuseUnknownMembers: true},
	})
	into := &accepted{byUID: map[string]*group{}}
	web := serve(t, recording(server.Handler(), into, readACI))
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("closing the cloud: %v", err)
		}
	})
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	cfg := aci.Config{
		SubscriptionID: subscription, ResourceGroup: "burst", Region: "westeurope",
		TenantID: tenant, ClientID: client, ClientSecret: "client-secret",
		ClusterUID: settings.ClusterUID, NodeName: "virtual-aci", RootCAs: roots, SettleTime: -1,
		Cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: web.URL,
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: web.URL, Audience: "https://management.azure.com"},
			},
		},
	}
	cfg.Quota = providertest.Unbounded(t, cfg.Plan())
	p, err := aci.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return account{provider: p, record: server.Fleet().Record, accepted: into}
}

// form reads the members of a request to ECI: lists are numbered from 1, structs
// dotted.
type form struct{ url.Values }

// list are the values of NAME.1, NAME.2 and so on.
func (f form) list(name string) []string {
	var out []string
	for i := 1; f.Has(fmt.Sprintf("%s.%d", name, i)); i++ {
		out = append(out, f.Get(fmt.Sprintf("%s.%d", name, i)))
	}
	return out
}

// each calls visit with the names of the elements of a list of structs.
func (f form) each(name string, visit func(at string)) {
	for i := 1; f.below(fmt.Sprintf("%s.%d.", name, i)); i++ {
		visit(fmt.Sprintf("%s.%d", name, i))
	}
}

func (f form) below(prefix string) bool {
	for k := range f.Values {
		if strings.HasPrefix(k, prefix) {
			return true
		}
	}
	return false
}

func (f form) pairs(name, key, value string) map[string]string {
	out := map[string]string{}
	f.each(name, func(at string) { out[f.Get(at+"."+key)] = f.Get(at + "." + value) })
	return out
}

func (f form) number(name string) float64 {
	n, _ := strconv.ParseFloat(f.Get(name), 64)
	return n
}

// struct_ writes all that is below a member, sorted, for comparisons.
func (f form) struct_(prefix string) string {
	below := url.Values{}
	for k, v := range f.Values {
		if rest, ok := strings.CutPrefix(k, prefix); ok {
			below[rest] = v
		}
	}
	text, _ := url.QueryUnescape(below.Encode())
	return text
}

func readECI(r *http.Request, body []byte) (string, *group) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return "", nil
	}
	for k, v := range r.URL.Query() {
		values[k] = v
	}
	f := form{values}
	if f.Get("Action") != "CreateContainerGroup" {
		return "", nil
	}
	g := &group{
		Files: map[string]map[string]file{}, EmptyDirs: map[string]string{}, Hosts: map[string][]string{}, Restart: f.Get("RestartPolicy"),
		Hostname: f.Get("HostName"), Grace: f.Get("TerminationGracePeriodSeconds"), Deadline: f.Get("ActiveDeadlineSeconds"),
		DNS: f.Get("DnsPolicy"), Sysctls: f.pairs("SecurityContext.Sysctl", "Name", "Value"),
	}
	if d := f.struct_("DnsConfig."); d != "" {
		g.DNS += " " + d
	}
	f.each("HostAliase", func(at string) { g.Hosts[f.Get(at+".Ip")] = f.list(at + ".Hostname") })
	f.each("ImageRegistryCredential", func(at string) { g.Registry = append(g.Registry, f.Get(at+".Server")+" "+f.Get(at+".UserName")) })
	f.each("Volume", func(at string) {
		name := f.Get(at + ".Name")
		once(g, "volume", g.EmptyDirs, name)
		once(g, "volume", g.Files, name)
		if f.Get(at+".Type") == "EmptyDirVolume" {
			g.EmptyDirs[name] = strings.TrimSpace(f.Get(at+".EmptyDirVolume.Medium") + " " + f.Get(at+".EmptyDirVolume.SizeLimit"))
			return
		}
		files := map[string]file{}
		f.each(at+".ConfigFileVolume.ConfigFileToPath", func(at string) {
			data, _ := base64.StdEncoding.DecodeString(f.Get(at + ".Content"))
			mode, err := strconv.ParseInt(f.Get(at+".Mode"), 8, 32)
			if err != nil {
				mode = 0o644 // the service's default
			}
			once(g, "file of "+name, files, path.Clean(f.Get(at+".Path")))
			files[path.Clean(f.Get(at+".Path"))] = file{string(data), int32(mode)}
		})
		g.Files[name] = files
	})
	f.each("InitContainer", func(at string) { g.Inits = append(g.Inits, eciContainer(g, f, at)) })
	f.each("Container", func(at string) { g.Containers = append(g.Containers, eciContainer(g, f, at)) })
	uid := f.pairs("Tag", "Key", "Value")["autoburst.io/pod-uid"]
	for k := range values {
		if own := strings.HasPrefix(k, "Tag.") || strings.HasPrefix(k, "Signature") || k == "Timestamp" || k == "ClientToken" || k == "ContainerGroupName"; own {
			delete(values, k)
		}
	}
	g.raw = values.Encode()
	return uid, g
}

func eciContainer(g *group, f form, at string) container {
	c := container{
		Name: f.Get(at + ".Name"), Image: f.Get(at + ".Image"), PullPolicy: f.Get(at + ".ImagePullPolicy"), WorkingDir: f.Get(at + ".WorkingDir"),
		Command: f.list(at + ".Command"), Args: f.list(at + ".Arg"), Env: map[string]string{}, Secret: map[string]bool{}, FromCloud: map[string]string{},
		Mounts: map[string]mount{}, CPU: f.number(at + ".Cpu"), Memory: f.number(at + ".Memory"),
		Liveness: f.struct_(at + ".LivenessProbe."), Readiness: f.struct_(at + ".ReadinessProbe."),
		PostStart: f.struct_(at + ".LifecyclePostStartHandler"), PreStop: f.struct_(at + ".LifecyclePreStopHandler"),
		Stdin: f.Get(at+".Stdin") == "true", TTY: f.Get(at+".Tty") == "true", Security: map[string]string{},
	}
	hidden := f.Get(at+".EnvironmentVarHide") == "true"
	f.each(at+".EnvironmentVar", func(at string) {
		name := f.Get(at + ".Key")
		once(g, "variable of "+c.Name, c.Env, name)
		once(g, "variable of "+c.Name, c.FromCloud, name)
		if field := f.Get(at + ".FieldRef.FieldPath"); field != "" {
			c.FromCloud[name] = field
			return
		}
		c.Env[name], c.Secret[name] = f.Get(at+".Value"), hidden
	})
	f.each(at+".Port", func(at string) { c.Ports = append(c.Ports, f.Get(at+".Port")+"/"+f.Get(at+".Protocol")) })
	f.each(at+".VolumeMount", func(at string) {
		once(g, "mount of "+c.Name, c.Mounts, path.Clean(f.Get(at+".MountPath")))
		c.Mounts[path.Clean(f.Get(at+".MountPath"))] = mount{f.Get(at + ".Name"), f.Get(at + ".SubPath"), f.Get(at+".ReadOnly") == "true"}
	})
	for member, name := range map[string]string{
		".SecurityContext.RunAsUser": "user", ".SecurityContextRunAsGroup": "group", ".SecurityContextRunAsNonRoot": "nonRoot",
		".SecurityContext.ReadOnlyRootFilesystem": "readOnly",
	} {
		if f.Has(at + member) {
			c.Security[name] = f.Get(at + member)
		}
	}
	if add := f.list(at + ".SecurityContext.Capability.Add"); len(add) > 0 {
		c.Security["add"] = strings.Join(add, ",")
	}
	return c
}

// The body of a PUT to ACI, as far as the tests look at it.
type aciBody struct {
	Tags       map[string]string
	Properties struct {
		RestartPolicy              string
		InitContainers, Containers []aciContainer
		ImageRegistryCredentials   []struct{ Server, Username string }
		IPAddress                  *struct{ Ports []aciPort }
		DNSConfig                  json.RawMessage
		Volumes                    []struct {
			Name     string
			EmptyDir json.RawMessage
			Secret   map[string]string
		}
	}
}

type aciPort struct {
	Port     int
	Protocol string
}

type aciContainer struct {
	Name       string
	Properties struct {
		Image                string
		Command              []string
		EnvironmentVariables []struct {
			Name               string
			Value, SecureValue *string
		}
		Ports           []aciPort
		LivenessProbe   json.RawMessage
		ReadinessProbe  json.RawMessage
		SecurityContext map[string]any
		Resources       struct {
			Requests struct{ CPU, MemoryInGB float64 }
		}
		VolumeMounts []struct {
			Name, MountPath string
			ReadOnly        bool
		}
	}
}

func readACI(r *http.Request, body []byte) (string, *group) {
	if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/containerGroups/") {
		return "", nil
	}
	var b aciBody
	if err := json.Unmarshal(body, &b); err != nil {
		return "", nil
	}
	g := &group{Files: map[string]map[string]file{}, EmptyDirs: map[string]string{}, Restart: b.Properties.RestartPolicy, DNS: string(b.Properties.DNSConfig)}
	for _, c := range b.Properties.ImageRegistryCredentials {
		g.Registry = append(g.Registry, c.Server+" "+c.Username)
	}
	if a := b.Properties.IPAddress; a != nil {
		for _, p := range a.Ports {
			g.Address = append(g.Address, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	for _, v := range b.Properties.Volumes {
		once(g, "volume", g.EmptyDirs, v.Name)
		once(g, "volume", g.Files, v.Name)
		if v.EmptyDir != nil {
			g.EmptyDirs[v.Name] = ""
			continue
		}
		files := map[string]file{}
		for name, content := range v.Secret {
			data, _ := base64.StdEncoding.DecodeString(content)
			files[name] = file{string(data), 0o644} // the service's only mode
		}
		g.Files[v.Name] = files
	}
	for _, c := range b.Properties.InitContainers {
		g.Inits = append(g.Inits, c.container(g))
	}
	for _, c := range b.Properties.Containers {
		g.Containers = append(g.Containers, c.container(g))
	}
	var rest map[string]any
	if err := json.Unmarshal(body, &rest); err != nil {
		return "", nil
	}
	delete(rest, "tags")
	raw, err := json.Marshal(rest)
	if err != nil {
		return "", nil
	}
	g.raw = string(raw)
	return b.Tags["autoburst-pod-uid"], g
}

func (a *aciContainer) container(g *group) container {
	p := &a.Properties
	c := container{
		Name: a.Name, Image: p.Image, Command: p.Command, Env: map[string]string{}, Secret: map[string]bool{}, Mounts: map[string]mount{},
		CPU: p.Resources.Requests.CPU, Memory: p.Resources.Requests.MemoryInGB, Liveness: string(p.LivenessProbe), Readiness: string(p.ReadinessProbe),
		Security: map[string]string{},
	}
	for _, e := range p.EnvironmentVariables {
		once(g, "variable of "+c.Name, c.Env, e.Name)
		switch {
		case e.SecureValue != nil:
			c.Env[e.Name], c.Secret[e.Name] = *e.SecureValue, true
		case e.Value != nil:
			c.Env[e.Name], c.Secret[e.Name] = *e.Value, false
		}
	}
	for _, port := range p.Ports {
		c.Ports = append(c.Ports, fmt.Sprintf("%d/%s", port.Port, port.Protocol))
	}
	for _, m := range p.VolumeMounts {
		once(g, "mount of "+c.Name, c.Mounts, path.Clean(m.MountPath))
		c.Mounts[path.Clean(m.MountPath)] = mount{m.Name, "", m.ReadOnly}
	}
	for name, value := range p.SecurityContext {
		text, _ := json.Marshal(value)
		switch name {
		case "runAsUser":
			c.Security["user"] = string(text)
		case "runAsGroup":
			c.Security["group"] = string(text)
		default:
			c.Security[name] = string(text)
		}
	}
	return c
}
