package webhook

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// shares are those of a test; they count how often they are asked.
type shares struct {
	full  bool
	asked [][]policy.Charge
}

func (s *shares) Take(charges []policy.Charge) (string, bool) {
	s.asked = append(s.asked, charges)
	return "x-1.1", !s.full
}

// A grant under a limit is taken from the replica's shares and stamped, or left
// to the controller; a dry run takes nothing.
func TestShares(t *testing.T) {
	limited := v1alpha1.BurstPolicy{Spec: v1alpha1.BurstPolicySpec{Limits: &v1alpha1.Limits{Pods: new(int32(3))}}}
	limited.Namespace, limited.Name = "shop", "web"
	account := policy.Account{Policy: policy.Ref{Kind: policy.KindPolicy, Namespace: "shop", Name: "web"}}
	for name, c := range map[string]struct {
		full, none, dry bool
		reason, share   string
		asked           int
	}{
		"room":             {reason: "LocalFirst", share: "x-1.1", asked: 1},
		"no room at hand":  {full: true, reason: "LimitWithheld", asked: 1},
		"no shares at all": {none: true, reason: "LimitWithheld"},
		"dry run":          {dry: true, reason: "LocalFirst"},
	} {
		t.Run(name, func(t *testing.T) {
			s := snapshot()
			s.Policies["shop"] = []*policy.Policy{policy.Compile(&limited)}
			held := &shares{full: c.full}
			o := Options{Snapshots: &facts{snapshot: s}, Shares: held}
			if c.none {
				o.Shares = nil
			}
			h, _ := register(t, o)
			// A copy of another pod's manifest brings its share along.
			object := `{"metadata":{"name":"p","annotations":{"autoburst.io/share":"old-1.1"}},"spec":{` + containers + `}}`
			r := post(t, h[PodsPath], review(object, set("dryRun", c.dry)))
			var pod corev1.Pod
			if err := json.Unmarshal(patched(t, []byte(object), r), &pod); err != nil {
				t.Fatal(err)
			}
			if got := pod.Annotations[v1alpha1.ReasonAnnotation]; got != c.reason {
				t.Errorf("the reason is %q, want %q", got, c.reason)
			}
			if got := pod.Annotations[v1alpha1.ShareAnnotation]; got != c.share {
				t.Errorf("the share is %q, want %q", got, c.share)
			}
			var want [][]policy.Charge
			if c.asked > 0 {
				want = [][]policy.Charge{{{Account: account, Amount: policy.Amount{Pods: 1, MilliCPU: 1000, Memory: 1 << 30}}}}
			}
			if diff := cmp.Diff(want, held.asked); diff != "" {
				t.Errorf("taken (-want +got):\n%s", diff)
			}
		})
	}
}
