package installation

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
)

// Versions are those of the parts of an installation.
type Versions struct {
	// Client is this program.
	Client string `json:"client"`
	// Chart, and the Controller that it installs, whose version is that of its image.
	Chart      string `json:"chart,omitempty"`
	Controller string `json:"controller,omitempty"`
	// Agents by virtual node, as they say themselves or, where they do not run, as their
	// image says.
	Agents map[string]string `json:"agents,omitempty"`
	// Server is the version of Kubernetes.
	Server string `json:"server,omitempty"`
	// Skew says which differ from the controller's.
	Skew []string `json:"skew,omitempty"`
}

// Versions reads the versions of all parts.
func (c *Clients) Versions(ctx context.Context, r *Release, client string) (*Versions, error) {
	v := &Versions{Client: client, Chart: ChartVersion(r.Controller), Controller: imageVersion(r.Controller), Agents: map[string]string{}}
	info, err := c.Kube.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("reading the version of the API server: %w", err)
	}
	v.Server = info.GitVersion
	nodes, err := c.Virtual(ctx)
	if err != nil {
		return nil, err
	}
	for i := range r.Agents {
		v.Agents[Node(&r.Agents[i])] = imageVersion(&r.Agents[i])
	}
	for i := range nodes {
		if said := AgentVersion(&nodes[i]); said != "" && !developed(said) {
			v.Agents[nodes[i].Name] = said
		}
	}
	differs := func(what, version string) {
		if version != "" && !developed(version) && !developed(v.Controller) && !same(version, v.Controller) {
			v.Skew = append(v.Skew, fmt.Sprintf("%s is %s, and the controller %s", what, version, v.Controller))
		}
	}
	differs("this program", client)
	differs("the chart's app", Version(r.Controller))
	for i := range r.Agents {
		node := Node(&r.Agents[i])
		differs("the agent of virtual node "+node, v.Agents[node])
	}
	return v, nil
}

// imageVersion is the tag of the image of a Deployment, or its label where that has a
// digest in place of a tag.
func imageVersion(d *appsv1.Deployment) string {
	containers := d.Spec.Template.Spec.Containers
	if len(containers) == 0 {
		return Version(d)
	}
	image := containers[0].Image
	if strings.Contains(image, "@") {
		return Version(d)
	}
	if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
		return image[i+1:]
	}
	return Version(d)
}

// developed tells whether a program was built from a checkout, which has no version to
// compare.
func developed(version string) bool {
	v := strings.TrimPrefix(version, "v")
	return !strings.Contains(v, ".") || strings.Contains(v, "-")
}

func same(a, b string) bool { return strings.TrimPrefix(a, "v") == strings.TrimPrefix(b, "v") }
