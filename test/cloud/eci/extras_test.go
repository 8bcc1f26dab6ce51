package eci

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestPublicAddresses(t *testing.T) {
	c := newClient(t, func(o *Options) { o.EIPs = map[string]netip.Addr{"eip-1": netip.MustParseAddr("198.51.100.7")} })
	own, given, none := c.create("AutoCreateEip", "true", "EipBandwidth", "5"), c.create("EipInstanceId", "eip-1"), c.create()
	c.clock.Step(time.Minute)
	if ip := c.describe(own).InternetIP; !strings.HasPrefix(ip, "203.0.113.") {
		t.Errorf("its own address is %q", ip)
	}
	if ip := c.describe(given).InternetIP; ip != "198.51.100.7" {
		t.Errorf("the given address is %q", ip)
	}
	if ip := c.describe(none).InternetIP; ip != "" {
		t.Errorf("a group that asks for none has the address %q", ip)
	}
	c.refused(400, "InvalidParameter", "CreateContainerGroup", nginx("EipInstanceId", "eip-2")...)
	c.refused(400, "InvalidParameter", "CreateContainerGroup", nginx("SpotStrategy", "SpotAsPriceGo", "SpotDuration", "2")...)
}

func TestGPUsAndCategories(t *testing.T) {
	c := newClient(t)
	if g := c.describe(c.create("InstanceType", "ecs.gn7i-c8g1.2xlarge", "Container.1.Gpu", "1")); g.CPU != 8 || g.Memory != 30 || g.Containers[0].Gpu != 1 {
		t.Errorf("%v vCPU, %v GiB, %d GPUs", g.CPU, g.Memory, g.Containers[0].Gpu)
	}
	c.refused(400, "InvalidParameter", "CreateContainerGroup", nginx("InstanceType", "ecs.gn7i-c8g1.2xlarge", "Container.1.Gpu", "2")...)
	c.refused(400, "InvalidParameter", "CreateContainerGroup", nginx("Container.1.Gpu", "1")...)
	c.refused(400, "InvalidParameter.CPU.Memory", "CreateContainerGroup", nginx("InstanceType", "ecs.c6.large", "Container.1.Cpu", "4")...)
	c.create("ComputeCategory.1", "economy")
	c.refused(400, "InvalidParameter", "CreateContainerGroup", nginx("ComputeCategory.1", "economy", "SpotStrategy", "SpotAsPriceGo")...)
	c.refused(400, "InvalidParameter", "CreateContainerGroup", nginx("ComputeCategory.1", "cheap")...)
}

func TestRefusalsRememberedUnderTheirToken(t *testing.T) {
	for name, remembers := range map[string]bool{"forgotten": false, "remembered": true} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, func(o *Options) { o.RememberRefusals = remembers })
			c.server.SetShortages(Shortage{})
			c.refused(403, "OperationDenied.NoStock", "CreateContainerGroup", nginx("ClientToken", "t")...)
			c.server.SetShortages()
			if remembers {
				c.refused(403, "OperationDenied.NoStock", "CreateContainerGroup", nginx("ClientToken", "t")...)
				c.refused(400, "IdempotentParameterMismatch", "CreateContainerGroup", nginx("ClientToken", "t", "Cpu", "4", "Memory", "8")...)
				return
			}
			c.create("ClientToken", "t")
		})
	}
}

func TestIdentity(t *testing.T) {
	c := newClient(t)
	i := c.server.NewIdentity(IdentityOptions{
		RoleARN: "acs:ram::1:role/r", ProviderARN: "acs:ram::1:oidc-provider/p", InstanceRole: "node",
		Verify: func(s string) bool { return s == "good" }, Lifetime: 30 * time.Minute,
	})
	web := httptest.NewServer(i)
	defer web.Close()
	ask := func(method, path string, header map[string]string, form url.Values) (int, map[string]any, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, web.URL+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range header {
			req.Header.Set(k, v)
		}
		resp, err := web.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var body map[string]any
		_ = json.Unmarshal(text, &body) // some answers are no documents
		return resp.StatusCode, body, string(text)
	}
	role := func(token string) url.Values {
		return url.Values{
			"Action": {"AssumeRoleWithOIDC"}, "Version": {"2015-04-01"}, "Format": {"JSON"}, "Timestamp": {"2026-03-01T12:00:00Z"},
			"RoleArn": {"acs:ram::1:role/r"}, "OIDCProviderArn": {"acs:ram::1:oidc-provider/p"}, "OIDCToken": {token}, "RoleSessionName": {"s"},
		}
	}
	if status, body, _ := ask("POST", "/", nil, role("bad")); status != 400 || body["Code"] != "AuthenticationFail.OIDCToken.Invalid" {
		t.Errorf("a bad token: %d %v", status, body)
	}
	status, body, _ := ask("POST", "/", nil, role("good"))
	key, _ := body["Credentials"].(map[string]any)
	if status != 200 || key["AccessKeyId"] == "" || key["SecurityToken"] == "" {
		t.Fatalf("a good token: %d %v", status, body)
	}

	const keys = "/latest/meta-data/ram/security-credentials/"
	if status, _, _ := ask("GET", keys+"node", nil, nil); status != 403 {
		t.Errorf("metadata without a token: %d", status)
	}
	if status, _, _ := ask("GET", "/latest/api/token", nil, nil); status != 400 {
		t.Errorf("a token by GET: %d", status)
	}
	status, _, token := ask("PUT", "/latest/api/token", map[string]string{"X-aliyun-ecs-metadata-token-ttl-seconds": "60"}, nil)
	header := map[string]string{"X-aliyun-ecs-metadata-token": token}
	if _, _, name := ask("GET", keys, header, nil); status != 200 || name != "node" {
		t.Errorf("the role is %q", name)
	}
	if status, body, _ := ask("GET", keys+"node", header, nil); status != 200 || body["Code"] != "Success" {
		t.Errorf("the key of the role: %d %v", status, body)
	}
	if status, _, _ := ask("GET", keys+"other", header, nil); status != 404 {
		t.Errorf("another role: %d", status)
	}
	c.clock.Step(time.Minute)
	if status, _, _ := ask("GET", keys+"node", header, nil); status != 403 {
		t.Errorf("metadata with a token that has ended: %d", status)
	}
}
