package aci

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// groupDefinition is the part of a container group's definition that the
// service acts on. The member names are those of the Swagger.
type groupDefinition struct {
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags"`
	Zones      []string          `json:"zones"`
	Identity   *identity         `json:"identity"`
	Properties groupProperties   `json:"properties"`
}

type identity struct {
	Type         string                     `json:"type"`
	UserAssigned map[string]json.RawMessage `json:"userAssignedIdentities"`
}

type groupProperties struct {
	Containers       []container          `json:"containers"`
	InitContainers   []initContainer      `json:"initContainers"`
	Credentials      []registryCredential `json:"imageRegistryCredentials"`
	RestartPolicy    string               `json:"restartPolicy"`
	OSType           string               `json:"osType"`
	IPAddress        *ipAddress           `json:"ipAddress"`
	Volumes          []volume             `json:"volumes"`
	Diagnostics      json.RawMessage      `json:"diagnostics"`
	SubnetIDs        []subnetID           `json:"subnetIds"`
	SKU              string               `json:"sku"`
	Priority         string               `json:"priority"`
	Extensions       []extension          `json:"extensions"`
	ConfidentialProp *confidential        `json:"confidentialComputeProperties"`
	DNS              *dnsConfig           `json:"dnsConfig"`
}

type confidential struct {
	CCEPolicy string `json:"ccePolicy"`
}

type container struct {
	Name       string              `json:"name"`
	Properties containerProperties `json:"properties"`
}

type initContainer = container

type containerProperties struct {
	Image        string        `json:"image"`
	Command      []string      `json:"command"`
	Ports        []port        `json:"ports"`
	Env          []envVar      `json:"environmentVariables"`
	Resources    resources     `json:"resources"`
	VolumeMounts []volumeMount `json:"volumeMounts"`
	Liveness     *probe        `json:"livenessProbe"`
	Readiness    *probe        `json:"readinessProbe"`

	SecurityContext securityContext `json:"securityContext"`
}

type envVar struct {
	Name        string  `json:"name"`
	Value       *string `json:"value"`
	SecureValue *string `json:"secureValue"`
}

type resources struct {
	Requests resourceAmounts  `json:"requests"`
	Limits   *resourceAmounts `json:"limits"`
}

type resourceAmounts struct {
	CPU        float64 `json:"cpu"`
	MemoryInGB float64 `json:"memoryInGB"`
	GPU        *gpu    `json:"gpu"`
}

type gpu struct {
	Count int    `json:"count"`
	SKU   string `json:"sku"`
}

type volumeMount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readOnly"`
}

type registryCredential struct {
	Server   string `json:"server"`
	Username string `json:"username"`
	Password string `json:"password"`
	Identity string `json:"identity"`
}

type port struct {
	Port     int    `json:"port"`
	Protocol string `json:"protocol"`
}

type ipAddress struct {
	Type         string `json:"type"`
	Ports        []port `json:"ports"`
	DNSNameLabel string `json:"dnsNameLabel"`
}

type subnetID struct {
	ID string `json:"id"`
}

type volume struct {
	Name      string            `json:"name"`
	AzureFile *azureFile        `json:"azureFile"`
	EmptyDir  json.RawMessage   `json:"emptyDir"`
	Secret    map[string]string `json:"secret"`
	GitRepo   json.RawMessage   `json:"gitRepo"`
}

type azureFile struct {
	Share      string `json:"shareName"`
	Account    string `json:"storageAccountName"`
	AccountKey string `json:"storageAccountKey"`
}

// decodeDefinition reads a body that has passed the schema.
func decodeDefinition(body map[string]any) (groupDefinition, *apiError) {
	var def groupDefinition
	encoded, err := json.Marshal(body)
	if err == nil {
		err = json.Unmarshal(encoded, &def)
	}
	if err != nil {
		return def, badRequest("InvalidRequestContent", "The request content was invalid and could not be deserialized.")
	}
	return def, nil
}

// spot reports whether the group asks for the Spot price.
func (d groupDefinition) spot() bool { return d.Properties.Priority == "Spot" }

// isConfidential reports whether the group asks for a trusted environment.
func (d groupDefinition) isConfidential() bool { return d.Properties.SKU == "Confidential" }

// size is what the group asks for and is billed: the sum over its containers.
// Init containers have no resources of their own.
func (d groupDefinition) size() (cpu, memoryGB float64) {
	for _, c := range d.Properties.Containers {
		cpu += c.Properties.Resources.Requests.CPU
		memoryGB += c.Properties.Resources.Requests.MemoryInGB
	}
	return cpu, memoryGB
}

// simulation is the group as the package sim runs it.
func (d groupDefinition) simulation(id, name string) sim.Spec {
	cpu, memory := d.size()
	spec := sim.Spec{
		Cloud:         "aci",
		ID:            id,
		Name:          name,
		Region:        normalizeLocation(d.Location),
		Tags:          maps.Clone(d.Tags),
		CPU:           cpu,
		MemoryGiB:     memory,
		Spot:          d.spot(),
		Price:         d.price(),
		RestartPolicy: sim.RestartPolicy(d.Properties.RestartPolicy),
		Machine:       d.machine(name),
	}
	for _, c := range d.Properties.InitContainers {
		spec.InitContainers = append(spec.InitContainers, c.simulation(cpu, memory))
	}
	for _, c := range d.Properties.Containers {
		spec.Containers = append(spec.Containers, c.simulation(cpu, memory))
	}
	return spec
}

// simulation is the container in a group of that size (vCPU, GB).
func (c container) simulation(cpu, memory float64) sim.Container {
	result := sim.Container{Name: c.Name, Image: c.Properties.Image, Command: c.Properties.Command, Setting: c.setting(cpu, memory)}
	result.Liveness, result.Readiness = c.Properties.Liveness.simulation(), c.Properties.Readiness.simulation()
	for _, env := range c.Properties.Env {
		variable := sim.EnvVar{Name: env.Name}
		switch {
		case env.SecureValue != nil:
			variable.Value = *env.SecureValue
		case env.Value != nil:
			variable.Value = *env.Value
		}
		result.Env = append(result.Env, variable)
	}
	return result
}

// immutableChange names what an update of a living group would change although
// the service forbids it: OS type, restart policy, CPU, memory, GPU, network
// profile, log analytics, priority and sku. Empty means that the update is fine.
func immutableChange(old, updated groupDefinition) string {
	a, b := old.Properties, updated.Properties
	policy := func(p string) string {
		if p == "" {
			return string(sim.Always)
		}
		return p
	}
	switch {
	case a.OSType != b.OSType:
		return "osType"
	case policy(a.RestartPolicy) != policy(b.RestartPolicy):
		return "restartPolicy"
	case a.Priority != b.Priority:
		return "priority"
	case a.SKU != b.SKU:
		return "sku"
	case !sameJSON(a.SubnetIDs, b.SubnetIDs):
		return "subnetIds"
	case !sameJSON(a.Diagnostics, b.Diagnostics):
		return "diagnostics"
	}
	before := map[string]resources{}
	for _, c := range a.Containers {
		before[c.Name] = c.Properties.Resources
	}
	for _, c := range b.Containers {
		if was, ok := before[c.Name]; ok && !sameJSON(was, c.Properties.Resources) {
			return fmt.Sprintf("resources of container '%s'", c.Name)
		}
	}
	return ""
}

// sameJSON compares two values of this file by their encoding, which is
// deterministic for them.
func sameJSON(a, b any) bool {
	left, errLeft := json.Marshal(a)
	right, errRight := json.Marshal(b)
	return errLeft == nil && errRight == nil && string(left) == string(right)
}

// echo turns an accepted body into what the service gives back: secrets are
// left out, and the lists that the service always shows are present.
func echo(body map[string]any) map[string]any {
	properties := object(body, "properties")
	for _, list := range []string{"containers", "initContainers"} {
		ensureList(properties, list)
		for _, c := range objects(properties, list) {
			inner := object(c, "properties")
			ensureList(inner, "environmentVariables")
			for _, env := range objects(inner, "environmentVariables") {
				delete(env, "secureValue")
			}
			if list == "containers" {
				ensureList(inner, "ports")
			}
		}
	}
	for _, v := range objects(properties, "volumes") {
		if _, ok := v["secret"]; ok {
			v["secret"] = map[string]any{}
		}
		delete(object(v, "azureFile"), "storageAccountKey")
	}
	for _, credential := range objects(properties, "imageRegistryCredentials") {
		delete(credential, "password")
	}
	for _, extension := range objects(properties, "extensions") {
		delete(object(extension, "properties"), "protectedSettings")
	}
	analytics := object(object(properties, "diagnostics"), "logAnalytics")
	delete(analytics, "workspaceKey")
	delete(analytics, "workspaceResourceId")
	if _, ok := properties["sku"]; !ok {
		properties["sku"] = "Standard"
	}
	properties["provisioningTimeoutInSeconds"] = int(provisioningTimeout.Seconds())
	return body
}

// object returns a member that is an object, or an empty one that is not part
// of parent.
func object(parent map[string]any, name string) map[string]any {
	if member, ok := parent[name].(map[string]any); ok {
		return member
	}
	return map[string]any{}
}

// objects returns the objects in a list member.
func objects(parent map[string]any, name string) []map[string]any {
	list, _ := parent[name].([]any)
	result := make([]map[string]any, 0, len(list))
	for _, item := range list {
		if o, ok := item.(map[string]any); ok {
			result = append(result, o)
		}
	}
	return result
}

func ensureList(parent map[string]any, name string) {
	if _, ok := parent[name].([]any); !ok {
		parent[name] = []any{}
	}
}

// cloneJSON copies a tree of JSON values.
func cloneJSON(value any) any {
	switch value := value.(type) {
	case map[string]any:
		copied := make(map[string]any, len(value))
		for name, member := range value {
			copied[name] = cloneJSON(member)
		}
		return copied
	case []any:
		copied := make([]any, len(value))
		for i, item := range value {
			copied[i] = cloneJSON(item)
		}
		return copied
	default:
		return value
	}
}

// normalizeLocation brings "West US" and "westus" together.
func normalizeLocation(location string) string {
	return strings.ToLower(strings.ReplaceAll(location, " ", ""))
}
