package rights

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The release of these tests: one ServiceAccount that may read and patch pods
// everywhere and has a Lease of its own.
var installed = []string{
	granted("clusterroles", `{"metadata":{"name":"agent"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get","patch"]}]}`),
	granted("clusterrolebindings", `{"metadata":{"name":"agent"},"roleRef":{"kind":"ClusterRole","name":"agent"},
		"subjects":[{"kind":"ServiceAccount","namespace":"ours","name":"agent"}]}`),
	granted("roles", `{"metadata":{"name":"agent","namespace":"ours"},"rules":[
		{"apiGroups":["coordination.k8s.io"],"resources":["leases"],"verbs":["create"]},
		{"apiGroups":["coordination.k8s.io"],"resources":["leases"],"resourceNames":["one"],"verbs":["update"]}]}`),
	granted("rolebindings", `{"metadata":{"name":"agent","namespace":"ours"},"roleRef":{"kind":"Role","name":"agent"},
		"subjects":[{"kind":"ServiceAccount","namespace":"ours","name":"agent"}]}`),
}

// used are requests that need every right of the release.
var used = []string{
	request("get", "", "pods", "", "shop", "a", 200),
	request("patch", "", "pods", "", "shop", "a", 200),
	request("create", "coordination.k8s.io", "leases", "", "ours", "one", 201),
	request("update", "coordination.k8s.io", "leases", "", "ours", "one", 200),
}

func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		log []string
		// part is a run of some tests only.
		part bool
		want []string
	}{
		"what is needed": {log: append(installed, used...)},
		"a right that was not needed": {
			log:  append(installed, used[:3]...),
			want: []string{"never used: ServiceAccount agent may update leases.coordination.k8s.io one in namespace ours, by Role ours/agent"},
		},
		"not needed by a part of the tests": {log: append(installed, used[:3]...), part: true},
		"another name": {
			log:  append(append(installed, used[:3]...), request("update", "coordination.k8s.io", "leases", "", "ours", "two", 200)),
			want: []string{"never used: ServiceAccount agent may update leases.coordination.k8s.io one in namespace ours, by Role ours/agent"},
		},
		"another namespace": {
			log:  append(append(installed, used[:3]...), request("update", "coordination.k8s.io", "leases", "", "theirs", "one", 200)),
			want: []string{"never used: ServiceAccount agent may update leases.coordination.k8s.io one in namespace ours, by Role ours/agent"},
		},
		"a subresource is another resource": {
			log:  append(append(installed, used[0], used[2], used[3]), request("patch", "", "pods", "status", "shop", "a", 200)),
			want: []string{"never used: ServiceAccount agent may patch pods for the whole cluster, by ClusterRole agent"},
		},
		"a refused request": {
			log: append(append(installed, used...), refused("list", "", "secrets", "shop"), refused("list", "", "secrets", "shop")),
			want: []string{
				"missing: ServiceAccount agent may not list secrets in namespace shop, and asked for it 2 times",
			},
		},
		"a patch that creates": {
			log: append(append(installed, used[0], used[1], used[3]), request("patch", "coordination.k8s.io", "leases", "", "ours", "one", 201)),
		},
		"a watch that begins with a list": {
			log: append(append(installed, used...),
				granted("clusterroles", `{"metadata":{"name":"agent"},"rules":[{"apiGroups":[""],"resources":["nodes"],"verbs":["list","watch"]}]}`),
				strings.Replace(request("watch", "", "nodes", "", "", "", 200), "{", `{"requestURI":"/api/v1/nodes?sendInitialEvents=true&watch=true",`, 1)),
		},
		"a watch of what is known": {
			log: append(append(installed, used...),
				granted("clusterroles", `{"metadata":{"name":"agent"},"rules":[{"apiGroups":[""],"resources":["nodes"],"verbs":["list","watch"]}]}`),
				request("watch", "", "nodes", "", "", "", 200)),
			want: []string{"never used: ServiceAccount agent may list nodes for the whole cluster, by ClusterRole agent"},
		},
		"a version of a Role that was replaced": {
			log: append(append(installed, used...), granted("clusterroles", `{"metadata":{"name":"agent"},"rules":[{"apiGroups":[""],"resources":["pods","nodes"],"verbs":["get","patch"]}]}`)),
			want: []string{
				"never used: ServiceAccount agent may get nodes for the whole cluster, by ClusterRole agent",
				"never used: ServiceAccount agent may patch nodes for the whole cluster, by ClusterRole agent",
			},
		},
		"two rules for one right": {
			log: append(append(installed, used...),
				granted("roles", `{"metadata":{"name":"more","namespace":"ours"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}`),
				granted("rolebindings", `{"metadata":{"name":"more","namespace":"ours"},"roleRef":{"kind":"Role","name":"more"},
					"subjects":[{"kind":"ServiceAccount","namespace":"ours","name":"agent"}]}`),
				request("get", "", "pods", "", "ours", "a", 200)),
			want: []string{"granted twice: ServiceAccount agent may get pods in namespace ours, by Role ours/more"},
		},
		"nothing": {want: []string{"nothing was compared"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.log")
			text := strings.Join(test.log, "\n") + "\n"
			if len(test.log) == 0 {
				text = ""
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := Check(path, "ours", !test.part, func(Right) bool { return true })
			var got []string
			if err != nil {
				for line := range strings.SplitSeq(err.Error(), "\n") {
					for _, kind := range []string{"missing: ", "granted twice: ", "never used: "} {
						if strings.HasPrefix(line, kind) {
							got = append(got, line)
						}
					}
				}
				if got == nil {
					got = []string{err.Error()[strings.LastIndex(err.Error(), ": ")+2:]}
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadRefusesWhatItDoesNotUnderstand(t *testing.T) {
	_, err := Read(strings.NewReader(used[0]+"\n{\"verb\":\n"), "ours")
	if err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("error %v, want one that names line 2", err)
	}
}

func granted(resource, object string) string {
	var compact any
	if err := json.Unmarshal([]byte(object), &compact); err != nil {
		panic(err)
	}
	text, err := json.Marshal(compact)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"verb":"patch","user":{"username":"admin"},"objectRef":{"apiGroup":"rbac.authorization.k8s.io","resource":%q},"responseStatus":{"code":200},"responseObject":%s}`, resource, text)
}

func request(verb, group, resource, subresource, namespace, name string, code int) string {
	return fmt.Sprintf(`{"verb":%q,"user":{"username":"system:serviceaccount:ours:agent"},"objectRef":{"apiGroup":%q,"resource":%q,"subresource":%q,"namespace":%q,"name":%q},"responseStatus":{"code":%d},"annotations":{"authorization.k8s.io/decision":"allow"}}`,
		verb, group, resource, subresource, namespace, name, code)
}

func refused(verb, group, resource, namespace string) string {
	return strings.Replace(request(verb, group, resource, "", namespace, "", 403), `"allow"`, `"forbid"`, 1)
}
