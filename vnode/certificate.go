package vnode

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"net"
	"sync"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/certificate"
)

// signedByCluster holds a serving certificate that the cluster's signer for
// kubelets has made, and asks for the next one in time. The keys are in memory
// only. Until somebody has approved the first request, the agent signs for itself.
type signedByCluster struct {
	manager   certificate.Manager
	meanwhile *renewed
}

// newSignedByCluster begins to ask for certificates until ctx ends.
func newSignedByCluster(ctx context.Context, client kubernetes.Interface, node NodeSettings, meanwhile *renewed, log *slog.Logger, metrics *Metrics) (*signedByCluster, error) {
	manager, err := certificate.NewManager(&certificate.Config{
		Ctx: &ctx, Name: "serving certificate",
		ClientsetFn: func(*tls.Certificate) (kubernetes.Interface, error) { return client, nil },
		SignerName:  certificatesv1.KubeletServingSignerName,
		GetUsages:   certificate.DefaultKubeletServingGetUsages,
		// What the signer takes from a kubelet, and from nobody else.
		Template: &x509.CertificateRequest{
			Subject:  pkix.Name{CommonName: "system:node:" + node.Name, Organization: []string{"system:nodes"}},
			DNSNames: []string{node.Name}, IPAddresses: []net.IP{net.ParseIP(node.InternalIP)},
		},
		CertificateStore: &memoryStore{log: log, metrics: metrics},
	})
	if err != nil {
		return nil, fmt.Errorf("serving certificates from the cluster: %w", err)
	}
	log.Info("asking the cluster for a serving certificate of the kubelet API; until the request is approved, the API shows one that the agent has signed itself",
		"signer", certificatesv1.KubeletServingSignerName, "user", "system:node:"+node.Name,
		"approve", "kubectl get csr; kubectl certificate approve NAME")
	manager.Start()
	return &signedByCluster{manager, meanwhile}, nil
}

func (s *signedByCluster) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := s.manager.Current(); c != nil {
		return c, nil
	}
	return s.meanwhile.get(hello)
}

// memoryStore keeps the present certificate and its key.
type memoryStore struct {
	log     *slog.Logger
	metrics *Metrics

	mu      sync.Mutex
	present *tls.Certificate
}

var _ certificate.Store = (*memoryStore)(nil)

// Current returns the present certificate.
func (s *memoryStore) Current() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.present == nil {
		none := certificate.NoCertKeyError("there is no serving certificate yet")
		return nil, &none
	}
	return s.present, nil
}

// Update replaces it.
func (s *memoryStore) Update(cert, key []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key) // with the leaf, which the manager reads
	if err != nil {
		return nil, fmt.Errorf("the signed serving certificate: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present = &pair
	s.metrics.certificateExpiry.Set(float64(pair.Leaf.NotAfter.Unix()))
	s.log.Info("serving certificate received from the cluster", "until", pair.Leaf.NotAfter)
	return &pair, nil
}
