package aci

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/autoburst/autoburst/providers"
)

// Only the service's own words, about the group of the pod's name, say that there is
// none.
func TestFindIsSure(t *testing.T) {
	group := func(name, tags string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"name":%q,"tags":{%s}}`, name, tags) }
	}
	const own = `"autoburst-cluster-uid":"8f3f","autoburst-node":"burst-aci","autoburst-pod-uid":"sought"`
	tests := map[string]struct {
		answer http.HandlerFunc
		want   providers.ErrorClass
	}{
		"it is there":             {group("autoburst-sought", own), ""},
		"it is another pod's":     {group("autoburst-sought", `"autoburst-cluster-uid":"8f3f","autoburst-node":"burst-aci","autoburst-pod-uid":"other"`), providers.Conflict},
		"it is another node's":    {group("autoburst-sought", `"autoburst-cluster-uid":"8f3f","autoburst-node":"other","autoburst-pod-uid":"sought"`), providers.Conflict},
		"its tags were removed":   {group("autoburst-sought", ``), providers.Conflict},
		"there is none":           {answer(http.StatusNotFound, "ResourceNotFound", "The Resource was not found."), providers.NotFound},
		"no resource group":       {answer(http.StatusNotFound, "ResourceGroupNotFound", "Resource group was not found."), providers.Misconfigured},
		"no subscription":         {answer(http.StatusNotFound, "SubscriptionNotFound", "The subscription was not found."), providers.Misconfigured},
		"a proxy's 404":           {raw(http.StatusNotFound, "<html>not here</html>"), providers.Misconfigured},
		"throttled":               {answer(http.StatusTooManyRequests, "TooManyRequests", ""), providers.Throttled},
		"an error of the service": {answer(http.StatusInternalServerError, "InternalServerError", ""), providers.Unavailable},
		"cut":                     {hangUp, providers.Unavailable},
		"not JSON":                {raw(http.StatusOK, "<html>sign in</html>"), providers.Unavailable},
		"no name":                 {raw(http.StatusOK, `{"tags":{`+own+`}}`), providers.Unavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := (&fakeCloud{manage: tt.answer}).start(t)
			g, err := p.Find(t.Context(), "sought")
			if got := providers.ClassOf(err); got != tt.want {
				t.Errorf("class %q (%v), want %q", got, err, tt.want)
			}
			if (g != nil) != (tt.want == "") {
				t.Errorf("found %+v beside the error %v", g, err)
			}
			if g != nil && g.Status == nil {
				t.Error("the group has no status")
			}
			if err != nil {
				checkText(t, "Find", err)
			}
		})
	}
}
