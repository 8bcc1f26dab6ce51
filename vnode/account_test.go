package vnode_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/providers/eci"
	"github.com/autoburst/autoburst/providers/providertest"
	"github.com/autoburst/autoburst/providers/quota"
	emulator "github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/vnode"
)

// Two agents with one account keep to its published quota together, although
// neither would alone leave anything of it.
func TestTwoAgentsKeepToOneQuota(t *testing.T) {
	// A tenth of what ECI documents, so that a slow machine meets it, too.
	const pods, faster, burst, perSecond = 40, 10, 10, 2
	rates := emulator.LimitRates()
	for action := range rates.Buckets {
		rates.Buckets[action] = emulator.Bucket{Burst: burst, PerSecond: perSecond}
	}
	settings, err := quota.Parse(fmt.Sprintf("CreateContainerGroup=%d+%d/s; DeleteContainerGroup=%[1]d+%[2]d/s", burst, perSecond))
	if err != nil {
		t.Fatal(err)
	}
	clk := providertest.NewFastClock(faster)
	server := emulator.NewServer(emulator.Options{
		AccessKeys: []emulator.AccessKey{{ID: "LTAI-shared", Secret: "secret"}},
		Regions: []emulator.Region{{
			ID: "cn-hangzhou", Zones: []string{"cn-hangzhou-h"},
			VSwitches:      []emulator.VSwitch{{ID: "vsw-h", ZoneID: "cn-hangzhou-h", VpcID: "vpc-1", CIDR: netip.MustParsePrefix("10.0.0.0/16")}},
			SecurityGroups: []emulator.SecurityGroup{{ID: "sg-1", VpcID: "vpc-1"}},
		}},
		// Requests are signed with the time of the wall.
		Sim: sim.Config{Clock: clk}, TimestampWindow: 24 * time.Hour,
		Rates: rates,
	})
	web := httptest.NewUnstartedServer(server)
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
		if err := server.Close(); err != nil {
			t.Errorf("closing the cloud: %v", err)
		}
	})
	u, err := url.Parse(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())

	client := vnode.CrowdClient()
	ctx, cancel := context.WithCancel(t.Context())
	var agents sync.WaitGroup
	defer func() {
		cancel()
		agents.Wait()
	}()
	nodes := []string{"burst-a", "burst-b"}
	var accounts []*quota.Account
	for _, node := range nodes {
		cfg := eci.Config{
			Region: "cn-hangzhou", VSwitchIDs: []string{"vsw-h"}, SecurityGroupID: "sg-1", ClusterUID: "cluster", NodeName: node,
			Credentials: eci.StaticCredentials(eci.Credentials{AccessKeyID: "LTAI-shared", AccessKeySecret: "secret"}),
			Endpoint:    u.Host, RootCAs: roots,
		}
		if cfg.Quota, err = quota.New(cfg.Plan(), settings, clk, nil); err != nil {
			t.Fatal(err)
		}
		accounts = append(accounts, cfg.Quota)
		provider, err := eci.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(provider.Close)
		agent, err := vnode.New(vnode.Config{
			ClusterUID: "cluster", Namespace: "autoburst-system",
			Node: vnode.NodeSettings{
				Name: node, InternalIP: "192.0.2.1", KubeletPort: 10250, KubeletVersion: "v1.36.3",
				Taint: corev1.Taint{Key: "virtual-kubelet.io/provider", Value: "alibabacloud", Effect: corev1.TaintEffectNoSchedule},
			},
		}, client, provider, clk, slog.New(slog.DiscardHandler), vnode.NewMetrics(nil))
		if err != nil {
			t.Fatal(err)
		}
		agents.Go(func() {
			if err := agent.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	// Both know of each other, and the account is full again.
	<-clk.After(40 * time.Second)
	begun := clk.Now()
	for i := range pods {
		for _, node := range nodes {
			name := fmt.Sprintf("%s-%d", node, i)
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)},
				Spec: corev1.PodSpec{
					NodeName: node, RestartPolicy: corev1.RestartPolicyAlways, EnableServiceLinks: ptr.To(false), DNSPolicy: corev1.DNSDefault,
					Containers: []corev1.Container{{Name: "app", Image: "nginx"}},
				},
				Status: corev1.PodStatus{Phase: corev1.PodPending},
			}
			if _, err := client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	least := time.Duration(float64(2*pods-burst) / perSecond * float64(time.Second))
	var took time.Duration
	for deadline := time.After(3 * time.Minute); ; {
		if n := len(server.Fleet().Groups()); n == 2*pods {
			took = clk.Since(begun)
			break
		}
		select {
		case <-deadline:
			t.Fatalf("%d of %d groups", len(server.Fleet().Groups()), 2*pods)
		case <-time.After(10 * time.Millisecond):
		}
	}
	refused := 0
	for _, account := range accounts {
		for _, state := range account.States() {
			refused += state.Throttled
		}
	}
	t.Logf("%d creates by two agents in %s, the quota asks for %s; %d throttled answers", 2*pods, took.Round(time.Second/10), least, refused)
	if refused > 1 {
		t.Errorf("%d calls were throttled, want hardly any", refused)
	}
	if took < least-100*time.Millisecond {
		t.Errorf("%d creates took %s: the cloud did not keep to its quota of %s", 2*pods, took, least)
	}
}
