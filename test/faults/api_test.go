package faults

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// Logs of pods that are missing, not started or finished, and of containers that
// do not exist, are answered as by the kubelet. A followed log lives through more
// than half a minute of silence. What is not supported says so in a sentence.
func TestC29LogsAndExec(t *testing.T) {
	onBothClouds(t, cloudOptions{processes: true}, func(b *bed) {
		b.start()
		talker := b.pod("talker", func(p *corev1.Pod) {
			p.Spec.Containers[0].Command = []string{"sh", "-c", "echo first; sleep 33; echo last; sleep 1000"}
		})
		b.waitRunning(talker)
		begun := time.Now()
		stream, err := b.client.CoreV1().Pods(b.ns).GetLogs("talker", &corev1.PodLogOptions{Follow: true}).Stream(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		defer stream.Close()
		lines := make(chan string, 8)
		go func() {
			defer close(lines)
			for s := bufio.NewScanner(stream); s.Scan(); {
				lines <- s.Text()
			}
		}()

		b.ends["finished"], b.ends["odd"] = corev1.PodSucceeded, corev1.PodFailed
		b.pod("finished", image("exit:0"), policy(corev1.RestartPolicyNever))
		b.wait("finished", "has ended", phase(corev1.PodSucceeded))
		b.pod("odd", func(p *corev1.Pod) { p.Spec.HostNetwork = true })
		b.wait("odd", "is refused", phase(corev1.PodFailed))
		b.inject(fault{op: create, calls: -1, throttled: true})
		b.pod("pending")
		b.waitWaits("pending", "")
		for what, ask := range map[string]struct {
			path string
			code int
			text string
		}{
			"a missing pod":                 {"containerLogs/" + b.ns + "/nobody/app", http.StatusNotFound, "not found"},
			"a container that is not":       {"containerLogs/" + b.ns + "/talker/other", http.StatusBadRequest, "not valid"},
			"a pending pod":                 {"containerLogs/" + b.ns + "/pending/app", http.StatusBadRequest, "pending"},
			"a refused pod":                 {"containerLogs/" + b.ns + "/odd/app", http.StatusBadRequest, "UnsupportedPod"},
			"no previous run":               {"containerLogs/" + b.ns + "/talker/app?previous=true", http.StatusBadRequest, "previous"},
			"a finished pod":                {"containerLogs/" + b.ns + "/finished/app", http.StatusOK, "done"},
			"exec in a missing pod":         {"exec/" + b.ns + "/nobody/app?command=ls&output=1", http.StatusNotFound, "not found"},
			"exec in a missing container":   {"exec/" + b.ns + "/talker/other?command=ls&output=1", http.StatusBadRequest, "not valid"},
			"exec in a pending pod":         {"exec/" + b.ns + "/pending/app?command=ls&output=1", http.StatusBadRequest, "does not run"},
			"exec in a finished pod":        {"exec/" + b.ns + "/finished/app?command=ls&output=1", http.StatusBadRequest, "does not run"},
			"exec without a stream":         {"exec/" + b.ns + "/talker/app?command=ls&output=1", http.StatusBadRequest, "upgrade"},
			"attach to a finished pod":      {"attach/" + b.ns + "/finished/app?output=1", http.StatusBadRequest, "does not run"},
			"port-forward to a missing pod": {"portForward/" + b.ns + "/nobody", http.StatusNotFound, "not found"},
			"a path that does not exist":    {"nothing", http.StatusNotFound, ""},
		} {
			path, query, _ := strings.Cut(ask.path, "?")
			code, text := b.kubeletQuery(path, query)
			if code != ask.code || !strings.Contains(text, ask.text) {
				b.Errorf("%s: %d %q, want %d and %q", what, code, text, ask.code, ask.text)
			}
		}
		if out, err := system.Kubectl(b.Context(), "", "--namespace="+b.ns, "exec", "talker", "--", "echo", "hello"); err != nil || out != "hello\n" {
			b.Errorf("kubectl exec printed %q, error %v", out, err)
		}
		b.ClearFaults()
		// A finished pod whose group the cloud has forgotten.
		b.group(b.get("finished")).Remove()
		b.sweeps(3)
		if code, text := b.kubeletQuery("containerLogs/"+b.ns+"/finished/app", ""); code != http.StatusBadRequest && code != http.StatusNotFound {
			b.Errorf("a finished pod without a group: %d %q", code, text)
		}

		for _, want := range []string{"first", "last"} {
			select {
			case line := <-lines:
				if line != want {
					b.Errorf("the log says %q, want %q", line, want)
				}
			case <-b.Context().Done():
				b.Fatal("the test ended before the log")
			}
		}
		if took := time.Since(begun); took < 30*time.Second {
			b.Errorf("the log was silent for %s only", took)
		}
		if err := b.agent().Process.Err(); err != nil {
			b.Error(err)
		}
	})
}

// kubeletQuery asks the agent's kubelet API as the API server does, and returns
// the status and the text of the answer. The API server itself would not proxy to
// a node on a loopback address.
func (b *bed) kubeletQuery(path, query string) (int, string) {
	b.Helper()
	key, err := tls.LoadX509KeyPair(filepath.Join(system.Dir, "apiserver-kubelet-client.crt"), filepath.Join(system.Dir, "apiserver-kubelet-client.key"))
	if err != nil {
		b.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{key}, InsecureSkipVerify: true}} //nolint:gosec // the agent signs its own
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("https://" + b.agent().Kubelet + "/" + path + "?" + query)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// The serving certificate is replaced on disk, and the agent serves the new one
// without a restart.
func TestC32CertificateReplaced(t *testing.T) {
	t.Parallel()
	b := newBed(t, "eci", cloudOptions{})
	write := func(name string) (serial string) {
		b.Helper()
		c, err := system.Certificate(name, "127.0.0.1")
		if err != nil {
			b.Fatal(err)
		}
		return c.Leaf.SerialNumber.String()
	}
	name := "kubelet-" + b.node
	first := write(name)
	b.start("--tls-cert-file="+system.Dir+"/"+name+".crt", "--tls-private-key-file="+system.Dir+"/"+name+".key")
	port := b.nodeObject().Status.DaemonEndpoints.KubeletEndpoint.Port
	served := func() string {
		b.Helper()
		conn, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(port)), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // its serial is compared
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	if s := served(); s != first {
		b.Errorf("serial %s is served, want %s", s, first)
	}
	second := write(name)
	b.must(90*time.Second, "the new certificate is served", func() error {
		if s := served(); s != second {
			return fmt.Errorf("serial %s is served, want %s", s, second)
		}
		return nil
	})
	if err := b.agent().Process.Err(); err != nil {
		b.Error(err)
	}
}

// The cloud's clock is ten minutes before or behind the agent's. Age decides
// nothing: pods start, end, are replaced and survive a restart of the agent as
// ever.
func TestC32ClockSkew(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]time.Duration{"ahead": 10 * time.Minute, "behind": -10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			onBothClouds(t, cloudOptions{clock: skewedClock{by: by}}, func(b *bed) {
				b.start()
				kept, deleted, lost := b.pod("kept"), b.pod("deleted"), b.pod("lost")
				b.waitRunning(kept, deleted, lost)
				b.ends["done"] = corev1.PodSucceeded
				b.pod("done", image("exit:0"), policy(corev1.RestartPolicyNever))
				b.wait("done", "has ended", phase(corev1.PodSucceeded))
				b.delete(deleted)
				b.waitGroups(3)
				b.agent().Process.Kill()
				b.forget(lost)
				b.start()
				b.waitGroups(2)
				b.inject(fault{op: create, cut: true, after: true})
				b.waitRunning(b.pod("after"))
				b.sweeps(2)
				if g := b.group(kept); g.Phase() != sim.Running {
					b.Errorf("the group of the pod that stays is %s", g.Phase())
				}
				b.untouched()
				if n := b.made(); n != 5 {
					b.Errorf("%d groups were made for 5 pods", n)
				}
			})
		})
	}
}
