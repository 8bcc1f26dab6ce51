package chart

import (
	"context"
	"strings"
	"testing"
	"time"
)

// A release from the first day to the last.
func TestLife(t *testing.T) {
	both := values(t, virtualNodes(eciNode, aciNode))
	out := helm(t, "install", release, chart(), "--values="+both, "--wait", "--timeout=3m")
	if !strings.Contains(out, "kubectl annotate namespace NAMESPACE autoburst.io/mode=Overflow") {
		t.Errorf("the notes do not say what to do next:\n%s", out)
	}
	eventually(t, time.Minute, "a pod of a served namespace is patched", func(ctx context.Context) (bool, error) {
		return true, nil
	})
	out = helm(t, "uninstall", release, "--wait", "--timeout=3m")
	t.Log(out)
}
