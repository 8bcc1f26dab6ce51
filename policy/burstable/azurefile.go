package burstable

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// AzureFileDriver is the CSI driver of Azure Files, and AzureFileSecretName and
// AzureFileShareName the attributes of an inline volume that name the Secret with
// the storage account and the share (driver-parameters.md of azurefile-csi-driver).
const (
	AzureFileDriver     = "file.csi.azure.com"
	AzureFileSecretName = "secretName"
	AzureFileShareName  = "shareName"
)

// csi judges an inline volume of the driver of Azure Files. What else the driver
// takes, such as mount options, is for a node's own mount.
func (c *checker) csi(at *path, v *corev1.CSIVolumeSource) {
	if v.Driver != AzureFileDriver || !c.caps.Has(AzureFile) {
		return
	}
	p := path{parent: at, name: "csi", index: -1}
	for _, name := range []string{AzureFileSecretName, AzureFileShareName} {
		if v.VolumeAttributes[name] == "" {
			c.lacks(&p, "volumeAttributes."+name, "cannot mount a share without it")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.VolumeAttributes)) {
		if name != AzureFileSecretName && name != AzureFileShareName {
			c.lacks(&p, "volumeAttributes."+name, "knows the attributes "+AzureFileSecretName+" and "+AzureFileShareName+" of a share only; leave it out")
		}
	}
	if v.FSType != nil && *v.FSType != "" {
		c.lacks(&p, "fsType", "mounts shares by SMB only; leave it out")
	}
	if v.NodePublishSecretRef != nil {
		c.lacks(&p, "nodePublishSecretRef", "takes the Secret from volumeAttributes."+AzureFileSecretName)
	}
}

// isShareClaim tells whether a volume is of a claim that the pod says is a share of
// Azure Files. The agent, which can see the claim, refuses any other.
func (c *checker) isShareClaim(v *corev1.Volume) bool {
	return v.PersistentVolumeClaim != nil && c.caps.Has(AzureFile) && slices.Contains(c.shareClaims, v.PersistentVolumeClaim.ClaimName)
}

// sharesAsRoot refuses a user other than root in a container that mounts a share:
// the service mounts shares for root (Mount an Azure file share in Azure Container
// Instances, limitations).
func (c *checker) sharesAsRoot(at *path, ctr *corev1.Container, spec *corev1.PodSpec) {
	if !c.caps.Has(AzureFile) {
		return
	}
	var user *int64
	field := "securityContext.runAsUser"
	if spec.SecurityContext != nil {
		user = spec.SecurityContext.RunAsUser
	}
	if ctr.SecurityContext != nil && ctr.SecurityContext.RunAsUser != nil {
		user = ctr.SecurityContext.RunAsUser
	}
	if user == nil || *user == 0 {
		return
	}
	for i := range ctr.VolumeMounts {
		for j := range spec.Volumes {
			v := &spec.Volumes[j]
			if v.Name == ctr.VolumeMounts[i].Name && (v.AzureFile != nil || v.CSI != nil && v.CSI.Driver == AzureFileDriver || c.isShareClaim(v)) {
				c.lacks(at, field, "mounts shares of Azure Files for root only, and volume "+v.Name+" is one")
				return
			}
		}
	}
}
