package status

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/page"
)

// Formats are the values of --output; an empty one is the first.
var Formats = []string{"table", "json", "yaml"}

// Print writes a report in a format. Now is for the ages in tables.
func Print(out io.Writer, format string, r *Report, now time.Time) error {
	var b []byte
	var err error
	switch format {
	case "json", "yaml":
		if b, err = json.MarshalIndent(r, "", "  "); err != nil {
			return fmt.Errorf("writing the status: %w", err)
		}
		b = append(b, '\n')
		if format == "yaml" {
			if b, err = yaml.JSONToYAML(b); err != nil {
				return fmt.Errorf("writing the status: %w", err)
			}
		}
	default:
		b = []byte(Table(r, now))
	}
	_, err = out.Write(b)
	return err
}

// Table is a report for people.
func Table(r *Report, now time.Time) string {
	p := &printer{now: now}
	p.head(r)
	p.policies(r)
	p.nodes(r.VirtualNodes)
	p.shortages(r.Shortages)
	p.waiting(&r.Waiting)
	for i, n := range r.Notes {
		if i == 0 {
			p.Line("")
		}
		p.Line("Note: %s", n)
	}
	return p.String()
}

type printer struct {
	page.Page
	now time.Time
}

func (p *printer) head(r *Report) {
	version := ""
	if r.Version != "" {
		version = " " + r.Version
	}
	leader := "no replica is elected, so nothing is granted late"
	if r.Controller.Leader != "" {
		leader = r.Controller.Leader + " leads"
	}
	p.Line("Autoburst%s in namespace %s, admission by %s", version, r.Namespace, r.Controller.Admission)
	if r.Controller.Replicas == 0 {
		p.Line("Controller  runs outside the cluster; %s", leader)
	} else {
		p.Line("Controller  %d of %d replicas ready; %s", r.Controller.Ready, r.Controller.Replicas, leader)
	}
	switch r.Bursting {
	case On:
		p.Line("Bursting    on")
	case Stopped:
		namespace, name, _ := strings.Cut(r.Switch, "/")
		p.Line("Bursting    STOPPED by ConfigMap %s: nothing is granted; to lift it: kubectl -n %s delete configmap %s", r.Switch, namespace, name)
	default:
		p.Line("Bursting    unknown")
	}
}

func (p *printer) policies(r *Report) {
	p.Line("")
	if len(r.Policies) == 0 {
		p.Line("Policies: none")
	} else {
		p.Line("Policies")
		rows := [][]string{{"POLICY", "MODE", "READY", "SELECTED", "LOCAL", "BURST", "WAITING", "PRESSURE", "LEFT OF LIMITS"}}
		for i := range r.Policies {
			v := &r.Policies[i]
			n := func(i int32) string { return strconv.Itoa(int(i)) }
			state := "yes"
			if !v.Ready {
				state = "NO"
			}
			rows = append(rows, []string{
				v.String(), string(v.Mode), state, n(v.Pods.Selected), n(v.Pods.Local), n(v.Pods.Burst), n(v.Pods.Waiting), orDash(strings.ToLower(v.Pressure)), orDash(left(v.Limits)),
			})
		}
		p.Table(rows)
		for i := range r.Policies {
			if v := &r.Policies[i]; !v.Ready {
				p.Line("  %s is not ready: %s", v, v.Message)
			}
		}
	}
	if len(r.Namespaces) > 0 {
		p.Line("")
		p.Line("Namespaces that their annotation opts in")
		rows := [][]string{{"NAMESPACE", "MODE"}}
		for _, n := range r.Namespaces {
			rows = append(rows, []string{n.Name, n.Mode})
		}
		p.Table(rows)
	}
}

// left says what is left of limits, such as "492 of 500 pods".
func left(limits []Limit) string {
	var all []string
	for _, l := range limits {
		is := "? of " + l.Limit.String() + " " + l.Resource
		if l.Left != nil {
			is = l.Left.String() + is[1:]
		}
		if l.Target != "" {
			is = l.Target + ": " + is
		}
		all = append(all, is)
	}
	return strings.Join(all, ", ")
}

func (p *printer) nodes(nodes []VirtualNode) {
	p.Line("")
	if len(nodes) == 0 {
		p.Line("Virtual nodes: none, so nothing can burst")
		return
	}
	p.Line("Virtual nodes")
	rows := [][]string{{"NODE", "CLOUD", "STATE", "PODS", "CPU", "MEMORY"}}
	for i := range nodes {
		n := &nodes[i]
		row := []string{n.Name, orDash(strings.Trim(n.Provider+" "+n.Region+" "+n.Zone, " ")), n.State}
		for _, r := range n.Resources {
			used := "?"
			if r.Used != nil {
				used = round(*r.Used)
			}
			row = append(row, used+" of "+round(r.Allocatable))
		}
		rows = append(rows, row)
	}
	p.Table(rows)
	for i := range nodes {
		if n := &nodes[i]; n.Message != "" {
			p.Line("  %s: %s", n.Name, n.Message)
		}
	}
	for i := range nodes {
		if n := &nodes[i]; n.Unsized > 0 {
			p.Line("  %s: CPU and memory are without %s that the agent has not sized.", n.Name, count(n.Unsized, "pod"))
		}
	}
}

// round is a quantity to one decimal place, of bytes in the largest unit that fits.
func round(q resource.Quantity) string {
	value, unit := q.AsApproximateFloat64(), ""
	if q.Format == resource.BinarySI {
		for _, u := range []string{"Ki", "Mi", "Gi", "Ti", "Pi"} {
			if value < 1<<10 {
				break
			}
			value, unit = value/(1<<10), u
		}
	}
	return strings.TrimSuffix(strconv.FormatFloat(value, 'f', 1, 64), ".0") + unit
}

func (p *printer) shortages(shortages []Shortage) {
	if len(shortages) == 0 {
		return
	}
	p.Line("")
	p.Line("Shortages")
	for _, s := range shortages {
		text := "  " + s.Of + ": "
		if s.Until != nil {
			text += "passed over for " + age(s.Until.Sub(p.now)) + " more"
			if s.Times > 1 {
				text += fmt.Sprintf(", %d times in a row", s.Times)
			}
			text += ". "
		}
		p.Line("%s", strings.TrimRight(text+s.Message, " "))
	}
}

func (p *printer) waiting(w *Waiting) {
	p.Line("")
	more := ""
	if w.More {
		more = "at least "
	}
	if w.Pods == 0 {
		if w.More {
			p.Line("Waiting: no pod of a served namespace among the first %d pods without a node", mostWaiting)
		} else {
			p.Line("Waiting: no pod")
		}
		return
	}
	if len(w.Oldest) == 0 {
		p.Line("Waiting: %s%s without a node", more, count(w.Pods, "pod"))
		return
	}
	p.Line("Waiting: %s%s without a node; the oldest:", more, count(w.Pods, "pod"))
	rows := [][]string{{"POD", "AGE", "BY", "REASON", "WHY"}}
	for _, v := range w.Oldest {
		rows = append(rows, []string{v.Namespace + "/" + v.Name, age(p.now.Sub(v.Since)), orDash(v.Policy), orDash(v.Reason), v.Message})
	}
	p.Table(rows)
	p.Line("  More: kubectl autoburst explain pod/%s -n %s", w.Oldest[0].Name, w.Oldest[0].Namespace)
}

func age(d time.Duration) string { return duration.HumanDuration(max(0, d)) }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
