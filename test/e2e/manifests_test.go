package e2e

import (
	"bytes"
	"strings"
	"text/template"
)

// podSpec is what varies in the manifests of these tests.
type podSpec struct {
	// cpu request, half a CPU by default.
	cpu string
	// extra are more lines of the pod's spec, not indented.
	extra string
	// container are more lines of its container, not indented.
	container string
	// image, nginx by default.
	image string
	// labels beside app.
	labels map[string]string
}

func indent(n int, s string) string {
	s = strings.Trim(s, "\n")
	if s == "" {
		return ""
	}
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(s, "\n", "\n"+pad)
}

const specTemplate = `
{{define "labels"}}app: {{.Name}}{{range $k, $v := .Spec.Labels}}
{{$k}}: "{{$v}}"{{end}}{{end}}
{{define "spec"}}terminationGracePeriodSeconds: 30
{{with .Spec.Extra}}{{.}}
{{end}}containers:
- name: app
  image: {{.Spec.Image}}
{{with .Spec.Container}}{{.}}
{{end}}  resources: {requests: {cpu: {{.Spec.CPU}}, memory: 64Mi}}{{end}}
`

type manifest struct {
	Name  string
	Count int
	Spec  struct {
		CPU, Extra, Container, Image string
		Labels                       map[string]string
	}
}

func render(text, name string, count int, p podSpec) string {
	m := manifest{Name: name, Count: count}
	m.Spec.CPU, m.Spec.Image = p.cpu, p.image
	if m.Spec.CPU == "" {
		m.Spec.CPU = "500m"
	}
	if m.Spec.Image == "" {
		m.Spec.Image = "nginx:1.29"
	}
	m.Spec.Extra, m.Spec.Container, m.Spec.Labels = strings.Trim(p.extra, "\n"), indent(2, p.container), p.labels
	t := template.New("").Funcs(template.FuncMap{"indent": indent})
	t.Funcs(template.FuncMap{"include": func(name string, n int, data any) (string, error) {
		var b bytes.Buffer
		err := t.ExecuteTemplate(&b, name, data)
		return indent(n, b.String()), err
	}})
	template.Must(t.Parse(specTemplate + text))
	var b bytes.Buffer
	if err := t.Execute(&b, m); err != nil {
		panic(err)
	}
	return b.String()
}

func deployment(name string, replicas int, p podSpec) string {
	return render(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{.Name}}}
spec:
  replicas: {{.Count}}
  selector: {matchLabels: {app: {{.Name}}}}
  template:
    metadata:
      labels:
{{include "labels" 8 .}}
    spec:
{{include "spec" 6 .}}
`, name, replicas, p)
}

// job makes a Job whose pods stay: on local nodes kwok would otherwise end them
// after a second and free their room.
func job(name string, pods int, p podSpec) string {
	return render(`
apiVersion: batch/v1
kind: Job
metadata: {name: {{.Name}}}
spec:
  parallelism: {{.Count}}
  completions: {{.Count}}
  template:
    metadata:
      labels:
        autoburst.test/stay: "true"
{{include "labels" 8 .}}
    spec:
      restartPolicy: Never
{{include "spec" 6 .}}
`, name, pods, p)
}

func barePod(name string, p podSpec) string {
	return render(`
---
apiVersion: v1
kind: Pod
metadata:
  name: {{.Name}}
  labels:
{{include "labels" 4 .}}
spec:
{{include "spec" 2 .}}
`, name, 1, p)
}
