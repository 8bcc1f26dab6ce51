package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// krewPlugin is what krew's manifest may have.
type krewPlugin struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Version          string `json:"version"`
		Homepage         string `json:"homepage"`
		ShortDescription string `json:"shortDescription"`
		Description      string `json:"description"`
		Caveats          string `json:"caveats"`
		Platforms        []struct {
			Selector struct {
				MatchLabels struct {
					OS   string `json:"os"`
					Arch string `json:"arch"`
				} `json:"matchLabels"`
			} `json:"selector"`
			URI    string `json:"uri"`
			SHA256 string `json:"sha256"`
			Bin    string `json:"bin"`
		} `json:"platforms"`
	} `json:"spec"`
}

// TestKrew: filled in as krew-release-bot does, the template is a manifest that names
// an archive of the release for each platform, and the program in it as the go command
// names it.
func TestKrew(t *testing.T) {
	raw, err := os.ReadFile("../../.krew.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type release struct{ TagName string }
	fill := func(text string) string {
		// The address is a template of its own, as it is for the bot.
		parsed, err := template.New("krew").Funcs(template.FuncMap{"addURIAndSha": func(address, tag string) (string, error) {
			var uri strings.Builder
			inner, err := template.New("uri").Parse(address)
			if err == nil {
				err = inner.Execute(&uri, release{tag})
			}
			return fmt.Sprintf("uri: %s\n    sha256: %s", uri.String(), strings.Repeat("a1", 32)), err
		}}).Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := parsed.Execute(&b, release{"v1.2.3"}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	var p krewPlugin
	if err := yaml.UnmarshalStrict([]byte(fill(string(raw))), &p); err != nil {
		t.Fatal(err)
	}
	if p.APIVersion != "krew.googlecontainertools.github.com/v1alpha2" || p.Kind != "Plugin" || p.Metadata.Name != "autoburst" || p.Spec.Version != "v1.2.3" {
		t.Errorf("it is %+v", p)
	}
	if n := len(p.Spec.ShortDescription); n == 0 || n > 50 || strings.HasSuffix(p.Spec.ShortDescription, ".") {
		t.Errorf("the short description has %d letters; krew's index wants 50 at most, and no full stop", n)
	}
	var platforms []string
	for _, v := range p.Spec.Platforms {
		name, program := v.Selector.MatchLabels.OS+"_"+v.Selector.MatchLabels.Arch, "kubectl-autoburst"
		platforms = append(platforms, name)
		if v.Selector.MatchLabels.OS == "windows" {
			program += ".exe"
		}
		if want := "https://github.com/autoburst/autoburst/releases/download/v1.2.3/kubectl-autoburst_v1.2.3_" + name + ".tar.gz"; v.URI != want || v.Bin != program || len(v.SHA256) != 64 {
			t.Errorf("for %s it is %+v", name, v)
		}
	}
	slices.Sort(platforms)
	want := []string{"darwin_amd64", "darwin_arm64", "linux_amd64", "linux_arm64", "windows_amd64", "windows_arm64"}
	if diff := cmp.Diff(want, platforms); diff != "" {
		t.Errorf("platforms (-want +got)\n%s", diff)
	}
}
