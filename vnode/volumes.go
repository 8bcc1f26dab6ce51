package vnode

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// defaultMode is what the API server sets where a volume names no mode.
const defaultMode int32 = 0o644

// reasonMount is the reason of the kubelet's event for a volume that is not
// ready.
const reasonMount = "FailedMount"

func (r *resolver) volume(ctx context.Context, pod *corev1.Pod, field string, v *corev1.Volume, warn warner) (providers.Volume, error) {
	out := providers.Volume{Name: v.Name}
	var err error
	switch {
	case v.EmptyDir != nil:
		out.EmptyDir = v.EmptyDir
	case v.ConfigMap != nil:
		s := v.ConfigMap
		out.Files, err = r.configMapFiles(ctx, pod, v.Name, s.Name, s.Items, ptr.Deref(s.DefaultMode, defaultMode), ptr.Deref(s.Optional, false), warn)
	case v.Secret != nil:
		s := v.Secret
		out.Files, err = r.secretFiles(ctx, pod, v.Name, s.SecretName, s.Items, ptr.Deref(s.DefaultMode, defaultMode), ptr.Deref(s.Optional, false), warn)
	case v.DownwardAPI != nil:
		out.Files, err = r.downwardFiles(pod, field+".downwardAPI", v.DownwardAPI.Items, ptr.Deref(v.DownwardAPI.DefaultMode, defaultMode))
	case v.Projected != nil:
		out.Files, err = r.projectedFiles(ctx, pod, field+".projected", v, warn)
	case v.AzureFile != nil:
		out.AzureFile, err = r.azureFile(ctx, v.Name, pod.Namespace, v.AzureFile.SecretName, v.AzureFile.ShareName, v.AzureFile.ReadOnly)
	case v.CSI != nil && v.CSI.Driver == burstable.AzureFileDriver:
		of := v.CSI.VolumeAttributes
		out.AzureFile, err = r.azureFile(ctx, v.Name, pod.Namespace, of[burstable.AzureFileSecretName], of[burstable.AzureFileShareName], ptr.Deref(v.CSI.ReadOnly, false))
	case v.PersistentVolumeClaim != nil:
		out.AzureFile, err = r.claimedShare(ctx, pod, field+".persistentVolumeClaim", v)
	case v.VolumeSource == (corev1.VolumeSource{}):
		out.EmptyDir = &corev1.EmptyDirVolumeSource{}
	default:
		err = &unsupportedError{field, "is of a kind that virtual nodes cannot provide"}
	}
	if err == nil && out.Files != nil {
		out.Files.Items, err = laidOut(v.Name, out.Files.Items)
	}
	return out, err
}

// absentVolume is absent for a volume: an optional one is an empty directory, and
// that is told, as the pod would not get the files later.
func absentVolume(err error, optional bool, what string, warn warner) error {
	if !optional || !apierrors.IsNotFound(err) {
		what = "MountVolume.SetUp failed for " + what
	}
	return absent(err, optional, missingReason{reasonMount, "OptionalVolumeNotFound"}, what, warn)
}

// laidOut are the files as they lie in the directory: paths are cleaned, and of two
// with the same one the later stays, as in the kubelet.
func laidOut(volume string, files []providers.File) ([]providers.File, error) {
	var out []providers.File
	place := map[string]int{}
	for _, f := range files {
		f.Path = path.Clean(f.Path)
		if i, ok := place[f.Path]; ok {
			out[i] = f
			continue
		}
		place[f.Path] = len(out)
		out = append(out, f)
	}
	for _, f := range out {
		for dir := path.Dir(f.Path); dir != "." && dir != "/"; dir = path.Dir(dir) {
			if _, ok := place[dir]; ok {
				return nil, &missingError{reasonMount, fmt.Sprintf("MountVolume.SetUp failed for volume %q: %s cannot be a file and a directory with %s in it", volume, dir, f.Path)}
			}
		}
	}
	return out, nil
}

func (r *resolver) configMapFiles(ctx context.Context, pod *corev1.Pod, volume, name string, items []corev1.KeyToPath, mode int32, optional bool, warn warner) (*providers.Files, error) {
	files := &providers.Files{}
	m, err := r.fetch.configMap(ctx, pod.Namespace, name)
	if err != nil {
		return files, absentVolume(err, optional, fmt.Sprintf("volume %q: configmap %q not found", volume, name), warn)
	}
	data := make(map[string][]byte, len(m.Data)+len(m.BinaryData))
	for k, v := range m.Data {
		data[k] = []byte(v)
	}
	for k, v := range m.BinaryData {
		data[k] = v
	}
	files.Items, err = pick(data, items, mode, optional, fmt.Sprintf("MountVolume.SetUp failed for volume %q: configmap %q", volume, name))
	return files, err
}

func (r *resolver) secretFiles(ctx context.Context, pod *corev1.Pod, volume, name string, items []corev1.KeyToPath, mode int32, optional bool, warn warner) (*providers.Files, error) {
	files := &providers.Files{Secret: true}
	s, err := r.fetch.secret(ctx, pod.Namespace, name)
	if err != nil {
		return files, absentVolume(err, optional, fmt.Sprintf("volume %q: secret %q not found", volume, name), warn)
	}
	files.Items, err = pick(s.Data, items, mode, optional, fmt.Sprintf("MountVolume.SetUp failed for volume %q: secret %q", volume, name))
	return files, err
}

// pick makes files of all keys, or of those that are named.
func pick(data map[string][]byte, items []corev1.KeyToPath, mode int32, optional bool, where string) ([]providers.File, error) {
	var files []providers.File
	if len(items) == 0 {
		for _, key := range sorted(data) {
			files = append(files, providers.File{Path: key, Data: data[key], Mode: mode})
		}
		return files, nil
	}
	for _, item := range items {
		content, ok := data[item.Key]
		switch {
		case ok:
			files = append(files, providers.File{Path: item.Path, Data: content, Mode: ptr.Deref(item.Mode, mode)})
		case !optional:
			return nil, &missingError{reasonMount, fmt.Sprintf("%s references non-existent key %q", where, item.Key)}
		}
	}
	return files, nil
}

func (r *resolver) downwardFiles(pod *corev1.Pod, field string, items []corev1.DownwardAPIVolumeFile, mode int32) (*providers.Files, error) {
	files := &providers.Files{}
	for i, item := range items {
		at := fmt.Sprintf("%s.items[%d]", field, i)
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			at += ".fieldRef.fieldPath"
			text, err = metadataField(pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			at += ".resourceFieldRef"
			text, err = r.resourceField(pod, nil, item.ResourceFieldRef)
		default:
			err = fmt.Errorf("has no source that is known")
		}
		if err != nil {
			return nil, &unsupportedError{at, err.Error()}
		}
		files.Items = append(files.Items, providers.File{Path: item.Path, Data: []byte(text), Mode: ptr.Deref(item.Mode, mode)})
	}
	return files, nil
}

func (r *resolver) projectedFiles(ctx context.Context, pod *corev1.Pod, field string, v *corev1.Volume, warn warner) (*providers.Files, error) {
	all := &providers.Files{}
	mode := ptr.Deref(v.Projected.DefaultMode, defaultMode)
	for i, source := range v.Projected.Sources {
		var files *providers.Files
		var err error
		at := fmt.Sprintf("%s.sources[%d]", field, i)
		switch {
		case source.ConfigMap != nil:
			s := source.ConfigMap
			files, err = r.configMapFiles(ctx, pod, v.Name, s.Name, s.Items, mode, ptr.Deref(s.Optional, false), warn)
		case source.Secret != nil:
			s := source.Secret
			files, err = r.secretFiles(ctx, pod, v.Name, s.Name, s.Items, mode, ptr.Deref(s.Optional, false), warn)
		case source.DownwardAPI != nil:
			files, err = r.downwardFiles(pod, at+".downwardAPI", source.DownwardAPI.Items, mode)
		case source.ServiceAccountToken != nil:
			files, err = r.tokenFile(ctx, pod, v.Name, source.ServiceAccountToken, mode, warn)
		default:
			err = &unsupportedError{at, "is of a kind that virtual nodes cannot provide"}
		}
		if err != nil {
			return nil, err
		}
		all.Secret = all.Secret || files.Secret
		all.Items = append(all.Items, files.Items...)
	}
	return all, nil
}

// tokenFile asks for a token of the pod's ServiceAccount that ends with the pod. A
// file in a group cannot be renewed: where the API server grants less time than the
// pod may run, the pod is told.
func (r *resolver) tokenFile(ctx context.Context, pod *corev1.Pod, volume string, p *corev1.ServiceAccountTokenProjection, mode int32, warn warner) (*providers.Files, error) {
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	want := max(ptr.Deref(p.ExpirationSeconds, 0), r.settings.TokenSeconds)
	request := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{
		ExpirationSeconds: ptr.To(want),
		BoundObjectRef:    &authv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if p.Audience != "" {
		request.Spec.Audiences = []string{p.Audience}
	}
	answer, err := r.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, &missingError{reasonMount, fmt.Sprintf("MountVolume.SetUp failed for volume %q: no token for serviceaccount %q, which was not found", volume, account)}
	case err != nil:
		return nil, fmt.Errorf("asking for a token of serviceaccount %s/%s: %w", pod.Namespace, account, err)
	}
	r.tellTokenEnd(pod, account, p, want, answer.Status.ExpirationTimestamp.Time, warn)
	return &providers.Files{Secret: true, Items: []providers.File{{
		Path: strings.TrimPrefix(p.Path, "/"), Data: []byte(answer.Status.Token), Mode: mode,
	}}}, nil
}

// tokenSlack is how much less than asked a token may live: the answer took its way.
const tokenSlack = time.Minute

// tellTokenEnd says on a pod that its token may end before it.
func (r *resolver) tellTokenEnd(pod *corev1.Pod, account string, p *corev1.ServiceAccountTokenProjection, want int64, end time.Time, warn warner) {
	if end.IsZero() {
		return
	}
	lives := end.Sub(r.clock.Now()) + tokenSlack
	if lives >= time.Duration(want)*time.Second {
		return
	}
	if d := pod.Spec.ActiveDeadlineSeconds; d != nil && lives >= time.Duration(*d)*time.Second {
		return
	}
	what := "the API server"
	if p.Audience != "" {
		what = fmt.Sprintf("%q", p.Audience)
	}
	warn(reasonTokenEnds, fmt.Sprintf(
		"The token of ServiceAccount %s for %s ends at %s, and a pod in the cloud gets no new one. The API server grants no more (--service-account-max-token-expiration); replace the pod before, or set its activeDeadlineSeconds.",
		account, what, end.UTC().Format(time.RFC3339)))
}
