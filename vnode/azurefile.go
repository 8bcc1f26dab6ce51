package vnode

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// Keys of the Secret of a storage account (kubernetes.io, volumes of type azureFile).
const (
	storageAccountName = "azurestorageaccountname"
	storageAccountKey  = "azurestorageaccountkey"
)

// azureFile reads the storage account of a share from its Secret.
func (r *resolver) azureFile(ctx context.Context, volume, namespace, secret, share string, readOnly bool) (*providers.AzureFile, error) {
	where := fmt.Sprintf("MountVolume.SetUp failed for volume %q: secret %q", volume, secret)
	s, err := r.fetch.secret(ctx, namespace, secret)
	if err != nil {
		return nil, absent(err, false, missingReason{mandatory: reasonMount}, where+" not found", nil)
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

// claimedShare finds the share of Azure Files that a claim is bound to. A volume of
// which the agent would have to guess something is refused: it must name its share
// and its Secret, and ask for nothing that the cloud's own mount does not do.
func (r *resolver) claimedShare(ctx context.Context, pod *corev1.Pod, field string, v *corev1.Volume) (*providers.AzureFile, error) {
	name := v.PersistentVolumeClaim.ClaimName
	where := fmt.Sprintf("MountVolume.SetUp failed for volume %q: persistentvolumeclaim %q", v.Name, name)
	claim, err := r.fetch.claim(ctx, pod.Namespace, name)
	if err != nil {
		return nil, absent(err, false, missingReason{mandatory: reasonMount}, where+" not found", nil)
	}
	if claim.Status.Phase != corev1.ClaimBound || claim.Spec.VolumeName == "" {
		return nil, &missingError{reasonMount, where + " is not bound"}
	}
	pv, err := r.fetch.persistentVolume(ctx, claim.Spec.VolumeName)
	if err != nil {
		return nil, absent(err, false, missingReason{mandatory: reasonMount}, fmt.Sprintf("%s is bound to persistentvolume %q, which was not found", where, claim.Spec.VolumeName), nil)
	}
	refuse := func(why string) (*providers.AzureFile, error) {
		return nil, &unsupportedError{field, fmt.Sprintf("is bound to persistentvolume %q, which %s", pv.Name, why)}
	}
	readOnly := v.PersistentVolumeClaim.ReadOnly
	switch file, csi := pv.Spec.AzureFile, pv.Spec.CSI; {
	case len(pv.Spec.MountOptions) > 0:
		return refuse("has mount options; the cloud mounts shares with its own")
	case file != nil:
		namespace := pod.Namespace
		if file.SecretNamespace != nil && *file.SecretNamespace != "" {
			namespace = *file.SecretNamespace
		}
		return r.azureFile(ctx, v.Name, namespace, file.SecretName, file.ShareName, readOnly || file.ReadOnly)
	case csi == nil || csi.Driver != burstable.AzureFileDriver:
		return refuse("is no share of Azure Files")
	case csi.NodeStageSecretRef == nil || csi.VolumeAttributes[burstable.AzureFileShareName] == "":
		return refuse("does not name its share in volumeAttributes." + burstable.AzureFileShareName + " and its Secret in nodeStageSecretRef")
	case csi.FSType != "" || csi.VolumeAttributes["protocol"] != "" && !strings.EqualFold(csi.VolumeAttributes["protocol"], "smb"):
		return refuse("is not mounted by SMB")
	default:
		secret := csi.NodeStageSecretRef
		return r.azureFile(ctx, v.Name, secret.Namespace, secret.Name, csi.VolumeAttributes[burstable.AzureFileShareName], readOnly || csi.ReadOnly)
	}
}
