package main

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

func environment(namespace string) func(string) string {
	return func(name string) string {
		if name == "POD_NAMESPACE" {
			return namespace
		}
		return ""
	}
}

func TestBadOptions(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown flag":       {[]string{"--nonsense"}, "nonsense"},
		"an argument":        {[]string{"start"}, `"start"`},
		"not a number":       {[]string{"--webhook-port=https"}, "webhook-port"},
		"port out of range":  {[]string{"--webhook-port=70000"}, "--webhook-port is 70000"},
		"namespace":          {[]string{"--namespace=A_B"}, "--namespace"},
		"excluded namespace": {[]string{"--excluded-namespaces=a,B_"}, "--excluded-namespaces has \"B_\""},
		"no namespace":       {[]string{"--namespace="}, "--namespace"},
		"tracing endpoint":   {[]string{"--tracing-endpoint=collector:4318"}, "--tracing-endpoint"},
		"password in it":     {[]string{"--tracing-endpoint=http://user:secret@collector"}, "--tracing-endpoint"},
		"tracing ratio":      {[]string{"--tracing-sampling-ratio=2"}, "--tracing-sampling-ratio"},
		"log level":          {[]string{"--log-level=loud"}, "--log-level"},
		"log format":         {[]string{"--log-format=xml"}, "--log-format"},
		"URL without TLS":    {[]string{"--webhook-url=http://10.0.0.1"}, "--webhook-url"},
		"URL without a host": {[]string{"--webhook-url=https://"}, "--webhook-url"},
		"DNS name":           {[]string{"--webhook-dns-names=a.svc,b_c"}, `"b_c"`},
		"Secret":             {[]string{"--ca-secret-name=A B"}, "--ca-secret-name"},
		"switch":             {[]string{"--switch-name=Off_"}, "--switch-name"},
		"admission":          {[]string{"--admission=both"}, "--admission"},
		"admission policy":   {[]string{"--mutating-admission-policy-name=A"}, "--mutating-admission-policy-name"},
		"configuration":      {[]string{"--webhook-configuration-name="}, "--webhook-configuration-name"},
		"metrics address":    {[]string{"--metrics-bind-address=8080"}, "--metrics-bind-address"},
		"TLS Secret":         {[]string{"--tls-secret-name=A B"}, "--tls-secret-name"},
		"Certificate alone":  {[]string{"--tls-certificate-name=a"}, "needs --tls-secret-name"},
		"nobody's bundle":    {[]string{"--write-ca-bundle=false"}, "needs --tls-secret-name"},
		"long certificate":   {[]string{"--certificate-lifetime=2000h"}, "at most a sixth of --ca-lifetime"},
		"short certificate":  {[]string{"--certificate-lifetime=20s"}, "three times --certificate-check-interval"},
		"seldom checked":     {[]string{"--certificate-check-interval=1h"}, "--certificate-check-interval is 1h0m0s"},
		"health address":     {[]string{"--health-probe-bind-address=nowhere"}, "--health-probe-bind-address"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseOptions(c.args, environment("autoburst"), io.Discard)
			if err == nil {
				t.Fatal("the options were taken")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error %q does not name %s", err, c.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has more than one line: %q", err)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for name, c := range map[string]struct {
		args     []string
		dnsNames []string
		ips      []net.IP
		level    slog.Level
	}{
		"defaults": {dnsNames: []string{"autoburst-webhook.bursts.svc"}},
		"outside the cluster": {
			args:     []string{"--webhook-url=https://127.0.0.1:9443", "--log-level=debug"},
			dnsNames: []string{"autoburst-webhook.bursts.svc"}, ips: []net.IP{net.ParseIP("127.0.0.1")}, level: slog.LevelDebug,
		},
		"names and addresses": {
			args:     []string{"--webhook-dns-names=hook.x.svc, hook.x.svc.cluster.local,10.0.0.1"},
			dnsNames: []string{"hook.x.svc", "hook.x.svc.cluster.local"}, ips: []net.IP{net.ParseIP("10.0.0.1")},
		},
		"the last one counts": {
			args: []string{"--webhook-dns-names=a.svc", "--webhook-dns-names=b.svc"}, dnsNames: []string{"b.svc"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := parseOptions(c.args, environment("bursts"), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if o.namespace != "bursts" {
				t.Errorf("namespace is %q, want that of POD_NAMESPACE", o.namespace)
			}
			if diff := cmp.Diff(c.dnsNames, o.dnsNames); diff != "" {
				t.Errorf("DNS names (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.ips, o.ips); diff != "" {
				t.Errorf("IP addresses (-want +got):\n%s", diff)
			}
			if o.level != c.level {
				t.Errorf("log level is %v, want %v", o.level, c.level)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	var usage strings.Builder
	_, err := parseOptions([]string{"--help"}, environment(""), &usage)
	if !errors.Is(err, pflag.ErrHelp) {
		t.Errorf("error is %v, want pflag.ErrHelp", err)
	}
	for _, name := range []string{"kubeconfig", "namespace", "webhook-port", "leader-elect"} {
		if !strings.Contains(usage.String(), "-"+name) {
			t.Errorf("the help does not tell of --%s", name)
		}
	}
}
