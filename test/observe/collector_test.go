package observe

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// spanData is what the collector has of one.
type spanData struct {
	service, name, id, parent string
	attributes                map[string]string
	start, end                time.Time
}

// collector takes traces by OTLP: over HTTP, as our programs send them, and over gRPC,
// as the API server does.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer

	// HTTP is a base URL, GRPC host and port.
	HTTP, GRPC string

	http *http.Server
	grpc *grpc.Server
	done sync.WaitGroup

	mu     sync.Mutex
	traces map[string][]spanData
	raw    [][]byte
}

func startCollector() (*collector, error) {
	c := &collector{traces: map[string][]spanData{}, grpc: grpc.NewServer()}
	overHTTP, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	overGRPC, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c.HTTP, c.GRPC = "http://"+overHTTP.Addr().String(), overGRPC.Addr().String()
	collectorv1.RegisterTraceServiceServer(c.grpc, c)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", c.serve)
	c.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	c.done.Go(func() { _ = c.http.Serve(overHTTP) })
	c.done.Go(func() { _ = c.grpc.Serve(overGRPC) })
	return c, nil
}

func (c *collector) stop() {
	_ = c.http.Close()
	c.grpc.Stop()
	c.done.Wait()
}

func (c *collector) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var req collectorv1.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.take(&req)
	c.mu.Lock()
	c.raw = append(c.raw, body)
	c.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-protobuf") // an empty answer is a full success
}

// Export takes spans over gRPC.
func (c *collector) Export(_ context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.take(req)
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

func (c *collector) take(req *collectorv1.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range req.GetResourceSpans() {
		service := texts(resource.GetResource().GetAttributes())["service.name"]
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				id := hex.EncodeToString(s.GetTraceId())
				c.traces[id] = append(c.traces[id], spanOf(service, s))
			}
		}
	}
}

func spanOf(service string, s *tracev1.Span) spanData {
	return spanData{
		service: service, name: s.GetName(), id: hex.EncodeToString(s.GetSpanId()), parent: hex.EncodeToString(s.GetParentSpanId()),
		attributes: texts(s.GetAttributes()),
		start:      time.Unix(0, int64(s.GetStartTimeUnixNano())), end: time.Unix(0, int64(s.GetEndTimeUnixNano())), //nolint:gosec // of this century
	}
}

func texts(attributes []*commonv1.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range attributes {
		m[a.GetKey()] = a.GetValue().GetStringValue()
	}
	return m
}

// find returns a span of a trace.
func (c *collector) find(trace, service, name string) (spanData, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := c.traces[trace]
	if i := slices.IndexFunc(spans, func(s spanData) bool { return s.service == service && s.name == name }); i >= 0 {
		return spans[i], nil
	}
	var known []string
	for _, s := range spans {
		known = append(known, s.service+": "+s.name)
	}
	return spanData{}, fmt.Errorf("the trace has no span %q of %s, only %q", name, service, known)
}

// has tells whether any trace has such a span.
func (c *collector) has(service, name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, spans := range c.traces {
		if slices.ContainsFunc(spans, func(s spanData) bool { return s.service == service && s.name == name }) {
			return true
		}
	}
	return false
}

// byID returns a span of a trace by its ID.
func (c *collector) byID(trace, id string) (spanData, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := c.traces[trace]
	if i := slices.IndexFunc(spans, func(s spanData) bool { return s.id == id }); i >= 0 {
		return spans[i], true
	}
	return spanData{}, false
}

// bytes are all that our programs have sent.
func (c *collector) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Concat(c.raw...)
}
