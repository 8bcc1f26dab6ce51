package aci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	sdk "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"

	"github.com/autoburst/autoburst/providers"
)

// apiVersion is the SDK's own.
const apiVersion = "2023-05-01"

// maxPages ends a listing whose pages lead in a circle.
const maxPages = 10_000

// List returns the groups of this virtual node, without their status, which a
// listing of the service does not carry.
//
// A listing repeats the whole definition of each group. The SDK makes all of that
// into objects: 80 KB and 1200 allocations for a usual group, in each sweep. Here
// the answer is read as it comes, and of each group only what is needed is kept.
func (p *Provider) List(ctx context.Context) ([]providers.Group, error) {
	groups := []providers.Group{}
	seen := map[string]bool{}
	err := p.do(ctx, opList, nil, func(ctx context.Context, s *session) error {
		for page, next := 0, ""; page == 0 || next != ""; page++ {
			if page == maxPages {
				return errors.New("the listing does not end")
			}
			body, err := p.page(ctx, s, next)
			if err != nil {
				return err
			}
			next, err = readPage(body, func(g *sdk.ContainerGroup) {
				// Pages may overlap when groups come and go between them.
				if group := p.group(g); group != nil && !seen[group.ID] {
					seen[group.ID] = true
					groups = append(groups, *group)
				}
			})
			_ = body.Close() // it was read, or is given up
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return groups, nil
}

// page asks for the page that an earlier one links to, or for the first one.
func (p *Provider) page(ctx context.Context, s *session, next string) (io.ReadCloser, error) {
	request := func(ctx context.Context, at string) (*policy.Request, error) {
		req, err := runtime.NewRequest(ctx, http.MethodGet, at)
		if err != nil {
			return nil, err
		}
		req.Raw().Header.Set("Accept", "application/json")
		runtime.SkipBodyDownload(req)
		return req, nil
	}
	first := func(ctx context.Context) (*policy.Request, error) {
		return request(ctx, runtime.JoinPaths(s.manager.Endpoint(), fmt.Sprintf(
			"/subscriptions/%s/resourceGroups/%s/providers/Microsoft.ContainerInstance/containerGroups?api-version=%s",
			url.PathEscape(p.config.SubscriptionID), url.PathEscape(p.config.ResourceGroup), apiVersion)))
	}
	resp, err := runtime.FetcherForNextLink(ctx, s.manager.Pipeline(), next, first, &runtime.FetcherForNextLinkOptions{NextReq: request})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// listedGroup is what is needed of a group in a listing.
type listedGroup struct {
	Name       *string
	Tags       map[string]*string
	Properties *struct {
		ProvisioningState *string
		IPAddress         *struct{ IP *string }
	}
}

// readPage hands on each group of a page and returns the link to the next one. An
// answer without a list is an error: it does not say that there is no group.
func readPage(body io.Reader, each func(*sdk.ContainerGroup)) (next string, err error) {
	d := json.NewDecoder(body)
	if err := expect(d, json.Delim('{')); err != nil {
		return "", err
	}
	complete := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", fmt.Errorf("reading the listing: %w", err)
		}
		name, _ := key.(string)
		switch {
		case strings.EqualFold(name, "value"):
			if err := readGroups(d, each); err != nil {
				return "", err
			}
			complete = true
		case strings.EqualFold(name, "nextLink"):
			var link *string
			if err := d.Decode(&link); err != nil {
				return "", fmt.Errorf("reading the listing: %w", err)
			}
			next = value(link)
		default:
			var other json.RawMessage
			if err := d.Decode(&other); err != nil {
				return "", fmt.Errorf("reading the listing: %w", err)
			}
		}
	}
	if err := expect(d, json.Delim('}')); err != nil {
		return "", err
	}
	if !complete {
		return "", errors.New("an answer has no list of groups")
	}
	return next, nil
}

func readGroups(d *json.Decoder, each func(*sdk.ContainerGroup)) error {
	if err := expect(d, json.Delim('[')); err != nil {
		return err
	}
	for d.More() {
		var g *listedGroup
		if err := d.Decode(&g); err != nil {
			return fmt.Errorf("reading the listing: %w", err)
		}
		if g == nil {
			continue
		}
		group := &sdk.ContainerGroup{Name: g.Name, Tags: g.Tags}
		if g.Properties != nil {
			group.Properties = &sdk.ContainerGroupPropertiesProperties{ProvisioningState: g.Properties.ProvisioningState}
			if g.Properties.IPAddress != nil {
				group.Properties.IPAddress = &sdk.IPAddress{IP: g.Properties.IPAddress.IP}
			}
		}
		each(group)
	}
	return expect(d, json.Delim(']'))
}

func expect(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	if err != nil {
		return fmt.Errorf("reading the listing: %w", err)
	}
	if got != want {
		return errors.New("an answer has no list of groups")
	}
	return nil
}
