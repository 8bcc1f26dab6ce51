package tour

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMask(t *testing.T) {
	for name, test := range map[string]struct{ output, want string }{
		"an age": {
			"NAME      STATUS   AGE     VERSION\nlocal-1   Ready    2m13s             \nlocal-2   Ready    9s      v1\n",
			"NAME      STATUS   AGE   VERSION\nlocal-1   Ready    1m\nlocal-2   Ready    1m    v1",
		},
		"the same when younger": {
			"NAME      STATUS   AGE   VERSION\nlocal-1   Ready    5s            \nlocal-2   Ready    9s    v1\n",
			"NAME      STATUS   AGE   VERSION\nlocal-1   Ready    1m\nlocal-2   Ready    1m    v1",
		},
		"a pod":        {"pod/web-78ffccf959-b6828 evicted", "pod/web-… evicted"},
		"a time":       {"held no container group at 2026-11-26T08:41:35Z", "held no container group at …"},
		"versions":     {"NAME   VERSION                       X\nv      v1.36.3-autoburst-0.0.0-dev   y\n", "NAME   VERSION               X\nv      v1.36.3-autoburst-…   y"},
		"a release":    {"Autoburst 0.1.0 in namespace a", "Autoburst … in namespace a"},
		"a leader":     {"host-1.a_b2b28abe-cff4-4c3b-8c8b-ad8c155b7f65 leads", "… leads"},
		"no table":     {"  Wait: Stopped\n   for 30 s\n\n", "  Wait: Stopped\n   for 30 s"},
		"counts":       {"      8 local-1\n      6 <none>\n", "      8 local-1\n      6 <none>"},
		"nothing":      {"", ""},
		"cells of two": {"NAME   KIND\na b    c\n", "NAME   KIND\na b    c"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Mask(test.output)); diff != "" {
				t.Errorf("masked otherwise (-want +got):\n%s", diff)
			}
		})
	}
}

// The page shows each step, its commands and what they printed.
func TestPage(t *testing.T) {
	got, err := Page([]Result{{
		Step:    Step{Title: "One thing", Why: "Because.", Look: "There.", Commands: []Command{{Line: "kubectl get x"}, {Line: "kubectl get y"}}},
		Outputs: []string{"NAME   AGE\nx      9s\n", ""},
	}}, "a frame\n")
	if err != nil {
		t.Fatal(err)
	}
	const want = "### 1. One thing\n\nBecause.\n\n```console\n$ kubectl get x\nNAME   AGE\nx      1m\n$ kubectl get y\n```\n\nThere.\n"
	if !strings.Contains(got, want) || !strings.Contains(got, "```text\na frame\n```\n") {
		t.Errorf("the page is\n%s\nwant in it\n%s", got, want)
	}
}
