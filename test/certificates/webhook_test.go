package certificates

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/autoburst/autoburst/test/playground"
)

type kubernetesClient = kubernetes.Interface

// interval is how often the programs check their certificates here.
const interval = "--certificate-check-interval=500ms"

// The program's own certificates are renewed as they age, and a new authority takes
// the place of one that has become unusable, without a pod that goes by unseen.
func TestOwnCertificatesUnderLoad(t *testing.T) {
	install(t, nil, interval, "--ca-lifetime=2m", "--certificate-lifetime=15s")
	underLoad(t, "own", func(ctx context.Context) error {
		secrets := system.Client().CoreV1().Secrets(playground.Namespace)
		return every(ctx, 4*time.Second, func() error {
			_, err := secrets.Patch(ctx, "autoburst-webhook-ca", types.MergePatchType, []byte(`{"data": {"tls.key": ""}}`), metav1.PatchOptions{})
			return err
		})
	})
}

// A Secret of the administrator's is replaced, now with a certificate of the same
// authority and now of another.
func TestExistingSecretUnderLoad(t *testing.T) {
	now := mustAuthority(t, "first")
	keep(t, "webhook-of-ours", now.secret(t, time.Hour, now))
	install(t, []string{"webhook.tls.existingSecret=webhook-of-ours"}, interval)
	underLoad(t, "existing", func(ctx context.Context) error {
		n := 0
		return every(ctx, 2*time.Second, func() error {
			if n++; n%2 == 0 {
				now = mustAuthority(t, "next")
			}
			keep(t, "webhook-of-ours", now.secret(t, time.Hour, now))
			return nil
		})
	})
}

// every does something again and again until ctx is done, first after a while.
func every(ctx context.Context, d time.Duration, do func() error) error {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := do(); err != nil {
				return err
			}
		}
	}
}
