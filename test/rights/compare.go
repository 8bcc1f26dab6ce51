package rights

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// Right is the least that a rule can grant: one verb on one resource, of one
// name where the rule has names.
type Right struct {
	Call
	// Role is what grants it, Bound the namespace of the binding, empty where it
	// binds for the whole cluster.
	Role, Bound string
}

func (r Right) String() string {
	where := "for the whole cluster"
	if r.Bound != "" {
		where = "in namespace " + r.Bound
	}
	c := r.Call
	c.Namespace = ""
	return fmt.Sprintf("ServiceAccount %s may %s %s, by %s", r.Account, c, where, r.Role)
}

// covers says whether a request needs no more than the right. RBAC takes a right
// without a name for all names.
func (r Right) covers(c Call) bool {
	return r.Account == c.Account && r.Verb == c.Verb && r.Group == c.Group && r.Resource == c.Resource &&
		(r.Bound == "" || r.Bound == c.Namespace) && (r.Name == "" || r.Name == c.Name)
}

// Rights are all that the bound Roles of the log grant, each once.
func (l *Log) Rights() []Right {
	set := map[Right]bool{}
	for _, b := range l.Bindings {
		for _, role := range l.Roles {
			if role.Name != b.Role || role.Namespace != b.RoleNamespace {
				continue
			}
			kind := "ClusterRole "
			if role.Namespace != "" {
				kind = "Role " + role.Namespace + "/"
			}
			for _, account := range b.Accounts {
				for _, rule := range role.Rules {
					for c := range each(rule) {
						c.Account = account
						set[Right{Call: c, Role: kind + role.Name, Bound: b.Namespace}] = true
					}
				}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b Right) int { return strings.Compare(a.String(), b.String()) })
}

// each yields what a rule is made of.
func each(rule rbacv1.PolicyRule) func(func(Call) bool) {
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	return func(yield func(Call) bool) {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, name := range names {
						if !yield(Call{Verb: verb, Group: group, Resource: resource, Name: name}) {
							return
						}
					}
				}
			}
		}
	}
}

// Unused are the rights that no request of the log needed.
func (l *Log) Unused() []Right {
	var unused []Right
	for _, r := range l.Rights() {
		used := false
		for c := range l.Calls {
			if r.covers(c) {
				used = true
				break
			}
		}
		if !used {
			unused = append(unused, r)
		}
	}
	return unused
}

// Repeated are the rights that another rule, or a wider one, grants as well.
func (l *Log) Repeated() []Right {
	all := l.Rights()
	return slices.DeleteFunc(slices.Clone(all), func(r Right) bool {
		return !slices.ContainsFunc(all, func(other Right) bool {
			c := r.Call
			c.Namespace = r.Bound
			// Of two that grant the same, the first counts.
			return other != r && other.covers(c) && (!r.covers(Call{other.Account, other.Verb, other.Group, other.Resource, other.Bound, other.Name}) || r.Role > other.Role)
		})
	})
}

// Missing are the requests that were refused, with how often.
func (l *Log) Missing() []string {
	var missing []string
	for _, c := range slices.SortedFunc(maps.Keys(l.Refused), func(a, b Call) int {
		return cmp.Or(strings.Compare(a.Account, b.Account), strings.Compare(a.String(), b.String()))
	}) {
		missing = append(missing, fmt.Sprintf("ServiceAccount %s may not %s, and asked for it %d times", c.Account, c, l.Refused[c]))
	}
	return missing
}
