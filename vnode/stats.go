package vnode

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"
)

// statsDeadline bounds how long the answer to one request may take to send.
const statsDeadline = 10 * time.Second

// timely bounds the time that a request for figures may take: they are in memory, so
// only the client can be slow.
func timely(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		// Only a writer that is not of a server knows no deadlines.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(statsDeadline))
		if strings.HasPrefix(req.URL.Path, "/stats/") {
			w.Header().Set("Content-Type", "application/json")
		}
		next.ServeHTTP(w, req)
	})
}

// figures are what the measurer knows; asking for them keeps it at work.
func (a *Agent) figures() (*measurer, error) {
	t := a.present.Load()
	if t == nil { // it led when the request came
		return nil, fmt.Errorf("this agent does not lead virtual node %s any more; try again", a.cfg.Node.Name)
	}
	t.measurer.wanted()
	return t.measurer, nil
}

// statsSummary serves /stats/summary: the pods with the containers that run and, where
// the cloud has told it, what they use.
func (a *Agent) statsSummary(context.Context) (*stats.Summary, error) {
	m, err := a.figures()
	if err != nil {
		return nil, err
	}
	summary, _ := m.summary(a.cfg.Node.Name)
	return summary, nil
}

// summary is what is known, in the kubelet's types, and the same pods as they are known.
// What is not known is left out.
func (m *measurer) summary(node string) (*stats.Summary, []measured) {
	pods, total, begun := m.snapshot()
	s := &stats.Summary{Node: stats.NodeStats{NodeName: node, StartTime: metav1.NewTime(begun)}, Pods: []stats.PodStats{}}
	if total.known {
		s.Node.CPU = &stats.CPUStats{Time: metav1.NewTime(total.at), UsageCoreNanoSeconds: ptr.To(total.total)}
	}
	rate, memory := sum{}, sum{}
	for _, p := range pods {
		pod := p.stats()
		for _, c := range pod.Containers {
			if c.CPU != nil {
				rate.add(c.CPU.UsageNanoCores, c.CPU.Time)
			}
			if c.Memory != nil {
				memory.add(c.Memory.WorkingSetBytes, c.Memory.Time)
			}
		}
		s.Pods = append(s.Pods, pod)
	}
	if s.Node.CPU != nil {
		s.Node.CPU.UsageNanoCores = rate.value
	}
	if memory.value != nil {
		s.Node.Memory = &stats.MemoryStats{Time: memory.at, WorkingSetBytes: memory.value}
	}
	return s, pods
}

// sum adds up what is known.
type sum struct {
	value *uint64
	at    metav1.Time // of the newest part
	parts int
}

func (s *sum) add(part *uint64, at metav1.Time) {
	if part == nil {
		return
	}
	s.parts++
	s.value = ptr.To(ptr.Deref(s.value, 0) + *part)
	if at.After(s.at.Time) {
		s.at = at
	}
}

// stats are the pod's in the kubelet's form. The pod as a whole has only what is known
// of each of its containers: a part of it would pass for all.
func (p *measured) stats() stats.PodStats {
	pod := stats.PodStats{PodRef: stats.PodReference{Name: p.pod.Name, Namespace: p.pod.Namespace, UID: string(p.pod.UID)}}
	if p.pod.Status.StartTime != nil {
		pod.StartTime = *p.pod.Status.StartTime
	}
	rate, memory := sum{}, sum{}
	for _, name := range sorted(p.started) {
		c := stats.ContainerStats{Name: name, StartTime: metav1.NewTime(p.started[name])}
		if s, ok := p.containers[name]; ok {
			at := metav1.NewTime(s.At)
			if s.CPUNanoseconds != nil {
				c.StartTime = metav1.NewTime(s.since)
				c.CPU = &stats.CPUStats{Time: at, UsageCoreNanoSeconds: s.CPUNanoseconds, UsageNanoCores: s.CPUNanoCores}
				rate.add(s.CPUNanoCores, at)
			}
			if s.WorkingSetBytes != nil {
				c.Memory = &stats.MemoryStats{
					Time: at, WorkingSetBytes: s.WorkingSetBytes, UsageBytes: s.UsageBytes, RSSBytes: s.RSSBytes, AvailableBytes: s.AvailableBytes,
				}
				memory.add(s.WorkingSetBytes, at)
			}
		}
		pod.Containers = append(pod.Containers, c)
	}
	if p.whole {
		pod.CPU = &stats.CPUStats{Time: metav1.NewTime(p.total.at), UsageCoreNanoSeconds: ptr.To(p.total.total)}
		if rate.parts == len(p.started) {
			pod.CPU.UsageNanoCores = rate.value
		}
	}
	if memory.parts == len(p.started) {
		pod.Memory = &stats.MemoryStats{Time: memory.at, WorkingSetBytes: memory.value}
	}
	return pod
}

// resourceMetrics serves /metrics/resource.
func (a *Agent) resourceMetrics(context.Context) ([]*dto.MetricFamily, error) {
	m, err := a.figures()
	if err != nil {
		return nil, err
	}
	// A registry of its own sorts, and finds what cannot be served.
	registry := prometheus.NewRegistry()
	r := resources{failed: m.failing()}
	r.summary, r.pods = m.summary(a.cfg.Node.Name)
	if err := registry.Register(r); err != nil {
		return nil, fmt.Errorf("figures of virtual node %s: %w", a.cfg.Node.Name, err)
	}
	families, err := registry.Gather()
	if err != nil {
		return nil, fmt.Errorf("figures of virtual node %s: %w", a.cfg.Node.Name, err)
	}
	for _, f := range families {
		for _, metric := range f.Metric {
			podSecond(metric.Label)
		}
	}
	return families, nil
}

// podSecond puts the pod's name where the provider suite of virtual-kubelet looks for
// it in metrics of pods and containers: in second place.
func podSecond(labels []*dto.LabelPair) {
	if i := slices.IndexFunc(labels, func(l *dto.LabelPair) bool { return l.GetName() == "pod" }); i > 1 {
		labels[1], labels[i] = labels[i], labels[1]
	}
}

// failing tells whether the last call for measurements has failed.
func (m *measurer) failing() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed != nil
}

// The metrics are the kubelet's, by name and labels.
var (
	podLabels       = []string{"pod", "namespace"}
	containerLabels = []string{"container", "pod", "namespace"}

	nodeCPU         = resourceDesc("node_cpu_usage_seconds_total", "CPU time that the containers of the node have used, in core-seconds.", nil)
	nodeMemory      = resourceDesc("node_memory_working_set_bytes", "Working set of the node's containers, in bytes.", nil)
	podCPU          = resourceDesc("pod_cpu_usage_seconds_total", "CPU time that the pod has used, in core-seconds.", podLabels)
	podMemory       = resourceDesc("pod_memory_working_set_bytes", "Working set of the pod, in bytes.", podLabels)
	containerCPU    = resourceDesc("container_cpu_usage_seconds_total", "CPU time that the container has used, in core-seconds.", containerLabels)
	containerMemory = resourceDesc("container_memory_working_set_bytes", "Working set of the container, in bytes.", containerLabels)
	containerStart  = resourceDesc("container_start_time_seconds", "Time at which the container's CPU time was zero, in seconds since the epoch.", containerLabels)
	scrapeError     = resourceDesc("scrape_error", "1 if the cloud has not answered the last call for measurements, else 0.", nil)
	resourceError   = resourceDesc("resource_scrape_error", "1 if the cloud has not answered the last call for measurements, else 0.", nil)
)

func resourceDesc(name, help string, labels []string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// resources shows a summary as the kubelet's resource metrics.
type resources struct {
	summary *stats.Summary
	pods    []measured // those of the summary
	failed  bool
}

// Describe names the metrics.
func (r resources) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		nodeCPU, nodeMemory, podCPU, podMemory, containerCPU, containerMemory, containerStart, scrapeError, resourceError,
	} {
		ch <- d
	}
}

// Collect shows what the summary holds, dated by when it was measured.
//
// A counter of which the cloud has told nothing yet was zero when its container
// started, and is shown so, at that time. metrics-server leaves out a pod that has
// such a container, instead of taking the others for the whole.
func (r resources) Collect(ch chan<- prometheus.Metric) {
	failed := 0.0
	if r.failed {
		failed = 1
	}
	ch <- prometheus.MustNewConstMetric(scrapeError, prometheus.GaugeValue, failed)
	ch <- prometheus.MustNewConstMetric(resourceError, prometheus.GaugeValue, failed)
	if c := r.summary.Node.CPU; c != nil {
		ch <- cpuSeconds(nodeCPU, c)
	}
	if m := r.summary.Node.Memory; m != nil {
		ch <- workingSet(nodeMemory, m)
	}
	for i := range r.summary.Pods {
		p := &r.summary.Pods[i]
		name, namespace := p.PodRef.Name, p.PodRef.Namespace
		for _, c := range p.Containers {
			if c.StartTime.Unix() > 0 {
				ch <- prometheus.MustNewConstMetric(containerStart, prometheus.GaugeValue, float64(c.StartTime.UnixNano())/1e9, c.Name, name, namespace)
			}
			cpu := c.CPU
			if !r.pods[i].told[c.Name] {
				cpu = zero(c.StartTime)
			}
			if cpu != nil {
				ch <- cpuSeconds(containerCPU, cpu, c.Name, name, namespace)
			}
			if c.Memory != nil {
				ch <- workingSet(containerMemory, c.Memory, c.Name, name, namespace)
			}
		}
		cpu := p.CPU
		if !r.pods[i].total.known {
			cpu = zero(p.StartTime)
		}
		if cpu != nil {
			ch <- cpuSeconds(podCPU, cpu, name, namespace)
		}
		if p.Memory != nil {
			ch <- workingSet(podMemory, p.Memory, name, namespace)
		}
	}
}

// zero is a counter at its start, nil where that is not known.
func zero(start metav1.Time) *stats.CPUStats {
	if start.Unix() <= 0 {
		return nil
	}
	return &stats.CPUStats{Time: start, UsageCoreNanoSeconds: ptr.To[uint64](0)}
}

func cpuSeconds(d *prometheus.Desc, c *stats.CPUStats, labels ...string) prometheus.Metric {
	used := float64(ptr.Deref(c.UsageCoreNanoSeconds, 0)) / float64(time.Second)
	return prometheus.NewMetricWithTimestamp(c.Time.Time, prometheus.MustNewConstMetric(d, prometheus.CounterValue, used, labels...))
}

func workingSet(d *prometheus.Desc, m *stats.MemoryStats, labels ...string) prometheus.Metric {
	used := float64(ptr.Deref(m.WorkingSetBytes, 0))
	return prometheus.NewMetricWithTimestamp(m.Time.Time, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, used, labels...))
}
