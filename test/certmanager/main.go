// Command certmanager is cert-manager as far as the tests need it: the controllers of
// Certificates, CertificateRequests and of the issuers CA and SelfSigned, cainjector and
// the webhook, each a program by its first argument. Beside that, two things differ from
// what its project publishes: nothing is elected, and the webhook listens on loopback.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	logf "github.com/cert-manager/cert-manager/pkg/logs"
)

// settings of the programs.
type settings struct {
	kubeconfig string
	// namespace holds what belongs to no namespace, such as the Secrets of
	// ClusterIssuers, and the authority of the webhook.
	namespace string
	port      int
}

var programs = map[string]func(context.Context, settings) error{
	"controller": runController,
	"cainjector": runInjector,
	"webhook":    runWebhook,
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "certmanager:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 || programs[args[0]] == nil {
		return errors.New("the first argument must be controller, cainjector or webhook")
	}
	var s settings
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&s.kubeconfig, "kubeconfig", "", "kubeconfig file")
	flags.StringVar(&s.namespace, "namespace", "cert-manager", "namespace of cert-manager")
	flags.IntVar(&s.port, "port", 0, "port of the webhook")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	ctrl.SetLogger(klog.Background())
	return programs[args[0]](logf.NewContext(ctrl.SetupSignalHandler(), klog.Background(), args[0]), s)
}
