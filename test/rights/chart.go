package rights

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	rbacv1 "k8s.io/api/rbac/v1"
	sigsyaml "sigs.k8s.io/yaml"
)

// release and namespace are what the chart is rendered with.
const (
	release   = "autoburst"
	namespace = "autoburst-system"
)

// node is the virtual node of rendered charts.
const node = "virtual-eci"

// settings are the ways to install the chart that change what it grants, each
// with what the page says of rules that come with it.
var settings = []struct {
	when string
	set  []string
}{
	{"", nil},
	{"`admission: MutatingAdmissionPolicy`", []string{"admission=MutatingAdmissionPolicy"}},
	{"`vnode.rotateServerCertificates`", []string{"vnode.rotateServerCertificates=true"}},
	{"`vnode.workloadNamespaces`", []string{"vnode.workloadNamespaces={shop}"}},
	{"`webhook.certManager`", []string{"webhook.certManager.enabled=true"}},
	{"`webhook.tls`", []string{"webhook.tls.existingSecret=serving"}},
	{"`vnode.certManager`", []string{"vnode.certManager.issuerRef.name=kubelets"}},
}

// Grant is a rule of the chart, bound to a ServiceAccount.
type Grant struct {
	Account string
	// Role is the kind and the name of what the rule stands in.
	Role string
	// Bound is the namespace in which the rule counts, empty for the whole cluster.
	Bound string
	Rule  rbacv1.PolicyRule
	// Why is the comment above the rule in its template.
	Why string
}

// Chart is the chart of a checkout.
type Chart struct{ root, helm string }

// Open finds the chart of the checkout at root, and Helm, which is built if need
// be.
func Open(ctx context.Context, root string) (*Chart, error) {
	if _, err := run(ctx, root, "go", "tool", "-modfile=tools.mod", "helm", "version"); err != nil {
		return nil, fmt.Errorf("building Helm: %w", err)
	}
	path, err := run(ctx, root, "go", "tool", "-modfile=tools.mod", "-n", "helm")
	if err != nil {
		return nil, fmt.Errorf("finding Helm: %w", err)
	}
	return &Chart{root: root, helm: strings.TrimSpace(string(path))}, nil
}

// Grants lists the rules of the chart, with values in Helm's --set form.
func (c *Chart) Grants(ctx context.Context, set ...string) ([]Grant, error) {
	args := []string{
		"template", release, "charts/autoburst", "--namespace", namespace, "--kube-version", "1.36",
		"--set", "virtualNodes[0].name=" + node + ",virtualNodes[0].provider=eci",
		"--set", "virtualNodes[0].eci.region=r,virtualNodes[0].eci.vSwitch=v,virtualNodes[0].eci.securityGroup=s",
		"--set", "virtualNodes[0].credentials.existingSecret=e",
	}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	out, err := run(ctx, c.root, c.helm, args...)
	if err != nil {
		return nil, fmt.Errorf("rendering the chart: %w", err)
	}
	return grants(out)
}

func run(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// grants reads rendered manifests.
func grants(manifests []byte) ([]Grant, error) {
	type rule struct {
		rbacv1.PolicyRule
		why string
	}
	roles := map[string][]rule{} // by kind, namespace and name
	var bindings []rbacv1.RoleBinding
	for documents := yaml.NewDecoder(bytes.NewReader(manifests)); ; {
		var document yaml.Node
		err := documents.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading the rendered chart: %w", err)
		}
		text, err := yaml.Marshal(&document)
		if err != nil {
			return nil, err
		}
		var object rbacv1.RoleBinding // kind and metadata are those of all objects
		if err := sigsyaml.Unmarshal(text, &object); err != nil {
			continue // no binding
		}
		switch object.Kind {
		case "RoleBinding", "ClusterRoleBinding":
			bindings = append(bindings, object)
		case "Role", "ClusterRole":
			var role rbacv1.Role
			if err := sigsyaml.Unmarshal(text, &role); err != nil {
				return nil, err
			}
			whys := comments(&document)
			for i, r := range role.Rules {
				key := key(role.Kind, role.Namespace, role.Name)
				roles[key] = append(roles[key], rule{r, whys[i]})
			}
		}
	}
	var all []Grant
	for _, b := range bindings {
		in := b.Namespace
		if b.RoleRef.Kind == "ClusterRole" {
			in = ""
		}
		for _, s := range b.Subjects {
			if s.Kind != rbacv1.ServiceAccountKind {
				continue
			}
			for _, r := range roles[key(b.RoleRef.Kind, in, b.RoleRef.Name)] {
				all = append(all, Grant{Account: s.Name, Role: b.RoleRef.Kind + " " + b.RoleRef.Name, Bound: b.Namespace, Rule: r.PolicyRule, Why: r.why})
			}
		}
	}
	return all, nil
}

func key(kind, namespace, name string) string { return kind + " " + namespace + "/" + name }

// comments are those above each rule of a Role.
func comments(document *yaml.Node) []string {
	object := document.Content[0]
	for i := 0; i < len(object.Content); i += 2 {
		if object.Content[i].Value != "rules" {
			continue
		}
		list := object.Content[i+1]
		var all []string
		for j, item := range list.Content {
			comment := item.HeadComment
			if j == 0 {
				comment = cmp.Or(comment, list.HeadComment)
			}
			var words []string
			for line := range strings.SplitSeq(comment, "\n") {
				words = append(words, strings.Fields(strings.TrimPrefix(line, "#"))...)
			}
			all = append(all, strings.Join(words, " "))
		}
		return all
	}
	return nil
}

// Page is docs/permissions.md.
func (c *Chart) Page(ctx context.Context) (string, error) {
	type row struct {
		Grant
		when []string // by index into settings
	}
	var rows []row
	rendered := make([][]Grant, len(settings))
	for i, s := range settings {
		var err error
		if rendered[i], err = c.Grants(ctx, s.set...); err != nil {
			return "", err
		}
		for _, g := range rendered[i] {
			if g.Why == "" {
				return "", fmt.Errorf("%s: the rule for %s has no comment that says why", g.Role, strings.Join(g.Rule.Resources, ", "))
			}
			if !slices.ContainsFunc(rows, func(r row) bool { return same(r.Grant, g) }) {
				rows = append(rows, row{Grant: g})
			}
		}
	}
	for i := range rows {
		has := func(s int) bool {
			return slices.ContainsFunc(rendered[s], func(g Grant) bool { return same(g, rows[i].Grant) })
		}
		for s := 1; s < len(settings); s++ {
			switch {
			case has(0) && !has(s):
				rows[i].when = append(rows[i].when, "not with "+settings[s].when)
			case !has(0) && has(s):
				rows[i].when = append(rows[i].when, "with "+settings[s].when)
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(strings.Compare(a.Account, b.Account), strings.Compare(a.Bound, b.Bound))
	})
	var b strings.Builder
	b.WriteString(preface)
	account := ""
	for _, r := range rows {
		if r.Account != account {
			account = r.Account
			fmt.Fprintf(&b, "\n## ServiceAccount %s\n\n| may | on | where | why |\n|---|---|---|---|\n", account)
		}
		var on []string
		for _, group := range r.Rule.APIGroups {
			for _, name := range r.Rule.Resources {
				on = append(on, "`"+resource(group, name)+"`")
			}
		}
		text := strings.Join(on, ", ")
		if len(r.Rule.ResourceNames) > 0 {
			text += " named `" + strings.Join(r.Rule.ResourceNames, "`, `") + "`"
		}
		where := "everywhere"
		if r.Bound != "" {
			where = "namespace `" + r.Bound + "`"
		}
		for _, w := range r.when {
			where += ", " + w
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", strings.Join(r.Rule.Verbs, ", "), text, where, r.Why)
	}
	return b.String(), nil
}

func same(a, b Grant) bool {
	return a.Account == b.Account && a.Role == b.Role && a.Bound == b.Bound && a.Rule.String() == b.Rule.String()
}

const preface = `# Permissions

What each program of a release may do in the cluster, and why; the release is ` + "`" + release + "`" + ` in the namespace
` + "`" + namespace + "`" + ` with one virtual node, ` + "`" + node + "`" + `. This page is generated from the chart's templates.

Each right is needed: the end-to-end tests compare the chart's Roles with the audit log of the API server, and
fail for a request that was refused, for a right that no request used, and for one that two rules grant. No
rule has a wildcard, and none lets a program give rights to others (` + "`escalate`, `bind`, `impersonate`" + `).

Secrets are read by name, and only those that a pod on a virtual node names. Unless ` + "`vnode.workloadNamespaces`" + `
says where such pods may be, the agents hold this right in all namespaces.
`
