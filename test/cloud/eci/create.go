package eci

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// cloudName is this cloud's name in the billing record.
const cloudName = "eci"

// tokenUse is a ClientToken's first use.
type tokenUse struct {
	at      time.Time
	members string // everything that must not differ
	target  string
	answer  map[string]any
	refusal *apiError // with Options.RememberRefusals
}

// unsigned are the members that differ between two sendings of one request.
var unsigned = []string{
	"AccessKeyId", "Format", "SecurityToken", "Signature", "SignatureMethod",
	"SignatureNonce", "SignatureType", "SignatureVersion", "Timestamp",
}

// once carries a change out once per ClientToken. Refusals are not remembered.
func (s *Server) once(c *call, do func() (map[string]any, *apiError)) (map[string]any, *apiError) {
	token := c.members.str("ClientToken")
	if token == "" {
		return do()
	}
	if limit := published().facts.Limits.ClientToken; len(token) > limit || strings.ContainsFunc(token, func(r rune) bool { return r > 126 || r < 32 }) {
		return nil, invalidParameter("ClientToken must consist of at most %d ASCII characters.", limit)
	}
	rest := maps.Clone(c.form)
	for _, name := range unsigned {
		rest.Del(name)
	}
	key, members, now := c.action+"\x00"+token, rest.Encode(), s.fleet.Now()
	if use, ok := s.tokens[key]; ok && now.Sub(use.at) <= s.opts.TokenRetention {
		c.target = use.target
		if use.members != members {
			return nil, refuse(http.StatusBadRequest, "IdempotentParameterMismatch", "The request uses the same client token as a previous, but non-identical request. Do not reuse a client token with different requests, unless the requests are identical.")
		}
		if use.refusal != nil {
			return nil, use.refusal
		}
		return maps.Clone(use.answer), nil
	}
	answer, err := do()
	if err != nil {
		if s.opts.RememberRefusals {
			s.tokens[key] = tokenUse{at: now, members: members, refusal: err}
		}
		return nil, err
	}
	s.tokens[key] = tokenUse{at: now, members: members, target: c.target, answer: maps.Clone(answer)}
	return answer, nil
}

// create is CreateContainerGroup.
func (s *Server) create(c *call) (map[string]any, *apiError) {
	if err := checkGroup(c.members); err != nil {
		return nil, err
	}
	return s.once(c, func() (map[string]any, *apiError) {
		g, err := s.newGroup(c)
		if err != nil {
			return nil, err
		}
		if c.members.boolean("DryRun") {
			s.subnets[g.subnet.ID].release(g.ip, g.id)
			return nil, publishedRefusal(c.action, "DryRunOperation")
		}
		live, startErr := s.fleet.Start(g.spec)
		if startErr != nil {
			s.subnets[g.subnet.ID].release(g.ip, g.id)
			return nil, refuse(http.StatusInternalServerError, "InternalError", "The request processing has failed due to some unknown error: %v.", startErr)
		}
		g.live = live
		s.groups[g.id] = g
		s.setDeadline(g)
		s.enterMarket(g)
		c.target = g.id
		return map[string]any{"ContainerGroupId": g.id}, nil
	})
}

// newGroup finds size, place, machine and address of a group.
func (s *Server) newGroup(c *call) (*group, *apiError) {
	req := c.members
	if s.debt != nil {
		return nil, publishedRefusal(c.action, "Account.Arrearage")
	}
	region, _ := s.region(req.str("RegionId"))
	place, err := s.place(region, req)
	if err != nil {
		return nil, err
	}
	g := &group{
		id: newID("eci"), eni: newID("eni"), req: req, region: region.ID,
		securityGroup: place.securityGroup, grace: s.opts.GracePeriod,
		spot: wantsSpot(req), tags: tagsOf(req.list("Tag")),
	}
	if req.has("TerminationGracePeriodSeconds") {
		g.grace = time.Duration(req.integer("TerminationGracePeriodSeconds")) * time.Second
	}
	if req.has("ActiveDeadlineSeconds") {
		g.deadline = time.Duration(req.integer("ActiveDeadlineSeconds")) * time.Second
	}
	candidates, err := candidateSizes(req, g.spot)
	if err != nil {
		return nil, err
	}
	subnets := place.subnets
	if req.str("ScheduleStrategy") == "VSwitchRandom" {
		subnets = shuffled(subnets)
	}
	if s.opts.FullVSwitchIsPassed && req.str("PrivateIpAddress") == "" {
		if open := slices.DeleteFunc(slices.Clone(subnets), (*subnet).full); len(open) > 0 {
			subnets = open
		}
	}
	if err := s.checkExtras(req, candidates); err != nil {
		return nil, err
	}
	failure, err := s.findMachine(g, subnets, candidates)
	if err != nil {
		return nil, err
	}
	if s.opts.MaxCPU > 0 && s.usedCPU(region.ID)+g.size.cpu > s.opts.MaxCPU {
		return nil, publishedRefusal(c.action, "QuotaExceeded", "The vCPU")
	}
	if err := g.takeAddress(c.action); err != nil {
		return nil, err
	}
	s.takeInternetAddress(g)
	g.spec = g.simSpec(failure)
	g.spec.Images, err = s.cachedImages(g)
	if err != nil {
		g.subnet.release(g.ip, g.id)
		return nil, err
	}
	return g, nil
}

// candidate is one way to host a group.
type candidate struct {
	instanceType string
	size         size
}

// candidateSizes is the one size asked for, or that of each instance type.
func candidateSizes(req *member, spot bool) ([]candidate, *apiError) {
	names := req.str("InstanceType")
	if names == "" {
		sz, err := groupSize(req, spot)
		return []candidate{{size: sz}}, err
	}
	var out []candidate
	for _, name := range strings.Split(names, ",") {
		name = strings.TrimSpace(name)
		sz, ok := instanceTypes[name]
		if !ok {
			return nil, publishedRefusal("CreateContainerGroup", "InvalidInstanceTypeForEciBuy")
		}
		out = append(out, candidate{name, sz})
	}
	return out, nil
}

// findMachine takes the first vSwitch and size that have stock. A late
// shortage lets the call pass and returns how scheduling will fail.
func (s *Server) findMachine(g *group, subnets []*subnet, sizes []candidate) (*sim.ScheduleFailure, *apiError) {
	var late *sim.ScheduleFailure
	dear := false
	for _, n := range subnets {
		for _, c := range sizes {
			l := lotOf(g.req, g.region, n.ZoneID, c.instanceType, c.size, g.spot)
			if !s.market.affordable(l) {
				dear = true
				continue
			}
			short := s.market.shortage(l)
			if short == nil {
				g.subnet, g.instanceType, g.size = n, c.instanceType, c.size
				return nil, nil
			}
			if short.Late && late == nil {
				reason := short.Reason
				if reason == "" {
					reason = "NoStock"
				}
				late = &sim.ScheduleFailure{Reason: reason, Message: "The resources of the requested specification are out of stock in zone " + n.ZoneID + "."}
				g.subnet, g.instanceType, g.size = n, c.instanceType, c.size
			}
		}
	}
	switch {
	case late == nil && dear:
		return nil, publishedRefusal("CreateContainerGroup", "Spot.NotMatched", "The SpotPriceLimit is below the market price")
	case late == nil:
		return nil, publishedRefusal("CreateContainerGroup", "OperationDenied.NoStock")
	}
	return late, nil
}

// takeAddress gets the group's address from its vSwitch.
func (g *group) takeAddress(action string) *apiError {
	if want := g.req.str("PrivateIpAddress"); want != "" {
		ip, err := netip.ParseAddr(want)
		if err != nil || !g.subnet.CIDR.Contains(ip) {
			return invalidParameter("PrivateIpAddress %q is not an address of vSwitch %s.", clip(want), g.subnet.ID)
		}
		if _, used := g.subnet.used[ip]; used {
			return publishedRefusal(action, "PrivateIpAddress.Already.InUse")
		}
		g.subnet.used[ip] = g.id
		g.ip = ip
		return nil
	}
	ip, ok := g.subnet.take(g.id)
	if !ok {
		return publishedRefusal(action, "InvalidVSwitchId.IpNotEnough")
	}
	g.ip = ip
	return nil
}

func (s *Server) usedCPU(region string) float64 {
	var sum float64
	for _, g := range s.groups {
		if g.region == region && !g.live.Phase().Ended() {
			sum += g.size.cpu
		}
	}
	return sum
}

// The published rules for single members.
var (
	groupName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,126}[a-z0-9])$`)
	envKey      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	volumeTypes = []string{"EmptyDirVolume", "NFSVolume", "ConfigFileVolume", "FlexVolume", "DiskVolume", "HostPathVolume"}
)

// checkGroup applies the documented rules beyond the published shape.
func checkGroup(req *member) *apiError {
	limits := published().facts.Limits
	if name := req.str("ContainerGroupName"); !groupName.MatchString(name) {
		return invalidParameter("ContainerGroupName %q must be 2 to 128 lower-case letters, digits and hyphens, without a hyphen at the ends.", clip(name))
	}
	for _, e := range []struct {
		path    string
		allowed []string
	}{
		{"RestartPolicy", []string{"Always", "OnFailure", "Never"}},
		{"DnsPolicy", []string{"None", "Default"}},
		{"ScheduleStrategy", []string{"VSwitchOrdered", "VSwitchRandom"}},
		{"CpuArchitecture", []string{"AMD64", "ARM64"}},
		{"SpotDuration", []string{"0", "1"}},
	} {
		if err := oneOf(req, e.path, e.allowed); err != nil {
			return err
		}
	}
	if err := checkSpot(req, ""); err != nil {
		return err
	}
	if req.integer("TerminationGracePeriodSeconds") < 0 {
		return invalidParameter("TerminationGracePeriodSeconds must not be negative.")
	}
	if req.has("ActiveDeadlineSeconds") && req.integer("ActiveDeadlineSeconds") < 1 {
		return invalidParameter("ActiveDeadlineSeconds must be at least 1.")
	}
	for path, limit := range map[string]int{"Container": limits.Containers, "Volume": limits.Volumes, "Tag": limits.Tags} {
		if n := len(req.list(path)); n > limit {
			return invalidParameter("There are %d elements of %s; at most %d are allowed.", n, path, limit)
		}
	}
	for _, tag := range req.list("Tag") {
		if err := checkTag(tag); err != nil {
			return err
		}
	}
	if err := checkCredentials(req.list("ImageRegistryCredential")); err != nil {
		return err
	}
	volumes, err := checkVolumes(req.list("Volume"))
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, c := range slices.Concat(req.list("InitContainer"), req.list("Container")) {
		if err := checkContainer(c, volumes); err != nil {
			return err
		}
		if names[c.str("Name")] {
			return publishedRefusal("CreateContainerGroup", "InvalidParameter.DuplicatedName")
		}
		names[c.str("Name")] = true
	}
	return nil
}

func checkCredentials(list []*member) *apiError {
	for _, cred := range list {
		for _, name := range []string{"Server", "UserName", "Password"} {
			if cred.str(name) == "" {
				return missingParameter(cred.path + "." + name)
			}
		}
		if strings.Contains(cred.str("Server"), "://") {
			return invalidParameter("%s.Server must be a host name without a scheme.", cred.path)
		}
	}
	return nil
}

func oneOf(m *member, path string, allowed []string) *apiError {
	if v := m.str(path); v != "" && !slices.Contains(allowed, v) {
		full := path
		if m.path != "" {
			full = m.path + "." + path
		}
		return invalidParameter("%s must be one of %s, not %q.", full, strings.Join(allowed, ", "), clip(v))
	}
	return nil
}

func checkTag(tag *member) *apiError {
	limits, key, value := published().facts.Limits, tag.str("Key"), tag.str("Value")
	lower := strings.ToLower(key)
	switch {
	case key == "":
		return missingParameter(tag.path + ".Key")
	case utf8.RuneCountInString(key) > limits.TagKey, utf8.RuneCountInString(value) > limits.TagValue:
		return invalidParameter("%s is too long: a key may have %d characters, a value %d.", tag.path, limits.TagKey, limits.TagValue)
	case strings.HasPrefix(lower, "aliyun"), strings.HasPrefix(lower, "acs:"), strings.Contains(lower, "http://"), strings.Contains(lower, "https://"):
		return invalidParameter("%s.Key must not begin with aliyun or acs: and not contain http:// or https://.", tag.path)
	}
	return nil
}

// checkVolumes returns the names of the volumes.
func checkVolumes(list []*member) (map[string]bool, *apiError) {
	names := map[string]bool{}
	for _, v := range list {
		switch name := v.str("Name"); {
		case name == "":
			return nil, missingParameter(v.path + ".Name")
		case names[name]:
			return nil, publishedRefusal("CreateContainerGroup", "InvalidParameter.DuplicatedVolumeName")
		default:
			names[name] = true
		}
		kind := v.str("Type")
		if kind == "" {
			return nil, missingParameter(v.path + ".Type")
		}
		if err := oneOf(v, "Type", volumeTypes); err != nil {
			return nil, err
		}
		for _, other := range volumeTypes {
			if other != kind && v.has(other) {
				return nil, invalidParameter("%s has the members of %s but the type %s.", v.path, other, kind)
			}
		}
		if err := oneOf(v, "EmptyDirVolume.Medium", []string{"Memory"}); err != nil {
			return nil, err
		}
		if err := checkConfigFiles(v.list("ConfigFileVolume.ConfigFileToPath")); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func checkConfigFiles(list []*member) *apiError {
	limit := published().facts.Limits.ConfigFileBase64
	for _, f := range list {
		content := f.str("Content")
		if f.str("Path") == "" {
			return missingParameter(f.path + ".Path")
		}
		if len(content) > limit {
			return invalidParameter("%s.Content has %d bytes; at most %d are allowed.", f.path, len(content), limit)
		}
		if _, err := base64.StdEncoding.DecodeString(content); err != nil {
			return invalidParameter("%s.Content is not base64.", f.path)
		}
	}
	return nil
}

func checkContainer(c *member, volumes map[string]bool) *apiError {
	limits := published().facts.Limits
	for _, name := range []string{"Name", "Image"} {
		if c.str(name) == "" {
			return missingParameter(c.path + "." + name)
		}
	}
	if err := oneOf(c, "ImagePullPolicy", []string{"Always", "IfNotPresent", "Never"}); err != nil {
		return err
	}
	if n := len(c.list("Arg")); n > limits.Args {
		return invalidParameter("%s has %d arguments; at most %d are allowed.", c.path, n, limits.Args)
	}
	for _, e := range c.list("EnvironmentVar") {
		key, value := e.str("Key"), e.str("Value")
		if key == "" {
			return missingParameter(e.path + ".Key")
		}
		if !envKey.MatchString(key) || len(key) > limits.EnvName {
			return invalidParameter("%s.Key %q must be 1 to %d letters, digits and underscores, not beginning with a digit.", e.path, clip(key), limits.EnvName)
		}
		if utf8.RuneCountInString(value) > limits.EnvValue {
			return invalidParameter("The value of %s is longer than %d characters.", e.path, limits.EnvValue)
		}
		if err := oneOf(e, "FieldRef.FieldPath", []string{"status.podIP"}); err != nil {
			return err
		}
	}
	for _, m := range c.list("VolumeMount") {
		if m.str("MountPath") == "" {
			return missingParameter(m.path + ".MountPath")
		}
		if !volumes[m.str("Name")] {
			return invalidParameter("%s mounts the volume %q, which the group does not have.", m.path, clip(m.str("Name")))
		}
	}
	for _, add := range c.strings("SecurityContext.Capability.Add") {
		if add != "NET_ADMIN" && add != "NET_RAW" {
			return invalidParameter("%s adds the capability %q; only NET_ADMIN and NET_RAW are allowed.", c.path, clip(add))
		}
	}
	for _, p := range c.list("Port") {
		if n := p.integer("Port"); n < 1 || n > 65535 {
			return invalidParameter("%s.Port must be 1 to 65535.", p.path)
		}
	}
	for _, probe := range []string{"LivenessProbe", "ReadinessProbe"} {
		if v := c.get(probe).str("SuccessThreshold"); v != "" && v != "1" {
			return invalidParameter("%s.%s.SuccessThreshold must be 1.", c.path, probe)
		}
	}
	return nil
}
