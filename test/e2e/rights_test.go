package e2e

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/playground"
)

// These are rare paths on which rights of the chart's Roles are needed that the
// other tests do not need; see checkRights.

// A Secret of the webhook's authority that somebody has spoilt is mended.
func TestSpoiltAuthority(t *testing.T) {
	const name = playground.Release + "-webhook-ca"
	before, err := client().CoreV1().Secrets(playground.Namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, "", "--namespace="+playground.Namespace, "patch", "secret", name, "--type=merge", "--patch",
		fmt.Sprintf(`{"data":{%q:%q}}`, corev1.TLSCertKey, base64.StdEncoding.EncodeToString([]byte("spoilt"))))
	var fresh []byte
	mustEventually(t, time.Minute, "the authority is new", func(ctx context.Context) (bool, error) {
		s, err := client().CoreV1().Secrets(playground.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		block, _ := pem.Decode(s.Data[corev1.TLSCertKey])
		if block == nil || string(s.Data[corev1.TLSCertKey]) == string(before.Data[corev1.TLSCertKey]) {
			return false, nil
		}
		fresh = s.Data[corev1.TLSCertKey]
		_, err = x509.ParseCertificate(block.Bytes)
		return err == nil, err
	})
	mustEventually(t, time.Minute, "the API server trusts it", func(ctx context.Context) (bool, error) {
		c, err := client().AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, playground.Release, metav1.GetOptions{})
		return err == nil && strings.Contains(string(c.Webhooks[0].ClientConfig.CABundle), strings.TrimSpace(string(fresh))), err
	})
	ns := namespace(t, "authority", overflow())
	eventually(t, time.Minute, "pods are admitted by the webhook", func(ctx context.Context) (bool, error) {
		out, err := system.Kubectl(ctx, barePod("p", podSpec{}), "--namespace="+ns, "create", "--dry-run=server", "-o", "yaml", "-f", "-")
		return err == nil && strings.Contains(out, "autoburst.io/decided-mode"), err
	})
}

// An agent whose node now works for another account takes its Lease along.
func TestLeaseOfAnotherAccount(t *testing.T) {
	for _, node := range []string{eciNode, aciNode} {
		leases := client().CoordinationV1().Leases(playground.Namespace)
		account := func(ctx context.Context) string {
			l, err := leases.Get(ctx, "autoburst-quota-"+node, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return l.Labels["autoburst.io/quota-account"]
		}
		own := account(t.Context())
		system.RemoveAgent(node, endProcess(t))
		kubectl(t, "", "--namespace="+playground.Namespace, "label", "--overwrite", "lease", "autoburst-quota-"+node, "autoburst.io/quota-account=of-another")
		if _, err := system.StartAgent(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, "the Lease of "+node+" is of its account again", func(ctx context.Context) (bool, error) {
			return account(ctx) == own, nil
		})
		if err := system.WaitNodeReady(t.Context(), node); err != nil {
			t.Fatal(err)
		}
	}
}

// A share of Azure Files is found by a claim and its volume.
func TestClaimedShare(t *testing.T) {
	ns := namespace(t, "claimed", nil)
	kubectl(t, strings.ReplaceAll(`
apiVersion: v1
kind: Secret
metadata: {name: account}
stringData: {azurestorageaccountname: stored, azurestorageaccountkey: a2V5}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: NAMESPACE-share}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteMany]
  persistentVolumeReclaimPolicy: Retain
  claimRef: {namespace: NAMESPACE, name: data}
  csi:
    driver: file.csi.azure.com
    volumeHandle: NAMESPACE-share
    volumeAttributes: {shareName: data}
    nodeStageSecretRef: {namespace: NAMESPACE, name: account}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  storageClassName: ""
  volumeName: NAMESPACE-share
  accessModes: [ReadWriteMany]
  resources: {requests: {storage: 1Gi}}
`, "NAMESPACE", ns), "--namespace="+ns, "apply", "-f", "-")
	t.Cleanup(func() {
		if _, err := system.Kubectl(context.Background(), "", "delete", "persistentvolume", ns+"-share", "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	kubectl(t, "", "--namespace="+ns, "wait", "pvc/data", "--for=jsonpath={.status.phase}=Bound", "--timeout=30s")
	kubectl(t, annotated(barePod("reader", podSpec{
		extra: pinned[aciNode] + "volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]", container: "volumeMounts: [{name: data, mountPath: /data}]",
	}), "autoburst.io/aci-azure-file-claims: data"), "--namespace="+ns, "apply", "-f", "-")
	waitPod(t, ns, "reader", "runs", onNode(aciNode))
}
