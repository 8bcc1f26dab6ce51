package playground

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cloud/aci"
)

// issuer is the API server's, see package cluster.
const issuer = "https://kubernetes.default.svc.cluster.local"

// Federation is what an administrator of Entra sets up so that a ServiceAccount of
// the chart's namespace can sign in.
func (p *Playground) Federation(serviceAccount string) (aci.FederatedCredential, error) {
	text, err := os.ReadFile(p.file("sa.crt"))
	if err != nil {
		return aci.FederatedCredential{}, fmt.Errorf("reading the key of ServiceAccount tokens: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return aci.FederatedCredential{}, fmt.Errorf("the key of ServiceAccount tokens is not PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return aci.FederatedCredential{}, fmt.Errorf("reading the key of ServiceAccount tokens: %w", err)
	}
	return aci.FederatedCredential{
		Issuer: issuer, Subject: "system:serviceaccount:" + Namespace + ":" + serviceAccount,
		Keys: []crypto.PublicKey{certificate.PublicKey},
	}, nil
}

// projectTokens writes the ServiceAccount tokens that a pod projects, as a kubelet
// does, and has the variables that name their files name those here.
func (p *Playground) projectTokens(ctx context.Context, spec corev1.PodSpec, name string, env []string) ([]string, error) {
	files := map[string]string{} // by their paths in the container
	for _, v := range spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			token := source.ServiceAccountToken
			if token == nil {
				continue
			}
			request := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{Audiences: []string{token.Audience}, ExpirationSeconds: token.ExpirationSeconds}}
			answer, err := p.Client().CoreV1().ServiceAccounts(Namespace).CreateToken(ctx, spec.ServiceAccountName, request, metav1.CreateOptions{})
			if err != nil {
				return nil, fmt.Errorf("projecting a token of ServiceAccount %s: %w", spec.ServiceAccountName, err)
			}
			file := p.file(name + "-" + v.Name + "-" + token.Path)
			if err := writeFile(file, []byte(answer.Status.Token)); err != nil {
				return nil, err
			}
			for _, m := range spec.Containers[0].VolumeMounts {
				if m.Name == v.Name {
					files[filepath.Join(m.MountPath, token.Path)] = file
				}
			}
		}
	}
	for i, variable := range env {
		key, value, _ := strings.Cut(variable, "=")
		if file, ok := files[value]; ok {
			env[i] = key + "=" + file
		}
	}
	return env, nil
}
