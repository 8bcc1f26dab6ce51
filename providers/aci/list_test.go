package aci

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	sdk "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"
	"github.com/google/go-cmp/cmp"
)

func TestReadPage(t *testing.T) {
	tests := map[string]struct {
		body  string
		names []string
		next  string
		fails bool
	}{
		"groups and a link": {
			body:  `{"value":[{"name":"a","properties":{"provisioningState":"Succeeded","containers":[{"name":"c","properties":{}}]}},null,{"name":"b","tags":null}],"nextLink":"https://next"}`,
			names: []string{"a", "b"}, next: "https://next",
		},
		"the link first, and more": {body: `{"nextLink":null,"odd":{"x":[1]},"Value":[{"name":"a"}]}`, names: []string{"a"}},
		"none":                     {body: `{"value":[]}`},
		"no list":                  {body: `{"nextLink":"https://next"}`, fails: true},
		"an empty object":          {body: `{}`, fails: true},
		"a null list":              {body: `{"value":null}`, fails: true},
		"something else":           {body: `[]`, fails: true},
		"nothing":                  {body: ``, fails: true},
		"cut in a group":           {body: `{"value":[{"name":"a"},{"name":"b`, fails: true, names: []string{"a"}},
		"cut between groups":       {body: `{"value":[{"name":"a"},`, fails: true, names: []string{"a"}},
		"cut after the groups":     {body: `{"value":[{"name":"a"}]`, fails: true, names: []string{"a"}},
		"a group of another form":  {body: `{"value":[7]}`, fails: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var names []string
			next, err := readPage(strings.NewReader(tt.body), func(g *sdk.ContainerGroup) { names = append(names, *g.Name) })
			if (err != nil) != tt.fails {
				t.Errorf("error %v, want one: %t", err, tt.fails)
			}
			if next != tt.next {
				t.Errorf("next %q, want %q", next, tt.next)
			}
			if diff := cmp.Diff(tt.names, names); diff != "" {
				t.Errorf("groups (-want +got):\n%s", diff)
			}
		})
	}
	_, err := readPage(io.MultiReader(strings.NewReader(`{"value":[`), failing{}), func(*sdk.ContainerGroup) {})
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v, want that of the connection", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

// BenchmarkReadPage is a listing of 1000 groups of a usual definition.
func BenchmarkReadPage(b *testing.B) {
	var env []string
	for k := range 40 {
		env = append(env, fmt.Sprintf(`{"name":"SETTING_%d","value":"value-of-the-setting-%d"}`, k, k))
	}
	var groups []string
	for i := range 1000 {
		groups = append(groups, fmt.Sprintf(`{"name":"autoburst-%d","tags":{"a":"%d"},"properties":{"provisioningState":"Succeeded","containers":[{"name":"app","properties":{"image":"nginx","environmentVariables":[%s]}}]}}`,
			i, i, strings.Join(env, ",")))
	}
	body := `{"value":[` + strings.Join(groups, ",") + `]}`
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readPage(strings.NewReader(body), func(*sdk.ContainerGroup) {}); err != nil {
			b.Fatal(err)
		}
	}
}
