package tracing

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"
	testclock "k8s.io/utils/clock/testing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOff(t *testing.T) {
	tracer, stop, err := Start(t.Context(), Options{Ratio: 1})
	if tracer != nil || err != nil {
		t.Fatalf("tracer %v, %v", tracer, err)
	}
	ctx, span := Continue(t.Context(), tracer, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "work")
	if ctx != t.Context() || span.IsRecording() || Carried(ctx) != "" {
		t.Error("a span is recorded where nothing is traced")
	}
	span.End()
	if err := stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestContinue(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tracer := trace.NewTracerProvider(trace.WithSyncer(exporter)).Tracer("test")
	const id = "0af7651916cd43dd8448eb211c80319c"
	for name, test := range map[string]struct {
		annotation string
		want       bool
	}{
		"recorded":        {"00-" + id + "-b7ad6b7169203331-01", true},
		"not recorded":    {"00-" + id + "-b7ad6b7169203331-00", false},
		"none":            {"", false},
		"no trace":        {"00-00000000000000000000000000000000-b7ad6b7169203331-01", false},
		"written by hand": {"please", false},
	} {
		t.Run(name, func(t *testing.T) {
			exporter.Reset()
			ctx, span := Continue(t.Context(), tracer, test.annotation, "work")
			carried := Carried(ctx)
			span.End()
			spans := exporter.GetSpans()
			if (len(spans) == 1) != test.want || (carried != "") != test.want {
				t.Fatalf("%d spans, carried %q", len(spans), carried)
			}
			if test.want && (spans[0].Parent.SpanID().String() != "b7ad6b7169203331" || !strings.HasPrefix(carried, "00-"+id+"-") || !strings.HasSuffix(carried, "-01")) {
				t.Errorf("the span %+v carries %q", spans[0], carried)
			}
		})
	}
}

// TestCollectorDown: whoever makes spans is not held up, little is said of it, and the
// program ends in time.
func TestCollectorDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var warned atomic.Int32
	tracer, stop, err := Start(t.Context(), Options{Endpoint: "http://" + address, Ratio: 1, Warn: func(error) { warned.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for range 20 * queued {
		_, span := tracer.Start(t.Context(), "work")
		span.End()
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("making spans took %s", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	begun = time.Now()
	_ = stop(ctx) // with or without an error, as the spans are lost by then
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("the end took %s", took)
	}
	if n := warned.Load(); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
}

func TestPathOfTheCollector(t *testing.T) {
	paths := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.Path }))
	defer server.Close()
	for base, want := range map[string]string{"": "/v1/traces", "/": "/v1/traces", "/otlp": "/otlp/v1/traces"} {
		tracer, stop, err := Start(t.Context(), Options{Endpoint: server.URL + base, Ratio: 1})
		if err != nil {
			t.Fatal(err)
		}
		_, span := tracer.Start(t.Context(), "work")
		span.End()
		if err := stop(t.Context()); err != nil {
			t.Error(err)
		}
		if got := <-paths; got != want {
			t.Errorf("with the path %q spans go to %s, want %s", base, got, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestWarningsAreSeldom(t *testing.T) {
	clk := testclock.NewFakePassiveClock(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	var said []string
	s := &seldom{clock: clk, warn: func(err error) { said = append(said, err.Error()) }}
	for i := range 25 {
		s.Handle(fmt.Errorf("failure %d", i))
		clk.SetTime(clk.Now().Add(time.Minute))
	}
	if got := strings.Join(said, ", "); got != "failure 0, failure 10, failure 20" {
		t.Errorf("said: %s", got)
	}
}
