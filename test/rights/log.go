package rights

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// Policy is the audit policy whose log Read understands. It is for a release in
// the namespace autoburst-system.
//
//go:embed policy.yaml
var Policy []byte

// Call is a request as RBAC sees it.
type Call struct {
	// Account is the name of the ServiceAccount.
	Account string
	Verb    string
	// Group and Resource are of the API; a subresource stands after a slash.
	Group, Resource string
	// Namespace and Name are of the object; empty where the request has none.
	Namespace, Name string
}

func (c Call) String() string {
	s := c.Verb + " " + resource(c.Group, c.Resource)
	if c.Name != "" {
		s += " " + c.Name
	}
	if c.Namespace != "" {
		s += " in namespace " + c.Namespace
	}
	return s
}

// resource is how kubectl names a resource: with its group, where it has one.
func resource(group, name string) string {
	if group == "" {
		return name
	}
	name, sub, found := strings.Cut(name, "/")
	if found {
		sub = "/" + sub
	}
	return name + "." + group + sub
}

// Log is what one audit log tells.
type Log struct {
	// Roles and Bindings are all that there ever were, each in every version.
	Roles    []Role
	Bindings []Binding
	// Calls counts the requests that were allowed, Refused those that were not.
	Calls, Refused map[Call]int
}

// Role is a Role, or a ClusterRole, whose namespace is empty.
type Role struct {
	Namespace, Name string
	Rules           []rbacv1.PolicyRule
}

// Binding is a RoleBinding, or a ClusterRoleBinding, whose namespace is empty.
type Binding struct {
	Namespace, Name string
	// RoleNamespace is empty where the role is a ClusterRole.
	RoleNamespace, Role string
	// Accounts are the ServiceAccounts of the release that are bound.
	Accounts []string
}

// Read reads the audit log of a run, of a release in that namespace.
func Read(r io.Reader, namespace string) (*Log, error) {
	log := &Log{Calls: map[Call]int{}, Refused: map[Call]int{}}
	lines := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return log, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the audit log: %w", err)
		}
		var event auditv1.Event
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, fmt.Errorf("line %d of the audit log: %w", n, err)
		}
		if err := log.add(&event, namespace); err != nil {
			return nil, fmt.Errorf("line %d of the audit log: %w", n, err)
		}
	}
}

func (l *Log) add(e *auditv1.Event, namespace string) error {
	if e.ObjectRef == nil {
		return nil // a URL that is no resource, such as /version
	}
	if e.ObjectRef.APIGroup == rbacv1.GroupName && e.ResponseObject != nil && e.ResponseStatus != nil && e.ResponseStatus.Code < 300 {
		return l.grant(e, namespace)
	}
	account, ok := strings.CutPrefix(e.User.Username, "system:serviceaccount:"+namespace+":")
	if !ok {
		return nil
	}
	c := Call{Account: account, Verb: e.Verb, Group: e.ObjectRef.APIGroup, Resource: e.ObjectRef.Resource, Namespace: e.ObjectRef.Namespace, Name: e.ObjectRef.Name}
	if e.ObjectRef.Subresource != "" {
		c.Resource += "/" + e.ObjectRef.Subresource
	}
	if e.Annotations["authorization.k8s.io/decision"] == "forbid" {
		l.Refused[c]++
		return nil
	}
	l.Calls[c]++
	if c.Verb == "watch" && strings.Contains(e.RequestURI, "sendInitialEvents=true") {
		// The API server streams the list. Older ones do not, and are asked for it.
		list := c
		list.Verb = "list"
		l.Calls[list]++
	}
	// A patch or an update that makes the object needs the right to create as well.
	if (c.Verb == "patch" || c.Verb == "update") && e.ResponseStatus != nil && e.ResponseStatus.Code == 201 {
		c.Verb = "create"
		l.Calls[c]++
	}
	return nil
}

func (l *Log) grant(e *auditv1.Event, namespace string) error {
	raw := e.ResponseObject.Raw
	switch e.ObjectRef.Resource {
	case "roles", "clusterroles":
		var role rbacv1.Role // a ClusterRole has the same members, as far as they count here
		if err := json.Unmarshal(raw, &role); err != nil {
			return err
		}
		l.Roles = append(l.Roles, Role{Namespace: role.Namespace, Name: role.Name, Rules: role.Rules})
	case "rolebindings", "clusterrolebindings":
		var binding rbacv1.RoleBinding
		if err := json.Unmarshal(raw, &binding); err != nil {
			return err
		}
		b := Binding{Namespace: binding.Namespace, Name: binding.Name, Role: binding.RoleRef.Name}
		if binding.RoleRef.Kind == "Role" {
			b.RoleNamespace = binding.Namespace
		}
		for _, s := range binding.Subjects {
			if s.Kind == rbacv1.ServiceAccountKind && s.Namespace == namespace {
				b.Accounts = append(b.Accounts, s.Name)
			}
		}
		if len(b.Accounts) > 0 {
			l.Bindings = append(l.Bindings, b)
		}
	}
	return nil
}
