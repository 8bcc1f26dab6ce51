package burstable

import (
	"strings"
	"testing"
)

func TestBandwidth(t *testing.T) {
	const refused = -1
	tests := map[string]struct {
		value   string
		inBytes bool
		want    int64
	}{
		"bits":                   {"10M", false, 1_250_000},
		"bits without a unit":    {"1001", false, 126},
		"binary bits":            {"1Mi", false, 131_072},
		"the least":              {"1k", false, 125},
		"too few":                {"999", false, refused},
		"the most":               {"1P", false, 125_000_000_000_000},
		"too many":               {"2P", false, refused},
		"nothing":                {"", false, refused},
		"below zero":             {"-10M", false, refused},
		"ACK's unit":             {"40MB", false, refused},
		"words":                  {"fast", false, refused},
		"bytes":                  {"40M", true, 40_000_000},
		"bytes with their name":  {"10MB", true, 10_000_000},
		"bytes alone":            {"4096", true, 4096},
		"bytes, a B":             {"4096B", true, 4096},
		"kilobytes":              {"1.5K", true, 1500},
		"gigabytes":              {"2GB", true, 2_000_000_000},
		"terabytes":              {"1T", true, 1_000_000_000_000},
		"no bytes":               {"0", true, refused},
		"too many bytes":         {"1001T", true, refused},
		"a unit of Kubernetes'":  {"1Mi", true, refused},
		"bytes below zero":       {"-1M", true, refused},
		"a number of any length": {strings.Repeat("9", 400), true, refused},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, problem := bytesPerSecond(tt.value, tt.inBytes)
			if problem != "" {
				got = refused
			}
			if got != tt.want {
				t.Errorf("%q is %d bytes in a second (%s), want %d", tt.value, got, problem, tt.want)
			}
		})
	}
}

func TestWhoBoundsBandwidth(t *testing.T) {
	bytes, bits := allows(ECINode{BandwidthInBytes: true}), allows(ECINode{})
	unbounded := func(c *Capabilities) { c.Provider, c.Features = "aci", without(Bandwidth).Features }
	tests := map[string]struct {
		value string
		edit  func(*Capabilities)
		want  string // in the one refusal
	}{
		"bits":              {"10M", bits, ""},
		"bytes":             {"10MB", bytes, ""},
		"bytes, read as":    {"10MB", bits, "write bits in a second"},
		"ill-formed":        {"ten", bytes, "write bytes in a second"},
		"no such cloud":     {"10M", unbounded, `The cloud "aci" does not bound the traffic of a pod.`},
		"ill-formed, there": {"ten", unbounded, "does not bound"},
		"an old agent":      {"10M", func(c *Capabilities) { c.Features = []Feature{ECIAnnotations} }, "does not bound"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, key := range []string{"kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"} {
				caps := eciCapabilities()
				tt.edit(&caps)
				got := Check(annotated("1", "1Gi", key, tt.value), caps)
				switch {
				case tt.want == "" && len(got) == 0:
				case tt.want != "" && len(got) == 1 && got[0].Field == "metadata.annotations["+key+"]" && strings.Contains(got[0].Message, tt.want):
				default:
					t.Errorf("%s: refused %v, want %q", key, got, tt.want)
				}
			}
		})
	}
}

// A bound of a policy's own is right where any node takes it: which node it will be, and
// how that reads it, is not known.
func TestBandwidthOfAnyNode(t *testing.T) {
	for value, want := range map[string]int64{"10M": 1_250_000, "10MB": 10_000_000, "1Mi": 131_072} {
		s, wrong := ECI(map[string]string{ingressBandwidth: value}, &Capabilities{})
		if len(wrong) > 0 || s.IngressBandwidth != want {
			t.Errorf("%s is %d, %v; want %d", value, s.IngressBandwidth, wrong, want)
		}
	}
	if _, wrong := ECI(map[string]string{egressBandwidth: "ten"}, &Capabilities{}); len(wrong) != 1 {
		t.Errorf("refused %v, want one", wrong)
	}
}
