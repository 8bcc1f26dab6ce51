package eci

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// The answer of DescribeContainerGroups, with the published member names.

type groupView struct {
	ContainerGroupID   string `json:"ContainerGroupId"`
	ContainerGroupName string
	RegionID           string `json:"RegionId"`
	ZoneID             string `json:"ZoneId"`
	VpcID              string `json:"VpcId"`
	VSwitchID          string `json:"VSwitchId"`
	SecurityGroupID    string `json:"SecurityGroupId"`
	EniInstanceID      string `json:"EniInstanceId"`
	IntranetIP         string `json:"IntranetIp"`
	InternetIP         string `json:"InternetIp"`
	Status             string
	RestartPolicy      string
	CPU                float64 `json:"Cpu"`
	Memory             float64
	InstanceType       string
	CreationTime       string
	SucceededTime      string `json:",omitempty"`
	FailedTime         string `json:",omitempty"`
	ExpiredTime        string `json:",omitempty"`
	SpotStrategy       string
	SpotPriceLimit     float64 `json:",omitempty"`
	EphemeralStorage   int     `json:",omitempty"`
	ResourceGroupID    string  `json:"ResourceGroupId,omitempty"`
	RAMRoleName        string  `json:"RamRoleName,omitempty"`
	DNSPolicy          string  `json:"DnsPolicy,omitempty"`
	ComputeCategory    string  `json:",omitempty"`
	Tags               []keyValue
	Containers         []containerView
	InitContainers     []containerView
	Volumes            []volumeView
	Events             []eventView
	HostAliases        []hostAliasView
	DNSConfig          *dnsView      `json:"DnsConfig,omitempty"`
	EciSecurityContext *securityView `json:",omitempty"`
}

type keyValue struct{ Key, Value string }

type nameValue struct{ Name, Value string }

type containerView struct {
	Name, Image     string
	CPU             float64 `json:"Cpu"`
	Memory          float64
	Gpu             int
	Commands        []string `json:",omitempty"` // of a container
	Command         []string `json:",omitempty"` // of an init container
	Args            []string
	WorkingDir      string
	ImagePullPolicy string
	EnvironmentVars []envView
	Ports           []portView
	VolumeMounts    []mountView
	Ready           bool
	RestartCount    int
	CurrentState    stateView
	PreviousState   *stateView `json:",omitempty"`
	LivenessProbe   *probeView `json:",omitempty"`
	ReadinessProbe  *probeView `json:",omitempty"`
	// Of a container only.
	Stdin     *bool `json:",omitempty"`
	StdinOnce *bool `json:",omitempty"`
	Tty       *bool `json:",omitempty"`
}

type stateView struct {
	State        string
	DetailStatus string
	Reason       string
	Message      string
	ExitCode     *int   `json:",omitempty"`
	Signal       *int   `json:",omitempty"`
	StartTime    string `json:",omitempty"`
	FinishTime   string `json:",omitempty"`
}

type envView struct {
	Key, Value string
	ValueFrom  *valueFrom `json:",omitempty"`
}

type valueFrom struct{ FieldRef struct{ FieldPath string } }

type portView struct {
	Protocol string
	Port     int
}

type mountView struct {
	Name, MountPath, SubPath, MountPropagation string
	ReadOnly                                   bool
}

type probeView struct {
	InitialDelaySeconds, PeriodSeconds, TimeoutSeconds, SuccessThreshold, FailureThreshold int
	Execs                                                                                  []string   `json:",omitempty"`
	HTTPGet                                                                                *httpView  `json:"HttpGet,omitempty"`
	TCPSocket                                                                              *tcpSocket `json:"TcpSocket,omitempty"`
}

type httpView struct {
	Scheme, Path string
	Port         int
}

type tcpSocket struct{ Port int }

type volumeView struct {
	Name, Type                        string
	EmptyDirVolumeMedium              string           `json:",omitempty"`
	EmptyDirVolumeSizeLimit           string           `json:",omitempty"`
	NFSVolumeServer                   string           `json:",omitempty"`
	NFSVolumePath                     string           `json:",omitempty"`
	NFSVolumeReadOnly                 bool             `json:",omitempty"`
	DiskVolumeDiskID                  string           `json:"DiskVolumeDiskId,omitempty"`
	DiskVolumeFsType                  string           `json:",omitempty"`
	FlexVolumeDriver                  string           `json:",omitempty"`
	FlexVolumeFsType                  string           `json:",omitempty"`
	FlexVolumeOptions                 string           `json:",omitempty"`
	ConfigFileVolumeConfigFileToPaths []configFileView `json:",omitempty"`
}

type configFileView struct{ Path, Content string }

type eventView struct {
	Type, Name, Reason, Message   string
	Count                         int
	FirstTimestamp, LastTimestamp string
}

type hostAliasView struct {
	IP        string `json:"Ip"`
	Hostnames []string
}

type dnsView struct {
	NameServers, Searches []string
	Options               []nameValue
}

type securityView struct{ Sysctls []nameValue }

// view is the group in a state as DescribeContainerGroups shows it.
func (g *group) view(st sim.State, withEvents bool) groupView {
	req := definition(st)
	v := groupView{
		ContainerGroupID: g.id, ContainerGroupName: req.str("ContainerGroupName"), RegionID: g.region,
		ZoneID: g.subnet.ZoneID, VpcID: g.subnet.VpcID, VSwitchID: g.subnet.ID, SecurityGroupID: g.securityGroup,
		Status: string(st.Phase), RestartPolicy: string(st.Spec.RestartPolicy), CPU: st.Spec.CPU, Memory: st.Spec.MemoryGiB,
		InstanceType: g.instanceType, CreationTime: wireTime(st.Created), SpotStrategy: "NoSpot",
		SpotPriceLimit: req.number("SpotPriceLimit"), EphemeralStorage: req.integer("EphemeralStorage"),
		ResourceGroupID: req.str("ResourceGroupId"), RAMRoleName: req.str("RamRoleName"),
		DNSPolicy: req.str("DnsPolicy"), ComputeCategory: req.str("ComputeCategory.1"),
		Tags: append([]keyValue{}, g.tags...), Containers: []containerView{}, InitContainers: []containerView{},
		Volumes: []volumeView{}, Events: []eventView{}, HostAliases: []hostAliasView{},
	}
	if g.spot {
		v.SpotStrategy = req.str("SpotStrategy")
	}
	if st.Phase != sim.Scheduling && st.Phase != sim.ScheduleFailed {
		v.EniInstanceID, v.IntranetIP, v.InternetIP = g.eni, g.ip.String(), g.internetIP
	}
	switch st.Phase {
	case sim.Succeeded:
		v.SucceededTime = wireTime(st.Finished)
	case sim.Failed, sim.ScheduleFailed:
		v.FailedTime = wireTime(st.Finished)
	case sim.Expired:
		v.ExpiredTime = wireTime(st.Finished)
	}
	for i, c := range req.list("InitContainer") {
		cv := newContainerView(c, st.InitContainers[i])
		cv.Command = c.strings("Command")
		v.InitContainers = append(v.InitContainers, cv)
	}
	for i, c := range req.list("Container") {
		cv := newContainerView(c, st.Containers[i])
		cv.Commands = c.strings("Command")
		cv.Stdin, cv.StdinOnce, cv.Tty = ptr(c.boolean("Stdin")), ptr(c.boolean("StdinOnce")), ptr(c.boolean("Tty"))
		cv.LivenessProbe, cv.ReadinessProbe = newProbeView(c, "LivenessProbe"), newProbeView(c, "ReadinessProbe")
		v.Containers = append(v.Containers, cv)
	}
	for _, vol := range req.list("Volume") {
		v.Volumes = append(v.Volumes, newVolumeView(vol))
	}
	if withEvents {
		for _, e := range newest(st.Events) {
			v.Events = append(v.Events, newEventView(st, e))
		}
	}
	for _, h := range req.list("HostAliase") {
		v.HostAliases = append(v.HostAliases, hostAliasView{h.str("Ip"), h.strings("Hostname")})
	}
	if req.has("DnsConfig") {
		v.DNSConfig = &dnsView{req.strings("DnsConfig.NameServer"), req.strings("DnsConfig.Search"), nameValues(req.list("DnsConfig.Option"))}
	}
	if req.has("SecurityContext") {
		v.EciSecurityContext = &securityView{nameValues(req.list("SecurityContext.Sysctl"))}
	}
	return v
}

func newContainerView(c *member, st sim.ContainerState) containerView {
	v := containerView{
		Name: st.Name, Image: st.Image, CPU: c.number("Cpu"), Memory: c.number("Memory"), Gpu: c.integer("Gpu"),
		Args: nonNil(c.strings("Arg")), WorkingDir: c.str("WorkingDir"), ImagePullPolicy: c.str("ImagePullPolicy"),
		EnvironmentVars: []envView{}, Ports: []portView{}, VolumeMounts: []mountView{},
		Ready: st.Ready, RestartCount: st.RestartCount, CurrentState: newStateView(st.Current),
	}
	if v.ImagePullPolicy == "" {
		v.ImagePullPolicy = "IfNotPresent"
	}
	if st.Previous != nil {
		v.PreviousState = ptr(newStateView(*st.Previous))
	}
	for _, e := range c.list("EnvironmentVar") {
		ev := envView{Key: e.str("Key"), Value: e.str("Value")}
		if c.boolean("EnvironmentVarHide") {
			ev.Value = ""
		}
		if path := e.str("FieldRef.FieldPath"); path != "" {
			ev.ValueFrom = &valueFrom{}
			ev.ValueFrom.FieldRef.FieldPath = path
		}
		v.EnvironmentVars = append(v.EnvironmentVars, ev)
	}
	for _, p := range c.list("Port") {
		protocol := p.str("Protocol")
		if protocol == "" {
			protocol = "TCP"
		}
		v.Ports = append(v.Ports, portView{protocol, p.integer("Port")})
	}
	for _, m := range c.list("VolumeMount") {
		v.VolumeMounts = append(v.VolumeMounts, mountView{
			m.str("Name"), m.str("MountPath"), m.str("SubPath"), m.str("MountPropagation"), m.boolean("ReadOnly"),
		})
	}
	return v
}

func newStateView(st sim.Status) stateView {
	v := stateView{State: string(st.Run), Reason: st.Reason, Message: st.Message, StartTime: wireTime(st.StartedAt), FinishTime: wireTime(st.FinishedAt)}
	if st.Run == sim.Terminated {
		v.ExitCode, v.Signal = ptr(st.ExitCode), ptr(st.Signal)
	}
	return v
}

func newProbeView(c *member, name string) *probeView {
	if !c.has(name) {
		return nil
	}
	p := c.get(name)
	number := func(path string, def int) int {
		if p.has(path) {
			return p.integer(path)
		}
		return def
	}
	v := &probeView{
		InitialDelaySeconds: p.integer("InitialDelaySeconds"), PeriodSeconds: number("PeriodSeconds", 10),
		TimeoutSeconds: number("TimeoutSeconds", 1), SuccessThreshold: 1, FailureThreshold: number("FailureThreshold", 3),
		Execs: p.strings("Exec.Command"),
	}
	if p.has("HttpGet") {
		v.HTTPGet = &httpView{p.str("HttpGet.Scheme"), p.str("HttpGet.Path"), p.integer("HttpGet.Port")}
	}
	if p.has("TcpSocket") {
		v.TCPSocket = &tcpSocket{p.integer("TcpSocket.Port")}
	}
	return v
}

func newVolumeView(vol *member) volumeView {
	v := volumeView{
		Name: vol.str("Name"), Type: vol.str("Type"),
		EmptyDirVolumeMedium: vol.str("EmptyDirVolume.Medium"), EmptyDirVolumeSizeLimit: vol.str("EmptyDirVolume.SizeLimit"),
		NFSVolumeServer: vol.str("NFSVolume.Server"), NFSVolumePath: vol.str("NFSVolume.Path"), NFSVolumeReadOnly: vol.boolean("NFSVolume.ReadOnly"),
		DiskVolumeDiskID: vol.str("DiskVolume.DiskId"), DiskVolumeFsType: vol.str("DiskVolume.FsType"),
		FlexVolumeDriver: vol.str("FlexVolume.Driver"), FlexVolumeFsType: vol.str("FlexVolume.FsType"), FlexVolumeOptions: vol.str("FlexVolume.Options"),
	}
	for _, f := range vol.list("ConfigFileVolume.ConfigFileToPath") {
		v.ConfigFileVolumeConfigFileToPaths = append(v.ConfigFileVolumeConfigFileToPaths, configFileView{f.str("Path"), f.str("Content")})
	}
	return v
}

func newEventView(st sim.State, e sim.Event) eventView {
	return eventView{
		Type: e.Type, Name: eventName(st, e), Reason: e.Reason, Message: e.Message, Count: e.Count,
		FirstTimestamp: wireTime(e.First), LastTimestamp: wireTime(e.Last),
	}
}

// eventName is the group's name and a number that stays with the event.
func eventName(st sim.State, e sim.Event) string {
	h := fnv.New64a()
	fmt.Fprint(h, st.Spec.ID, e.Reason, e.Message, e.Container)
	return fmt.Sprintf("%s.%016x", st.Spec.Name, h.Sum64())
}

// newest are the events that the service still shows, oldest first.
func newest(events []sim.Event) []sim.Event {
	if limit := published().facts.Limits.Events; len(events) > limit {
		return events[len(events)-limit:]
	}
	return events
}

// wireTime is RFC 3339 in UTC with seconds; empty for the zero time.
func wireTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func nameValues(list []*member) []nameValue {
	out := []nameValue{}
	for _, m := range list {
		out = append(out, nameValue{m.str("Name"), m.str("Value")})
	}
	return out
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func ptr[T any](v T) *T { return &v }
