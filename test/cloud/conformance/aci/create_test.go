package aci

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestA04APIVersion(t *testing.T) {
	s := open(t)
	for name, test := range map[string]struct{ query, code string }{
		"missing": {"?api-version=", "MissingApiVersionParameter"},
		"unknown": {"?api-version=1999-01-01", "NoRegisteredProviderFound"},
	} {
		for _, path := range []string{s.groups(), s.groups() + "/none", s.regional("usages")} {
			got := s.call(t, http.MethodGet, path+test.query, nil)
			if got.status != http.StatusBadRequest || got.code() != test.code {
				t.Errorf("%s of %s: %d %s", name, path, got.status, got.raw)
			}
		}
	}
	if got := s.call(t, http.MethodGet, s.groups()+"?api-version=1999-01-01", nil); !strings.Contains(got.message(), apiVersion) {
		t.Errorf("the message does not name %s: %s", apiVersion, got.message())
	}
}

func TestA05NamesWithoutCase(t *testing.T) {
	s := open(t)
	path := s.name(t, "names")
	s.create(t, path, s.definition())
	for _, spelled := range []string{strings.ToUpper(path), strings.ToLower(path), strings.Replace(path, "resourceGroups", "resourcegroups", 1)} {
		got := s.call(t, http.MethodGet, spelled, nil).want(t, spelled, http.StatusOK, "")
		if id, _ := at(got.body, "id").(string); !strings.EqualFold(id, path) {
			t.Errorf("the id of %s is %s", spelled, id)
		}
	}
	wantAt(t, s.call(t, http.MethodGet, strings.ToUpper(path), nil).body, path[strings.LastIndex(path, "/")+1:], "name")
	elsewhere := strings.Replace(s.groups(), "/resourceGroups/"+s.group+"/", "/resourceGroups/no-such-resource-group/", 1)
	for name, test := range map[string]struct{ path, code string }{
		"group":          {s.groups() + "/no-such-group", "ResourceNotFound"},
		"resource group": {elsewhere + "/names", "ResourceGroupNotFound"},
		"resource list":  {elsewhere, "ResourceGroupNotFound"},
		"subscription":   {strings.Replace(s.groups(), s.subscription, "99999999-9999-9999-9999-999999999999", 1), "SubscriptionNotFound"},
	} {
		got := s.call(t, http.MethodGet, test.path, nil)
		if got.status != http.StatusNotFound || got.code() != test.code || got.header.Get("X-Ms-Failure-Cause") != "gateway" {
			t.Errorf("%s: %d %s, x-ms-failure-cause %q", name, got.status, got.raw, got.header.Get("X-Ms-Failure-Cause"))
		}
	}
}

func TestA06Schema(t *testing.T) {
	t.Run("required members and enumerations", func(t *testing.T) {
		s := open(t)
		path := s.name(t, "refused")
		for name, edit := range map[string]func(object){
			"no properties":         set(nil, "properties"),
			"no containers":         set(nil, "properties", "containers"),
			"no os":                 set(nil, "properties", "osType"),
			"unknown os":            set("Plan9", "properties", "osType"),
			"unknown policy":        set("Sometimes", "properties", "restartPolicy"),
			"unknown sku":           set("Cheap", "properties", "sku"),
			"unknown priority":      set("High", "properties", "priority"),
			"container unnamed":     set(nil, "properties", "containers", 0, "name"),
			"no image":              inContainer(nil, "image"),
			"no resources":          inContainer(nil, "resources"),
			"no requests":           inContainer(nil, "resources", "requests"),
			"no cpu":                inContainer(nil, "resources", "requests", "cpu"),
			"no memory":             inContainer(nil, "resources", "requests", "memoryInGB"),
			"cpu is text":           inContainer("1", "resources", "requests", "cpu"),
			"command is text":       inContainer("sleep", "command"),
			"variable unnamed":      inContainer(list{object{"value": "x"}}, "environmentVariables"),
			"mount without path":    inContainer(list{object{"name": "data1"}}, "volumeMounts"),
			"port without number":   inContainer(list{object{"protocol": "TCP"}}, "ports"),
			"port is a fraction":    inContainer(list{object{"port": 80.5}}, "ports"),
			"probe without port":    inContainer(object{"httpGet": object{"path": "/"}}, "livenessProbe"),
			"volume unnamed":        set(list{object{"emptyDir": object{}}}, "properties", "volumes"),
			"file without share":    set(list{object{"name": "files", "azureFile": object{"storageAccountName": "a"}}}, "properties", "volumes"),
			"address without ports": set(object{"type": "Public"}, "properties", "ipAddress"),
			"address of no type":    set(object{"ports": list{object{"port": 80}}}, "properties", "ipAddress"),
			"unknown address type":  set(object{"type": "Secret", "ports": list{object{"port": 80}}}, "properties", "ipAddress"),
			"registry unnamed":      set(list{object{"username": "me"}}, "properties", "imageRegistryCredentials"),
			"no name servers":       set(object{"searchDomains": "a"}, "properties", "dnsConfig"),
			"subnet without id":     set(list{object{"name": "a"}}, "properties", "subnetIds"),
			"tag is a number":       set(object{"a": 1}, "tags"),
			"no location":           set(nil, "location"),
			"unknown location":      set("moon", "location"),
		} {
			got := s.call(t, http.MethodPut, path, s.definition(edit))
			if got.status != http.StatusBadRequest {
				t.Errorf("%s: %d %s", name, got.status, got.raw)
			}
		}
		for name, body := range map[string]string{"not JSON": `{"properties": {"password": "s3cret`, "a list": `[]`, "nothing": ``} {
			if got := s.call(t, http.MethodPut, path, body); got.status != http.StatusBadRequest || strings.Contains(got.raw, "s3cret") {
				t.Errorf("%s: %d %s", name, got.status, got.raw)
			}
		}
		s.call(t, http.MethodGet, path, nil).want(t, "after refusals only", http.StatusNotFound, "ResourceNotFound")
	})
	t.Run("read-only members are ignored", func(t *testing.T) {
		s := open(t)
		path := s.name(t, "read-only")
		s.create(t, path, s.definition(
			set("Failed", "properties", "provisioningState"), set(object{"state": "Failed"}, "properties", "instanceView"),
			set("another", "name"), set("/another/id", "id"), set("Another/type", "type"),
			inContainer(object{"restartCount": 7}, "instanceView"),
			set(object{"type": "Public", "ports": list{object{"port": 8080}}, "fqdn": "another.example"}, "properties", "ipAddress"),
		))
		got := s.call(t, http.MethodGet, path, nil).body
		wantAt(t, got, "Succeeded", "properties", "provisioningState")
		wantAt(t, got, "Running", "properties", "instanceView", "state")
		wantAt(t, view(got), 0, "restartCount")
		if name := at(got, "properties", "ipAddress").(object)["fqdn"]; name != nil {
			t.Errorf("the address has the name %v, which the request gave it", name)
		}
		wantAt(t, got, "Microsoft.ContainerInstance/containerGroups", "type")
		wantAt(t, got, path, "id")
	})
	// The examples name identities, subnets and vaults that only a lab has.
	t.Run("examples", func(t *testing.T) {
		s := openLab(t)
		put := 0
		for _, e := range examples(t) {
			path := s.groups() + "/" + strings.ToLower(e.name)
			switch e.operation.id {
			case "ContainerGroups_CreateOrUpdate":
				put++
				got := s.call(t, http.MethodPut, path, e.parameters["containerGroup"]).want(t, e.name, http.StatusCreated, "")
				wantAt(t, got.body, "Pending", "properties", "provisioningState")
				s.lab.Advance(time.Minute)
				wantAt(t, s.call(t, http.MethodGet, path, nil).body, "Succeeded", "properties", "provisioningState")
			case "ContainerGroups_Update":
				s.create(t, path, s.definition())
				got := s.call(t, http.MethodPatch, path, e.parameters["Resource"]).want(t, e.name, http.StatusOK, "")
				wantAt(t, got.body, at(e.parameters, "Resource", "tags"), "tags")
			case "Containers_ExecuteCommand":
				s.create(t, path, s.definition())
				s.call(t, http.MethodPost, path+"/containers/app/exec", e.parameters["containerExecRequest"]).want(t, e.name, http.StatusOK, "")
			}
		}
		if put < 5 {
			t.Errorf("only %d examples put a group", put)
		}
	})
}

func TestA07PutNew(t *testing.T) {
	s := open(t)
	path := s.name(t, "new")
	got := s.call(t, http.MethodPut, path, s.definition(set(object{"owner": "conformance"}, "tags"))).want(t, "PUT", http.StatusCreated, "")
	wantAt(t, got.body, "Pending", "properties", "provisioningState")
	wantAt(t, got.body, "conformance", "tags", "owner")
	async := got.header.Get(asyncHeader)
	address, err := url.Parse(async)
	if err != nil || !regexp.MustCompile(`(?i)^/subscriptions/`+s.subscription+`/providers/Microsoft\.ContainerInstance/locations/`+s.location+`/operations/`+guid+`$`).MatchString(address.Path) ||
		address.Scheme != "https" || address.Query().Get("api-version") == "" {
		t.Errorf("Azure-AsyncOperation is %.200q", async)
	}
	if len(async) < 3000 || len(async) > 4096 {
		t.Errorf("Azure-AsyncOperation has %d bytes, want about 3 KB", len(async))
	}
	for _, name := range []string{"Retry-After", "Location"} {
		if value := got.header.Get(name); value != "" {
			t.Errorf("%s is %q", name, value)
		}
	}
	s.settle(t, path)
	wantAt(t, s.call(t, http.MethodGet, path, nil).body, "Running", "properties", "instanceView", "state")
}

func TestA08PutOnALivingGroup(t *testing.T) {
	s := open(t)
	path := s.name(t, "living")
	s.create(t, path, s.definition(public(8080)))
	before := s.awaitState(t, path, "Running")
	got := s.call(t, http.MethodPut, path, s.definition(public(8080),
		inContainer(list{object{"name": "COLOUR", "value": "blue"}}, "environmentVariables"), inContainer([]string{"sleep", "3601"}, "command"),
	)).want(t, "PUT on a living group", http.StatusOK, "")
	async := got.header.Get(asyncHeader)
	if async == "" {
		t.Fatal("there is no Azure-AsyncOperation")
	}
	wantAt(t, s.finish(t, async), "Succeeded", "status")
	after := s.awaitState(t, path, "Running")
	wantAt(t, after, list{"sleep", "3601"}, "properties", "containers", 0, "properties", "command")
	wantAt(t, after, "blue", "properties", "containers", 0, "properties", "environmentVariables", 0, "value")
	if !when(t, view(after, "currentState", "startTime")).After(when(t, view(before, "currentState", "startTime"))) {
		t.Error("the container was not restarted")
	}
}

func TestA09ImmutableChange(t *testing.T) {
	s := open(t)
	changes := map[string]func(object){
		"os":             set("Windows", "properties", "osType"),
		"restart policy": set("OnFailure", "properties", "restartPolicy"),
		"cpu":            inContainer(2.0, "resources", "requests", "cpu"),
		"memory":         inContainer(2.0, "resources", "requests", "memoryInGB"),
		"log analytics":  set(object{"logAnalytics": object{"workspaceId": "w", "workspaceKey": "a2V5"}}, "properties", "diagnostics"),
	}
	path := s.name(t, "immutable")
	s.create(t, path, s.definition())
	s.awaitState(t, path, "Running")
	for name, edit := range changes {
		got := s.call(t, http.MethodPut, path, s.definition(edit))
		if got.status != http.StatusBadRequest || got.code() != "InvalidContainerGroupUpdate" {
			t.Errorf("%s: %d %s", name, got.status, got.raw)
		}
	}
	s.call(t, http.MethodPost, path+"/stop", nil).want(t, "stop", http.StatusNoContent, "")
	got := s.call(t, http.MethodPut, path, s.definition(changes["cpu"], set("Never", "properties", "restartPolicy"), inContainer([]string{"true"}, "command")))
	got.want(t, "PUT on a stopped group", http.StatusOK, "")
	ended := s.awaitState(t, path, "Succeeded")
	wantAt(t, ended, 2.0, "properties", "containers", 0, "properties", "resources", "requests", "cpu")

	s.settle(t, path)
	s.call(t, http.MethodPut, path, s.definition(changes["memory"])).want(t, "PUT on an ended group", http.StatusOK, "")
	wantAt(t, s.awaitState(t, path, "Running"), 2.0, "properties", "containers", 0, "properties", "resources", "requests", "memoryInGB")
}

func TestA10Operation(t *testing.T) {
	t.Run("succeeds", func(t *testing.T) {
		s := open(t)
		async := s.call(t, http.MethodPut, s.name(t, "operation"), s.definition()).want(t, "PUT", http.StatusCreated, "").header.Get(asyncHeader)
		first := s.call(t, http.MethodGet, async, nil).want(t, "read the operation", http.StatusOK, "")
		if status := at(first.body, "status"); status != "Pending" && status != "Succeeded" {
			t.Errorf("status is %v", status)
		}
		if id, _ := at(first.body, "id").(string); !strings.Contains(async, id) {
			t.Errorf("the id %q is not that of %.300s", id, async)
		}
		when(t, at(first.body, "startTime"))
		wantAt(t, s.finish(t, async), "Succeeded", "status")
		unknown := regexp.MustCompile(`/operations/`+guid).ReplaceAllString(async, "/operations/66666666-6666-6666-6666-666666666666")
		if got := s.call(t, http.MethodGet, unknown, nil); got.status != http.StatusNotFound {
			t.Errorf("an unknown operation: %d %s", got.status, got.raw)
		}
	})
	t.Run("pending, then failed", func(t *testing.T) {
		s := openLab(t)
		s.lab.Arrange(Conditions{LatePulls: true})
		async := s.call(t, http.MethodPut, s.name(t, "operation"), s.definition()).want(t, "PUT", http.StatusCreated, "").header.Get(asyncHeader)
		for range 29 {
			wantAt(t, s.call(t, http.MethodGet, async, nil).body, "Pending", "status")
			s.lab.Advance(time.Minute)
		}
		s.lab.Advance(time.Minute)
		failed := s.call(t, http.MethodGet, async, nil)
		wantAt(t, failed.status, http.StatusOK)
		wantAt(t, failed.body, "Failed", "status")
		if failed.code() == "" || failed.message() == "" {
			t.Errorf("the failed operation says no error: %s", failed.raw)
		}
	})
}
