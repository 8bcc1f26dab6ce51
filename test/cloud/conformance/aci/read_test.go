package aci

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestA23Lists(t *testing.T) {
	s := open(t)
	path := s.name(t, "listed")
	s.create(t, path, s.definition())
	if at(s.call(t, http.MethodGet, path, nil).body, "properties", "instanceView") == nil {
		t.Error("a GET has no instanceView")
	}
	for name, address := range map[string]string{
		"resource group": s.groups(), "subscription": "/subscriptions/" + s.subscription + "/providers/Microsoft.ContainerInstance/containerGroups",
	} {
		found := 0
		for _, g := range s.list(t, address) {
			id, _ := at(g, "id").(string)
			if !strings.EqualFold(id, path) {
				continue
			}
			found++
			if at(g, "properties", "instanceView") != nil || view(g) != nil {
				t.Errorf("%s: the list has an instanceView", name)
			}
			wantAt(t, g, "Succeeded", "properties", "provisioningState")
			wantAt(t, g, s.image, "properties", "containers", 0, "properties", "image")
		}
		if found != 1 {
			t.Errorf("%s: listed %d times", name, found)
		}
	}
}

// list follows the pages of a list, whose links it uses as they are.
func (s *service) list(t *testing.T, address string) list {
	t.Helper()
	var all list
	for address != "" {
		got := s.call(t, http.MethodGet, address, nil).want(t, "list", http.StatusOK, "")
		items, _ := at(got.body, "value").(list)
		all = append(all, items...)
		next, _ := at(got.body, "nextLink").(string)
		if next != "" && !strings.HasPrefix(next, s.manager+"/") {
			t.Fatalf("nextLink is %q", next)
		}
		address = next
	}
	return all
}

func TestA24Paging(t *testing.T) {
	s := openLab(t)
	s.lab.Arrange(Conditions{PageSize: 2})
	want := map[string]bool{}
	for i := range 5 {
		path := fmt.Sprintf("%s/page-%d", s.groups(), i)
		s.call(t, http.MethodPut, path, s.definition()).want(t, "PUT", http.StatusCreated, "")
		want[path] = true
	}
	got := s.call(t, http.MethodGet, s.groups(), nil)
	if items, _ := at(got.body, "value").(list); len(items) != 2 {
		t.Errorf("the first page has %d groups", len(items))
	}
	next, _ := at(got.body, "nextLink").(string)
	if !strings.HasPrefix(next, "https://") || !strings.Contains(next, "api-version="+apiVersion) {
		t.Errorf("nextLink is %q", next)
	}
	all := s.list(t, s.groups())
	for _, g := range all {
		delete(want, at(g, "id").(string))
	}
	if len(all) != 5 || len(want) != 0 {
		t.Errorf("%d groups in all pages, without %v", len(all), want)
	}
	// The link goes on where it was, also when the last group of its page is gone.
	s.lab.Advance(time.Minute)
	s.call(t, http.MethodDelete, s.groups()+"/page-1", nil).want(t, "DELETE", http.StatusOK, "")
	if rest := s.list(t, next); len(rest) != 3 {
		t.Errorf("%d groups after the first page, want 3", len(rest))
	}
}

func TestA25Secrets(t *testing.T) {
	const secret = "Xs3cretX"
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))
	s := openLab(t) // the account and the registry do not exist
	path := s.name(t, "secret")
	body := s.definition(
		inContainer(list{object{"name": "PASSWORD", "secureValue": secret}, object{"name": "USER", "value": "me"}}, "environmentVariables"),
		set(list{
			object{"name": "secrets", "secret": object{"key": encoded}},
			object{"name": "files", "azureFile": object{"shareName": "share", "storageAccountName": "account", "storageAccountKey": encoded}},
		}, "properties", "volumes"),
		set(list{object{"server": "registry.example", "username": "me", "password": secret}}, "properties", "imageRegistryCredentials"),
		set(object{"logAnalytics": object{"workspaceId": "workspace", "workspaceKey": encoded}}, "properties", "diagnostics"),
		set(list{object{"name": "proxy", "properties": object{
			"extensionType": "kube-proxy", "version": "1.0", "settings": object{"a": "b"}, "protectedSettings": object{"kubeConfig": encoded},
		}}}, "properties", "extensions"),
	)
	answers := []answer{s.call(t, http.MethodPut, path, body).want(t, "PUT", http.StatusCreated, "")}
	s.settle(t, path)
	got := s.call(t, http.MethodGet, path, nil)
	answers = append(answers, got, s.call(t, http.MethodGet, s.groups(), nil), s.call(t, http.MethodPatch, path, object{"tags": object{"a": "b"}}))
	answers = append(answers, s.call(t, http.MethodPut, path, body))
	s.settle(t, path)
	answers = append(answers, s.call(t, http.MethodDelete, path, nil))
	for _, a := range answers {
		if a.status >= http.StatusBadRequest || strings.Contains(a.raw, secret) || strings.Contains(a.raw, encoded) {
			t.Errorf("status %d: %s", a.status, a.raw)
		}
	}
	wantAt(t, got.body, list{object{"name": "PASSWORD"}, object{"name": "USER", "value": "me"}}, "properties", "containers", 0, "properties", "environmentVariables")
	wantAt(t, got.body, object{}, "properties", "volumes", 0, "secret")
	wantAt(t, got.body, "account", "properties", "volumes", 1, "azureFile", "storageAccountName")
	wantAt(t, got.body, "me", "properties", "imageRegistryCredentials", 0, "username")
	wantAt(t, got.body, "workspace", "properties", "diagnostics", "logAnalytics", "workspaceId")
}

func TestA33Logs(t *testing.T) {
	logs := func(s *service, t *testing.T, path, query string) string {
		t.Helper()
		content, _ := at(s.call(t, http.MethodGet, path+"/containers/app/logs"+query, nil).want(t, "logs"+query, http.StatusOK, "").body, "content").(string)
		return content
	}
	t.Run("running", func(t *testing.T) {
		s := open(t)
		path := s.name(t, "talks")
		s.create(t, path, s.definition(inContainer(shell("for i in 1 2 3; do echo out $i; echo err $i >&2; done; exec sleep 3600"), "command")))
		const want = "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n"
		s.until(t, "the lines", func() bool { return logs(s, t, path, "") == want })
		if got := logs(s, t, path, "?tail=2"); got != "out 3\nerr 3\n" {
			t.Errorf("tail=2 gives %q", got)
		}
		var previous time.Time
		for i, line := range strings.Split(strings.TrimSuffix(logs(s, t, path, "?timestamps=true"), "\n"), "\n") {
			stamp, text, _ := strings.Cut(line, " ")
			if written := when(t, stamp); written.Before(previous) || text != strings.Split(want, "\n")[i] {
				t.Errorf("line %d is %q", i, line)
			}
			previous = when(t, stamp)
		}
		for _, query := range []string{"?tail=many", "?tail=-1", "?timestamps=perhaps"} {
			if got := s.call(t, http.MethodGet, path+"/containers/app/logs"+query, nil); got.status != http.StatusBadRequest {
				t.Errorf("%s: %d", query, got.status)
			}
		}
		if got := s.call(t, http.MethodGet, path+"/containers/none/logs", nil); got.status != http.StatusNotFound {
			t.Errorf("logs of no container: %d %s", got.status, got.raw)
		}
	})
	t.Run("4 MB while it runs", func(t *testing.T) {
		s := open(t)
		path := s.name(t, "talks-much")
		const script = `line=$(printf '%01000d' 0); i=0; while [ $i -lt 5000 ]; do echo $line $i; i=$((i+1)); done; echo end; exec sleep 3600`
		s.create(t, path, s.definition(inContainer(shell(script), "command")))
		s.until(t, "the end", func() bool { return logs(s, t, path, "?tail=1") == "end\n" })
		if got := logs(s, t, path, ""); len(got) > 4<<20 || len(got) < 4<<20-2000 || !strings.HasSuffix(got, " 4999\nend\n") {
			t.Errorf("the log has %d bytes and ends with %q", len(got), got[max(0, len(got)-30):])
		}
	})
	for name, test := range map[string]struct{ script, last string }{
		"1000 lines after the end": {"seq 1 1500", "1500\n"},
		"16 KB after the end":      {`line=$(printf '%0500d' 0); for i in $(seq 1 100); do echo $line $i; done`, "0 100\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			path := s.name(t, "ended")
			s.create(t, path, s.definition(set("Never", "properties", "restartPolicy"), inContainer(shell(test.script), "command")))
			s.awaitState(t, path, "Succeeded")
			got := logs(s, t, path, "")
			if lines := strings.Count(got, "\n"); len(got) > 16<<10 || lines > 1000 || (len(got) < 15<<10 && lines < 1000) || !strings.HasSuffix(got, test.last) {
				t.Errorf("the log has %d bytes and %d lines and ends with %q", len(got), lines, got[max(0, len(got)-30):])
			}
		})
	}
	t.Run("too early", func(t *testing.T) {
		s := openLab(t)
		s.lab.Arrange(Conditions{LatePulls: true})
		path := s.name(t, "early")
		s.call(t, http.MethodPut, path, s.definition()).want(t, "PUT", http.StatusCreated, "")
		s.lab.Advance(5 * time.Minute)
		if got := s.call(t, http.MethodGet, path+"/containers/app/logs", nil); got.code() != "ContainerLogNotAvailable" {
			t.Errorf("logs before there are any: %d %s", got.status, got.raw)
		}
	})
}

func TestA38Tables(t *testing.T) {
	s := open(t)
	for example, address := range map[string]string{
		"CachedImagesList": s.regional("cachedImages"), "CapabilitiesList": s.regional("capabilities"), "ContainerGroupUsage": s.regional("usages"),
		"OperationsList": "/providers/Microsoft.ContainerInstance/operations",
	} {
		got := s.call(t, http.MethodGet, address, nil).want(t, example, http.StatusOK, "")
		items, _ := at(got.body, "value").(list)
		if len(items) == 0 {
			t.Errorf("%s: nothing is listed", example)
		}
		for _, item := range items {
			if missing := missingMember(at(answerOf(t, example, http.StatusOK), "value", 0), item, ""); missing != "" {
				t.Errorf("%s: %v has no %s", example, item, missing)
			}
		}
	}
	var names []string
	for _, u := range at(s.call(t, http.MethodGet, s.regional("usages"), nil).body, "value").(list) {
		name, _ := at(u, "name", "value").(string)
		names = append(names, name)
	}
	for _, name := range []string{
		"ContainerGroups", "StandardCores", "StandardSpotCores", "StandardK80Cores", "StandardP100Cores", "StandardV100Cores",
		"DedicatedContainerGroups", "DedicatedCores", "ConfidentialContainerGroups", "ConfidentialCores",
	} {
		if !slices.Contains(names, name) {
			t.Errorf("usages know no %s", name)
		}
	}
	for _, what := range []string{"cachedImages", "capabilities", "usages"} {
		if got := s.call(t, http.MethodGet, strings.Replace(s.regional(what), "/locations/"+s.location, "/locations/moon", 1), nil); got.status != http.StatusBadRequest {
			t.Errorf("%s of nowhere: %d %s", what, got.status, got.raw)
		}
	}
}

// missingMember is the path of a member that the example has and the answer does
// not, or has of another kind; empty if there is none.
func missingMember(example, got any, where string) string {
	switch example := example.(type) {
	case object:
		inner, _ := got.(object)
		for name, member := range example {
			if missing := missingMember(member, inner[name], strings.TrimPrefix(where+"."+name, ".")); missing != "" {
				return missing
			}
		}
	default:
		if fmt.Sprintf("%T", example) != fmt.Sprintf("%T", got) {
			return where
		}
	}
	return ""
}
