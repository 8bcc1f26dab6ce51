package tracing

import "github.com/spf13/pflag"

// AddFlags adds the flags of the settings that an operator chooses. The endpoint is
// that of OTEL_EXPORTER_OTLP_ENDPOINT by default.
func (o *Options) AddFlags(fs *pflag.FlagSet, getenv func(string) string) {
	fs.StringVar(&o.Endpoint, "tracing-endpoint", getenv("OTEL_EXPORTER_OTLP_ENDPOINT"),
		"base `URL` of a collector that takes OpenTelemetry traces by OTLP over HTTP, such as http://collector:4318; empty traces nothing (OTEL_EXPORTER_OTLP_ENDPOINT)")
	fs.Float64Var(&o.Ratio, "tracing-sampling-ratio", DefaultRatio,
		"part of the traces that begin here and are recorded, from 0 to 1; one that the API server has begun is recorded if the API server records it")
}
