package eci

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	sdkeci "github.com/aliyun/alibaba-cloud-sdk-go/services/eci"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// sdkClient is the vendor's client against a server on a listener of its own,
// with TLS or without.
func sdkClient(t *testing.T, secret string, useTLS bool) (*sdkeci.Client, *Server) {
	t.Helper()
	o := testOptions()
	o.Sim = sim.Config{Timing: sim.DefaultTiming().Scaled(0.001)}
	s := NewServer(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	scheme := "HTTP"
	if useTLS {
		// httptest has a certificate for 127.0.0.1 and a client that trusts it.
		web := httptest.NewTLSServer(http.NotFoundHandler())
		pair := web.TLS.Certificates[0]
		transport.TLSClientConfig = web.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		web.Close()
		scheme, l = "HTTPS", tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}})
	}
	s.Start(l)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	config := sdk.NewConfig().WithScheme(scheme)
	config.HttpTransport = transport
	c, err := sdkeci.NewClientWithOptions("cn-hangzhou", config, credentials.NewAccessKeyCredential("LTAI-test", secret))
	if err != nil {
		t.Fatal(err)
	}
	c.Domain = l.Addr().String()
	return c, s
}

func TestSDKTypedAndCommonRequests(t *testing.T) {
	for _, useTLS := range []bool{false, true} {
		c, s := sdkClient(t, "s3cret", useTLS)

		create := requests.NewCommonRequest()
		create.Method, create.Domain, create.Version, create.ApiName = "POST", c.Domain, apiVersion, "CreateContainerGroup"
		if useTLS {
			create.Scheme = "https"
		}
		for i, args := 0, nginx("Container.1.EnvironmentVar.1.Key", "A", "Container.1.EnvironmentVar.1.Value", "a b~*&=+ü",
			"Container.1.Port.1.Port", "80", "Tag.1.Key", "k", "Tag.1.Value", "v", "Cpu", "1", "Memory", "2",
			"Volume.1.Name", "v", "Volume.1.Type", "EmptyDirVolume", "RestartPolicy", "Never"); i < len(args); i += 2 {
			create.FormParams[args[i]] = args[i+1]
		}
		resp, err := c.ProcessCommonRequest(create)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(resp.GetHttpContentString(), `"ContainerGroupId":"eci-`) {
			t.Fatalf("answer %s", resp.GetHttpContentString())
		}

		describe := sdkeci.CreateDescribeContainerGroupsRequest()
		describe.WithEvent = requests.NewBoolean(true)
		var g sdkeci.DescribeContainerGroupsContainerGroup0
		deadline := time.Now().Add(10 * time.Second)
		for g.Status != "Running" {
			if time.Now().After(deadline) {
				t.Fatalf("status %q after 10 s", g.Status)
			}
			got, err := c.DescribeContainerGroups(describe)
			if err != nil {
				t.Fatal(err)
			}
			g = got.ContainerGroups[0]
		}
		if env := g.Containers[0].EnvironmentVars[0]; g.Cpu != 1 || g.Memory != 2 || env.Value != "a b~*&=+ü" || g.Containers[0].Ports[0].Port != 80 ||
			g.Containers[0].CurrentState.State != "Running" || !g.Containers[0].Ready || g.Tags[0].Key != "k" || g.IntranetIp != "10.0.0.1" || len(g.Events) == 0 || g.Volumes[0].Type != "EmptyDirVolume" {
			t.Errorf("decoded %+v", g)
		}
		if err := s.Fleet().Groups()[0].Exit("nginx", 3); err != nil {
			t.Fatal(err)
		}
		got, err := c.DescribeContainerGroups(describe)
		if err != nil {
			t.Fatal(err)
		}
		if g := got.ContainerGroups[0]; g.Status != "Failed" || g.Containers[0].CurrentState.ExitCode != 3 {
			t.Errorf("after the exit: %s %+v", g.Status, g.Containers[0].CurrentState)
		}

		log := sdkeci.CreateDescribeContainerLogRequest()
		log.ContainerGroupId, log.ContainerName = g.ContainerGroupId, "nginx"
		if got, err := c.DescribeContainerLog(log); err != nil || !strings.Contains(got.Content, "ready for start up") {
			t.Errorf("log %+v, %v", got, err)
		}
		remove := sdkeci.CreateDeleteContainerGroupRequest()
		remove.ContainerGroupId = g.ContainerGroupId
		if _, err := c.DeleteContainerGroup(remove); err != nil {
			t.Error(err)
		}
		if got, err := c.DescribeRegions(sdkeci.CreateDescribeRegionsRequest()); err != nil || len(got.Regions) != 2 {
			t.Errorf("regions %v, %v", got, err)
		}
	}
}

// The typed create request of the SDK sends a bogus probe command.
func TestSDKTypedCreateIsRefused(t *testing.T) {
	c, _ := sdkClient(t, "s3cret", false)
	create := sdkeci.CreateCreateContainerGroupRequest()
	create.ContainerGroupName = "web"
	create.Container = &[]sdkeci.CreateContainerGroupContainer{{Name: "nginx", Image: "nginx:1"}}
	_, err := c.CreateContainerGroup(create)
	var server *sdkerrors.ServerError
	if !errors.As(err, &server) || server.HttpStatus() != 400 || server.ErrorCode() != "InvalidParameter" {
		t.Errorf("error %v, want InvalidParameter", err)
	}
}

func TestSDKWrongSecret(t *testing.T) {
	c, _ := sdkClient(t, "wrong", false)
	_, err := c.DescribeRegions(sdkeci.CreateDescribeRegionsRequest())
	if err == nil || !strings.Contains(err.Error(), "InvalidAccessKeySecret") {
		t.Errorf("error %v, want the SDK to see that only the secret differs", err)
	}
}
