package vnode

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
)

// Keys of the Secret of a storage account (kubernetes.io, volumes of type azureFile).
const (
	storageAccountName = "azurestorageaccountname"
	storageAccountKey  = "azurestorageaccountkey"
)

// azureFile reads the storage account of a share from its Secret, which must be in
// the pod's namespace.
func (r *resolver) azureFile(ctx context.Context, pod *corev1.Pod, volume, secret, share string, readOnly bool) (*providers.AzureFile, error) {
	where := fmt.Sprintf("MountVolume.SetUp failed for volume %q: secret %q", volume, secret)
	s, err := r.fetch.secret(ctx, pod.Namespace, secret)
	if err != nil {
		return nil, absent(err, false, reasonMount, where+" not found")
	}
	file := &providers.AzureFile{Share: share, ReadOnly: readOnly}
	for _, part := range []struct {
		key  string
		into *string
	}{{storageAccountName, &file.AccountName}, {storageAccountKey, &file.AccountKey}} {
		if *part.into = strings.TrimSpace(string(s.Data[part.key])); *part.into == "" {
			return nil, &missingError{reasonMount, fmt.Sprintf("%s has no key %q", where, part.key)}
		}
	}
	return file, nil
}
