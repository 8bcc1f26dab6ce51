package status

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func quantity(s string) *resource.Quantity { return new(resource.MustParse(s)) }

// busy is a report in which everything is said.
func busy() *Report {
	until := metav1.NewTime(noon.Add(90 * time.Second))
	return &Report{
		Namespace: "autoburst-system", Version: "0.1.0", Bursting: Stopped, Switch: "autoburst-system/autoburst-switch",
		Controller: Controller{Replicas: 2, Ready: 1, Leader: "autoburst-1", Admission: "Webhook"},
		Policies: []Policy{
			{
				Kind: "BurstPolicy", Namespace: "shop", Name: "batch", Mode: v1alpha1.ModeOverflow, Ready: true, Pressure: "Open",
				Pods: v1alpha1.PodCounts{Selected: 40, Local: 30, Burst: 8, Waiting: 2},
				Limits: []Limit{
					{Resource: "pods", Limit: *quantity("500"), Used: quantity("8"), Left: quantity("492")},
					{Target: "eci", Resource: "cpu", Limit: *quantity("64")},
				},
			},
			{Kind: "ClusterBurstPolicy", Name: "all", Mode: v1alpha1.ModeAlways, Message: "No controller has looked at it yet."},
		},
		Namespaces: []Namespace{{Name: "web", Mode: "Overflow"}},
		VirtualNodes: []VirtualNode{
			{
				Name: "virtual-eci", Provider: "eci", Region: "cn-hangzhou", Zone: "cn-hangzhou-b", Ready: true, State: ready, Unsized: 1,
				Resources: []Resource{
					{Name: "pods", Allocatable: *quantity("5k"), Used: quantity("8"), Free: quantity("4992")},
					{Name: "cpu", Allocatable: *quantity("10k"), Used: quantity("12500m"), Free: quantity("9987500m")},
					{Name: "memory", Allocatable: *quantity("40Ti"), Used: quantity("27136Mi"), Free: quantity("40Ti")},
				},
			},
			{
				Name: "virtual-aci", Provider: "aci", Region: "japaneast", State: "CloudUnreachable", Message: "CloudThrottled: Too many requests.",
				Resources: []Resource{{Name: "pods", Allocatable: *quantity("5k")}, {Name: "cpu", Allocatable: *quantity("10k")}, {Name: "memory", Allocatable: *quantity("40Ti")}},
			},
		},
		Shortages: []Shortage{
			{Of: "target eci of BurstPolicy/shop/batch", Until: &until, Times: 3, Message: "The cloud has no machine of the pod's size."},
			{Of: "virtual node virtual-aci", Message: "QuotaExceeded: The account has no quota left."},
		},
		Waiting: Waiting{Pods: 2, Oldest: []WaitingPod{
			{Namespace: "shop", Name: "batch-1", Since: noon.Add(-10 * time.Minute), Policy: "BurstPolicy/batch", Reason: "AfterPending", Message: "The policy lets the pod burst only after it has been unschedulable for some time.", Scheduler: "0/3 nodes are available."},
			{Namespace: "web", Name: "web-1", Since: noon.Add(-5 * time.Second), Message: "Nothing is decided for it."},
		}},
		Notes: []string{"You may not read pods, so that what virtual nodes hold is not shown."},
	}
}

func idle() *Report {
	return &Report{
		Namespace: "autoburst-system", Bursting: On, Controller: Controller{Admission: "MutatingAdmissionPolicy"},
		Policies: []Policy{}, Namespaces: []Namespace{}, VirtualNodes: []VirtualNode{}, Shortages: []Shortage{}, Waiting: Waiting{Oldest: []WaitingPod{}},
	}
}

func TestTable(t *testing.T) {
	for name, r := range map[string]*Report{"busy": busy(), "idle": idle()} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Print(&b, "", r, noon); err != nil {
				t.Fatal(err)
			}
			file := "testdata/" + name + ".golden"
			if *update {
				if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("%s (-want +got)\n%s", file, diff)
			}
		})
	}
}

// The formats for programs say the same, and nothing that changes by itself.
func TestFormats(t *testing.T) {
	var reports [2]Report
	for i, format := range []string{"json", "yaml"} {
		var b, later bytes.Buffer
		if err := Print(&b, format, busy(), noon); err != nil {
			t.Fatal(err)
		}
		if err := Print(&later, format, busy(), noon.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if json.Valid(b.Bytes()) != (format == "json") || b.String() != later.String() {
			t.Errorf("-o %s gives\n%s", format, b.String())
		}
		if err := yaml.UnmarshalStrict(b.Bytes(), &reports[i]); err != nil {
			t.Fatalf("%s: %v", format, err)
		}
	}
	if a, b := Table(&reports[0], noon), Table(&reports[1], noon); a != b || a != Table(busy(), noon) {
		t.Errorf("what comes back says\n%s\nand\n%s", a, b)
	}
}

// On a terminal one text takes the place of another, in one write that leaves nothing
// blank; no line is longer than the terminal is wide, and none too many.
func TestScreenOfTerminal(t *testing.T) {
	var writes []string
	s := &Screen{out: writer(func(b []byte) { writes = append(writes, string(b)) }), size: func() (int, int) { return 10, 3 }}
	for _, text := range []string{"one\ntwo\n", "a long line of text\nb\nc\nd\n"} {
		if err := s.Show("", text); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		enterScreen + home + "one" + endOfLine + "\r\ntwo" + endOfLine + endOfScreen,
		home + "a long li…" + endOfLine + "\r\nb" + endOfLine + "\r\n… enlarge…" + endOfLine + endOfScreen,
		leaveScreen + "a long line of text\nb\nc\nd\n",
	}
	if diff := cmp.Diff(want, writes); diff != "" {
		t.Errorf("writes (-want +got)\n%s", diff)
	}
}

// Elsewhere a text is printed when it differs from the one before.
func TestScreenOfFile(t *testing.T) {
	var b strings.Builder
	s := NewScreen(&b, "---\n")
	for _, show := range [][2]string{{"1", "one, 3s ago\n"}, {"1", "one, 4s ago\n"}, {"2", "two\n"}} {
		if err := s.Show(show[0], show[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if want := "one, 3s ago\n---\ntwo\n"; b.String() != want || s.Terminal() {
		t.Errorf("printed %q, want %q", b.String(), want)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}
