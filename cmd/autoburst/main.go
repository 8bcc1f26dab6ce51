// Command autoburst is the policy side of Autoburst: the admission webhook, on
// every replica, and the policy controller, on the elected one.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/autoburst/autoburst/cmd/startup"
	"github.com/autoburst/autoburst/policy/controller"
	"github.com/autoburst/autoburst/policy/metric"
	"github.com/autoburst/autoburst/policy/store"
)

// version is set by the linker.
var version = "v0.0.0-dev"

func main() {
	os.Exit(run(os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run is the program; the result is the code with which it ends.
func run(args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, getenv, stdout)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		complain(stderr, err)
		return 2
	case o.version:
		_, _ = fmt.Fprintln(stdout, version)
		return 0
	}
	logger := logr.FromSlogHandler(o.logger(stderr))
	ctrl.SetLogger(logger)
	klog.SetLogger(logger)
	if err := serve(ctrl.SetupSignalHandler(), o, logger); err != nil {
		complain(stderr, err)
		return 1
	}
	return 0
}

// complain prints each line of an error as a line of its own.
func complain(w io.Writer, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(w, "autoburst: %s\n", line)
	}
}

// serve works until the context ends.
func serve(ctx context.Context, o options, logger logr.Logger) error {
	if err := startup.CheckFree(ctx, o.addresses()...); err != nil {
		return err
	}
	cfg, err := startup.Config(o.kubeconfig)
	if err != nil {
		return err
	}
	cfg.UserAgent = "autoburst/" + version
	cfg.QPS = -1 // the API server's priority and fairness limits, not the client
	if _, err := startup.Check(ctx, cfg, o.needs()); errors.Is(err, context.Canceled) {
		return nil // told to stop
	} else if err != nil {
		return err
	}

	tracer, stopTracing, err := startTracing(ctx, o, logger)
	if err != nil {
		return err
	}
	defer stopTracing()
	var serving certificate // nil where no webhook serves
	mgr, err := newManager(cfg, o, logger, func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return serving.GetCertificate(hello)
	})
	if err != nil {
		return err
	}
	recorder := mgr.GetEventRecorder("autoburst")
	if o.admission == admissionWebhook {
		if serving, err = newCertificate(cfg, o, logger, func(regarding *corev1.ObjectReference, eventType, reason, message string) {
			recorder.Eventf(regarding, nil, eventType, reason, "Serve", "%s", message)
		}); err != nil {
			return err
		}
	}
	if err := metric.BuildInfo(version).Register(metrics.Registry); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	view := store.New(store.Options{
		Excluded: o.excluded(), AdmissionByPolicy: o.admission == admissionPolicy, Logger: logger.WithName("store"),
	})
	if err := view.Attach(ctx, mgr.GetCache()); err != nil {
		return err
	}
	if err := attachSwitch(ctx, mgr, cfg, o, view); err != nil {
		return err
	}
	if err := attachLease(ctx, mgr, cfg, o, view); err != nil {
		return err
	}
	held, limits, err := attachLimits(ctx, mgr, cfg, o, view)
	if err != nil {
		return err
	}
	if err := mgr.Add(view); err != nil {
		return fmt.Errorf("adding %T: %w", view, err)
	}
	if err := addChecks(mgr, view); err != nil {
		return err
	}
	writes := controller.Options{
		View: view, Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: recorder, Registerer: metrics.Registry,
		Limits: limits, Tracer: tracer,
	}
	if o.admission == admissionPolicy {
		writes.Admission = &controller.Admission{Name: o.policyName, Policies: mgr.GetAPIReader()}
	} else if err := serveWebhook(mgr, o, logger, tracer, view, serving, held); err != nil {
		return err
	}
	if err := controller.AddTo(mgr, writes); err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	return nil
}
