// Package faults holds the virtual node agent to what a trustworthy one does
// when things go wrong: one test for each of the 37 scenarios of docs/faults.md,
// on both clouds where the scenario exists on both. The API server is the real
// one, the clouds are the emulated ones over their wire protocols, and every
// fault really happens: connections are cut, the agent's process is killed, the
// API server is stopped. What is right is judged from outside only, by the
// objects of the API server and by the clouds' own billing record.
package faults

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// The control plane that all scenarios share. Each has a virtual node, a
// namespace and an emulated cloud of its own.
var (
	system      *playground.Playground
	admin       kubernetes.Interface
	clusterUID  string
	certificate tls.Certificate // of the emulated clouds
)

// nodesPerCloud is how many virtual nodes the chart is installed with.
const nodesPerCloud = 70

// nodes counts the virtual nodes that are taken, by cloud.
var nodes = map[string]*atomic.Int32{"eci": {}, "aci": {}}

func nodeName(cloud string, i int) string { return fmt.Sprintf("faults-%s-%02d", cloud, i) }

// atOnce is how many scenarios run at the same time: most of one is waiting.
const atOnce = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx := context.Background()
	fail := func(what string, err error) int {
		fmt.Fprintf(os.Stderr, "faults: %s: %v\n", what, err)
		return 1
	}
	var extra []playground.ExtraNode
	for _, cloud := range []string{"eci", "aci"} {
		for i := range nodesPerCloud {
			extra = append(extra, playground.ExtraNode{Name: nodeName(cloud, i), Provider: cloud})
		}
	}
	var err error
	system, err = playground.Start(ctx, playground.Options{
		Progress: os.Stderr, Controllers: -1, WithoutAgents: true, ExtraNodes: extra, Race: raceEnabled,
		Cluster: cluster.Options{ControllerManagerArgs: []string{"--concurrent-gc-syncs=5"}},
	})
	if err != nil {
		return fail("starting the system", err)
	}
	admin = system.Client()
	ns, err := admin.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return fail("reading the cluster's UID", err)
	}
	clusterUID = string(ns.UID)
	if certificate, err = system.Certificate("clouds", "127.0.0.1"); err != nil {
		return fail("making the clouds' certificate", err)
	}
	code := m.Run()
	if code != 0 {
		system.KeepLogs()
		fmt.Fprintf(os.Stderr, "faults: logs are kept in %s\n", system.Dir)
	}
	if err := system.Stop(); err != nil {
		return fail("stopping the system", err)
	}
	return code
}
