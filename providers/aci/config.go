package aci

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/providers/quota"
)

// Config says which subscription, resource group and region a [Provider] uses,
// how it signs in, and for which virtual node it works. Fields are required
// unless they say otherwise.
type Config struct {
	// SubscriptionID, ResourceGroup and Region are where groups are made. The
	// resource group must exist and be registered for
	// Microsoft.ContainerInstance.
	SubscriptionID, ResourceGroup, Region string

	// TenantID and ClientID name the service principal. It needs the actions
	// read, write, delete and containers/logs/read of
	// Microsoft.ContainerInstance/containerGroups in the resource group, and
	// subnets/join/action on the subnet, if one is set. With the action
	// locations/usages/read of Microsoft.ContainerInstance on the subscription, the
	// node's capacity follows the quota.
	TenantID, ClientID string
	// ClientSecret is the service principal's secret, ClientSecretFile a file
	// that holds it. One of them is required; the file wins, is read again
	// before every request and may change or appear while the provider runs.
	ClientSecret, ClientSecretFile string

	// Waived are fields that every pod may run without; see
	// [burstable.WaiveAnnotation]. Optional.
	Waived []string

	// SubnetID is the resource ID of a subnet that is delegated to
	// Microsoft.ContainerInstance/containerGroups. Groups get private addresses
	// in it. Unset, groups with ports get public addresses. Optional.
	SubnetID string

	// Cloud replaces the public Azure cloud: the authority to sign in at, and
	// the endpoint and audience of the resource manager. Optional.
	Cloud cloud.Configuration

	// HTTPClient sends every request, also those to the authority. Optional;
	// the default has bounded timeouts and trusts RootCAs.
	HTTPClient *http.Client
	// RootCAs are trusted instead of the system's, for private endpoints.
	// Ignored when HTTPClient is set. Optional.
	RootCAs *x509.CertPool

	// ClusterUID and NodeName are the owner of every group this provider makes,
	// and the only one whose groups it lists, reads or deletes.
	ClusterUID, NodeName string

	// SettleTime is how long after a create whose answer was lost the absence
	// of the group proves nothing, so that it is not created again: a second
	// create would restart the containers of the first. Zero is 10 s, the pause
	// that the service advises between two changes of a group; negative trusts
	// the first read.
	SettleTime time.Duration

	// Clock tells the time; optional.
	Clock clock.PassiveClock

	// Quota is the account's request quota, made of [Config.Plan]. Optional; the
	// default has the documented quotas, all for this provider.
	Quota *quota.Account
}

const defaultSettleTime = 10 * time.Second

// maxTagValue is the length of a tag's value in Azure Resource Manager.
const maxTagValue = 256

var subnetRule = regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Network/virtualNetworks/[^/]+/subnets/[^/]+$`)

// validate returns every problem of the configuration at once.
func (c *Config) validate() error {
	var problems []error
	for _, field := range []struct{ name, value string }{
		{"SubscriptionID", c.SubscriptionID},
		{"ResourceGroup", c.ResourceGroup},
		{"Region", c.Region},
		{"TenantID", c.TenantID},
		{"ClientID", c.ClientID},
		{"ClusterUID", c.ClusterUID},
		{"NodeName", c.NodeName},
	} {
		if field.value == "" {
			problems = append(problems, fmt.Errorf("%s is not set", field.name))
		}
	}
	if c.ClientSecret == "" && c.ClientSecretFile == "" {
		problems = append(problems, errors.New("neither ClientSecret nor ClientSecretFile is set"))
	}
	for _, field := range []struct{ name, value string }{{"ClusterUID", c.ClusterUID}, {"NodeName", c.NodeName}} {
		if len(field.value) > maxTagValue {
			problems = append(problems, fmt.Errorf("%s has %d characters, more than the %d of a tag", field.name, len(field.value), maxTagValue))
		}
	}
	if c.SubnetID != "" && !subnetRule.MatchString(c.SubnetID) {
		problems = append(problems, fmt.Errorf("SubnetID %q is not the resource ID of a subnet", c.SubnetID))
	}
	if err := validateCloud(c.Cloud); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func validateCloud(c cloud.Configuration) error {
	if isZeroCloud(c) {
		return nil
	}
	manager := c.Services[cloud.ResourceManager]
	if manager.Audience == "" {
		return errors.New("Cloud has no audience for the resource manager")
	}
	if err := validateHTTPS(c.ActiveDirectoryAuthorityHost); err != nil {
		return fmt.Errorf("authority host of Cloud: %w", err)
	}
	if err := validateHTTPS(manager.Endpoint); err != nil {
		return fmt.Errorf("resource manager endpoint of Cloud: %w", err)
	}
	return nil
}

// validateHTTPS: the SDK sends tokens over TLS only.
func validateHTTPS(endpoint string) error {
	u, err := url.Parse(endpoint)
	// The parser's message may quote credentials inside the URL: not wrapped.
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return errors.New("must be https://host, without credentials or query")
	}
	return nil
}

func isZeroCloud(c cloud.Configuration) bool {
	return c.ActiveDirectoryAuthorityHost == "" && len(c.Services) == 0
}

// isPrivateAuthority tells whether an authority is unknown to the public Azure
// cloud, whose instance discovery must then not be asked about it.
func isPrivateAuthority(host string) bool {
	switch strings.TrimRight(host, "/") {
	case "",
		strings.TrimRight(cloud.AzurePublic.ActiveDirectoryAuthorityHost, "/"),
		strings.TrimRight(cloud.AzureGovernment.ActiveDirectoryAuthorityHost, "/"),
		strings.TrimRight(cloud.AzureChina.ActiveDirectoryAuthorityHost, "/"):
		return false
	}
	return true
}
