package aci

import (
	"encoding/base64"
	"maps"
	"slices"

	"github.com/autoburst/autoburst/test/cloud/runc"
)

type dnsConfig struct {
	NameServers   []string `json:"nameServers"`
	SearchDomains string   `json:"searchDomains"`
	Options       string   `json:"options"`
}

type securityContext struct {
	AllowPrivilegeEscalation *bool `json:"allowPrivilegeEscalation"`
	Capabilities             struct {
		Add  []string `json:"add"`
		Drop []string `json:"drop"`
	} `json:"capabilities"`
	RunAsUser  uint32 `json:"runAsUser"`
	RunAsGroup uint32 `json:"runAsGroup"`
}

// usualResolver is Azure's own.
const usualResolver = "168.63.129.16"

// bytesPerGB: memory is sold in decimal units.
const bytesPerGB = 1_000_000_000

// machine is what the containers of the group have in common. A share of Azure Files and
// a git repository are empty folders here.
func (d groupDefinition) machine(name string) runc.Machine {
	m := runc.Machine{Hostname: name[:min(len(name), 63)], Resolver: "nameserver " + usualResolver + "\n"}
	if dns := d.Properties.DNS; dns != nil {
		m.Resolver = ""
		for _, server := range dns.NameServers {
			m.Resolver += "nameserver " + server + "\n"
		}
		if dns.SearchDomains != "" {
			m.Resolver += "search " + dns.SearchDomains + "\n"
		}
		if dns.Options != "" {
			m.Resolver += "options " + dns.Options + "\n"
		}
	}
	for _, v := range d.Properties.Volumes {
		volume := runc.Volume{Name: v.Name}
		for _, file := range slices.Sorted(maps.Keys(v.Secret)) {
			content, err := base64.StdEncoding.DecodeString(v.Secret[file])
			if err != nil {
				continue // refused before
			}
			volume.Files = append(volume.Files, runc.File{Path: file, Content: content, Mode: 0o644})
		}
		m.Volumes = append(m.Volumes, volume)
	}
	return m
}

// setting is where and with which rights the container runs. Without a limit it has
// what it asks for; an init container, which asks for nothing, has the whole group.
func (c container) setting(groupCPU, groupMemory float64) runc.Setting {
	p := c.Properties
	amounts := p.Resources.Requests
	if p.Resources.Limits != nil {
		amounts = *p.Resources.Limits
	}
	if amounts.CPU == 0 {
		amounts.CPU = groupCPU
	}
	if amounts.MemoryInGB == 0 {
		amounts.MemoryInGB = groupMemory
	}
	s := runc.Setting{
		User: p.SecurityContext.RunAsUser, Group: p.SecurityContext.RunAsGroup,
		AddCapabilities: p.SecurityContext.Capabilities.Add, DropCapabilities: p.SecurityContext.Capabilities.Drop,
		CPU: p.Resources.Requests.CPU, CPULimit: amounts.CPU, Memory: int64(amounts.MemoryInGB * bytesPerGB),
	}
	if escalation := p.SecurityContext.AllowPrivilegeEscalation; escalation != nil {
		s.NoNewPrivileges = !*escalation
	}
	for _, m := range p.VolumeMounts {
		s.Mounts = append(s.Mounts, runc.Mount{Volume: m.Name, Path: m.MountPath, ReadOnly: m.ReadOnly})
	}
	return s
}
