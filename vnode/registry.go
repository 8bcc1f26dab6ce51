package vnode

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/autoburst/autoburst/providers"
)

// dockerHub are the names under which Docker Hub, the registry of images that
// name none, appears in credentials.
var dockerHub = map[string]bool{"docker.io": true, "index.docker.io": true, "registry-1.docker.io": true, "registry.hub.docker.com": true}

type registryLogin struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     string `json:"auth"`
}

// registryCredentials returns the logins of the pod's imagePullSecrets that fit
// one of its images. As with the kubelet, a secret that is absent or broken is
// no reason to wait: the image may be public.
func (r *resolver) registryCredentials(ctx context.Context, pod *corev1.Pod, warn func(reason, message string)) ([]providers.RegistryCredential, error) {
	hosts := map[string]bool{}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			hosts[imageHost(c.Image)] = true
		}
	}
	var out []providers.RegistryCredential
	seen := map[string]bool{}
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" {
			continue
		}
		secret, err := r.fetch.secret(ctx, pod.Namespace, ref.Name)
		if apierrors.IsNotFound(err) {
			warn("FailedToRetrieveImagePullSecret", fmt.Sprintf("Image pull secret %q was not found; the images are pulled without it.", ref.Name))
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading image pull secret %s/%s: %w", pod.Namespace, ref.Name, err)
		}
		logins, err := registryLogins(secret)
		if err != nil {
			// The cause may quote the secret.
			warn("FailedToRetrieveImagePullSecret", fmt.Sprintf("Image pull secret %q has no login in the form of its type; the images are pulled without it.", ref.Name))
			continue
		}
		for _, server := range sorted(logins) {
			login := logins[server]
			for _, host := range sorted(hosts) {
				name, ok := serverFor(server, host)
				if !ok || seen[name] {
					continue
				}
				seen[name] = true
				out = append(out, providers.RegistryCredential{Server: name, Username: login.Username, Password: login.Password})
			}
		}
	}
	return out, nil
}

func registryLogins(secret *corev1.Secret) (map[string]registryLogin, error) {
	var logins map[string]registryLogin
	if data, ok := secret.Data[corev1.DockerConfigJsonKey]; ok {
		var config struct {
			Auths map[string]registryLogin `json:"auths"`
		}
		if err := json.Unmarshal(data, &config); err != nil {
			return nil, fmt.Errorf("decoding %s: %w", corev1.DockerConfigJsonKey, err)
		}
		logins = config.Auths
	} else if err := json.Unmarshal(secret.Data[corev1.DockerConfigKey], &logins); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", corev1.DockerConfigKey, err)
	}
	for server, login := range logins {
		if login.Auth != "" {
			decoded, err := base64.StdEncoding.DecodeString(strings.TrimRight(login.Auth, "\x00"))
			if err != nil {
				decoded, err = base64.RawStdEncoding.DecodeString(login.Auth)
			}
			user, password, ok := strings.Cut(string(decoded), ":")
			if err != nil || !ok {
				return nil, fmt.Errorf("the login of a registry is not user:password in base64")
			}
			login.Username, login.Password = user, password
			logins[server] = login
		}
	}
	return logins, nil
}

// imageHost returns the registry of an image reference.
func imageHost(image string) string {
	first, _, more := strings.Cut(image, "/")
	if !more || !strings.ContainsAny(first, ".:") && first != "localhost" {
		return "docker.io"
	}
	return first
}

// serverFor returns the name of the server in a credential, without scheme and
// path, if it opens the registry of an image. A pattern, such as *.azurecr.io,
// becomes the registry's name.
func serverFor(server, host string) (string, bool) {
	_, rest, ok := strings.Cut(server, "://")
	if !ok {
		rest = server
	}
	name, _, _ := strings.Cut(rest, "/")
	switch {
	case name == host, dockerHub[name] && dockerHub[host]:
		return name, true
	case strings.Contains(name, "*"):
		if ok, err := path.Match(name, host); err == nil && ok && strings.Count(name, ".") == strings.Count(host, ".") {
			return host, true
		}
	}
	return "", false
}
