package eci

import (
	"encoding/base64"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/autoburst/autoburst/test/cloud/runc"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

// machine is what the containers of a group have in common, as a request asks for it.
func (g *group) machine() runc.Machine {
	m := runc.Machine{Hostname: g.req.str("HostName"), Address: g.ip.String(), Sysctls: map[string]string{}}
	if m.Hostname == "" {
		m.Hostname = g.req.str("ContainerGroupName")
	}
	m.Hostname = m.Hostname[:min(len(m.Hostname), maxHostname)]
	for _, c := range g.req.list("Container") {
		for _, p := range c.list("Port") {
			if n := p.integer("Port"); p.str("Protocol") != "UDP" && !slices.Contains(m.Ports, n) {
				m.Ports = append(m.Ports, n)
			}
		}
	}
	for _, h := range g.req.list("HostAliase") {
		m.Hosts = append(m.Hosts, runc.Host{Address: h.str("Ip"), Names: h.strings("Hostname")})
	}
	m.Resolver = resolver(g.req.get("DnsConfig"))
	for _, s := range g.req.list("SecurityContext.Sysctl") {
		m.Sysctls[s.str("Name")] = s.str("Value")
	}
	for _, v := range g.req.list("Volume") {
		volume := runc.Volume{Name: v.str("Name")}
		usual := modeOf(v.str("ConfigFileVolume.DefaultMode"), usualMode)
		for _, f := range v.list("ConfigFileVolume.ConfigFileToPath") {
			content, _ := base64.StdEncoding.DecodeString(f.str("Content")) // checked before
			volume.Files = append(volume.Files, runc.File{Path: f.str("Path"), Content: content, Mode: modeOf(f.str("Mode"), usual)})
		}
		m.Volumes = append(m.Volumes, volume)
	}
	return m
}

// maxHostname is how long a name the kernel takes.
const maxHostname = 64

// usualMode is that of a config file which names none.
const usualMode fs.FileMode = 0o644

// modeOf reads a mode as the published examples write it, in octal digits.
func modeOf(text string, otherwise fs.FileMode) fs.FileMode {
	n, err := strconv.ParseUint(text, 8, 9)
	if err != nil {
		return otherwise
	}
	return fs.FileMode(n)
}

// resolver is the text of resolv.conf; without a configuration, that of the region's
// resolvers.
func resolver(config *member) string {
	servers := config.strings("NameServer")
	if len(servers) == 0 {
		servers = []string{"100.100.2.136", "100.100.2.138"}
	}
	var b strings.Builder
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if searches := config.strings("Search"); len(searches) > 0 {
		b.WriteString("search " + strings.Join(searches, " ") + "\n")
	}
	var options []string
	for _, o := range config.list("Option") {
		text := o.str("Name")
		if value := o.str("Value"); value != "" {
			text += ":" + value
		}
		options = append(options, text)
	}
	if len(options) > 0 {
		b.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return b.String()
}

// setting is where and with which rights a container runs.
func (g *group) setting(c *member) runc.Setting {
	s := runc.Setting{
		WorkingDir:      c.str("WorkingDir"),
		User:            uint32(c.integer("SecurityContext.RunAsUser")),
		Group:           uint32(c.integer("SecurityContextRunAsGroup")),
		AddCapabilities: c.strings("SecurityContext.Capability.Add"),
		ReadOnlyRoot:    c.boolean("SecurityContext.ReadOnlyRootFilesystem"),
		CPU:             c.number("Cpu"), CPULimit: c.number("Cpu"),
		Memory:      int64(c.number("Memory") * (1 << 30)),
		Terminal:    c.boolean("Tty"),
		MessagePath: c.str("TerminationMessagePath"),
	}
	if s.Memory == 0 {
		s.Memory = int64(g.size.gib * (1 << 30)) // what the machine has
	}
	if s.MessagePath == "" {
		s.MessagePath = "/dev/termination-log"
	}
	for _, m := range c.list("VolumeMount") {
		s.Mounts = append(s.Mounts, runc.Mount{
			Volume: m.str("Name"), Path: m.str("MountPath"), SubPath: strings.Trim(m.str("SubPath"), "/"), ReadOnly: m.boolean("ReadOnly"),
		})
	}
	return s
}

// probeOf is a probe of a container; nil without one.
func probeOf(c *member, name string) *sim.Probe {
	if !c.has(name) {
		return nil
	}
	p := c.get(name)
	seconds := func(member string) time.Duration { return time.Duration(p.integer(member)) * time.Second }
	out := &sim.Probe{
		InitialDelay: seconds("InitialDelaySeconds"), Period: seconds("PeriodSeconds"), Timeout: seconds("TimeoutSeconds"),
		FailureThreshold: p.integer("FailureThreshold"), SuccessThreshold: p.integer("SuccessThreshold"),
	}
	switch {
	case p.has("HttpGet"):
		out.HTTP = &sim.HTTPAction{Port: p.integer("HttpGet.Port"), Scheme: p.str("HttpGet.Scheme"), Path: p.str("HttpGet.Path")}
	case p.has("TcpSocket"):
		out.TCPPort = p.integer("TcpSocket.Port")
	default:
		out.Exec = p.strings("Exec.Command")
	}
	return out
}

// hookOf is a hook of a container, whose members begin with a prefix; nil without one.
// There is no other host than the container's own.
func hookOf(c *member, prefix string) *sim.Action {
	switch command := c.strings(prefix + "Exec"); {
	case len(command) > 0:
		return &sim.Action{Exec: command}
	case c.has(prefix + "HttpGetPort"):
		a := &sim.HTTPAction{
			Port: c.integer(prefix + "HttpGetPort"), Scheme: c.str(prefix + "HttpGetScheme"), Path: c.str(prefix + "HttpGetPath"), Headers: http.Header{},
		}
		for _, h := range c.list(prefix + "HttpGetHttpHeader") {
			a.Headers.Add(h.str("Name"), h.str("Value"))
		}
		return &sim.Action{HTTP: a}
	case c.has(prefix + "TcpSocketPort"):
		return &sim.Action{TCPPort: c.integer(prefix + "TcpSocketPort")}
	}
	return nil
}
