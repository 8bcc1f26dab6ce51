package main

import (
	"os"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
)

// userAgent tells the requests of this program from others.
func userAgent() string { return "kubectl-autoburst/" + version }

// connect makes the clients for the cluster that the flags, the kubeconfig or, in a
// pod, its ServiceAccount name. It asks the API server for nothing.
func connect(config *genericclioptions.ConfigFlags) (*installation.Clients, error) {
	cfg, err := restConfig(config)
	if err != nil {
		return nil, err
	}
	cfg.WarningHandler = rest.NoWarnings{} // dry runs have some, and they are nobody's fault here
	c, err := installation.Connect(cfg, userAgent())
	if err != nil {
		return nil, usagef("reading the kubeconfig: %w", err)
	}
	return c, nil
}

func restConfig(config *genericclioptions.ConfigFlags) (*rest.Config, error) {
	cfg, err := config.ToRESTConfig()
	if err != nil {
		return nil, usagef("reading the kubeconfig: %w", err)
	}
	// Without any cluster, client-go tries a port of this machine.
	loader := config.ToRawKubeConfigLoader()
	raw, err := loader.RawConfig()
	if err == nil && len(raw.Clusters) == 0 && ptr.Deref(config.APIServer, "") == "" && os.Getenv("KUBERNETES_MASTER") == "" && cfg.BearerTokenFile == "" {
		return nil, usagef("there is no cluster to speak to: no kubeconfig was found in %s; set KUBECONFIG, --kubeconfig or --server", strings.Join(loader.ConfigAccess().GetLoadingPrecedence(), ", "))
	}
	return cfg, nil
}

// addReleaseNamespace adds the flag by which commands that look for Autoburst are told
// where it is.
func addReleaseNamespace(fs *pflag.FlagSet, to *string) {
	fs.StringVar(to, "release-namespace", "", "Where Autoburst is installed; looked for by default.")
}
