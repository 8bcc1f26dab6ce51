package aci

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy/burstable"
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

	// TenantID and ClientID name who signs in. It needs the actions read, write,
	// delete and containers/logs/read of Microsoft.ContainerInstance/containerGroups
	// in the resource group, subnets/join/action on the subnets, if any is set, and
	// userAssignedIdentities/assign/action on the identities of pods. With the action
	// locations/usages/read of Microsoft.ContainerInstance on the subscription, the
	// node's capacity follows the quota. A managed identity needs no tenant, and a
	// client only where the machine has more than one identity.
	TenantID, ClientID string

	// One of the next three says how to sign in.
	//
	// ClientSecret is a service principal's secret, ClientSecretFile a file that
	// holds it. The file wins, is read again before every request and may change or
	// appear while the provider runs.
	ClientSecret, ClientSecretFile string
	// FederatedTokenFile is a file with a token of the cluster that Entra takes for
	// the identity ClientID (workload identity). It is read again when it is needed.
	FederatedTokenFile string
	// ManagedIdentity signs in as an identity of the machine that the agent runs on.
	ManagedIdentity bool
	// MetadataEndpoint is where the machine's metadata service answers, such as
	// http://127.0.0.1:8080, in place of its link-local address. Optional.
	MetadataEndpoint string

	// Waived are fields that every pod may run without; see
	// [burstable.WaiveAnnotation]. Optional.
	Waived []string

	// SubnetID is the resource ID of a subnet that is delegated to
	// Microsoft.ContainerInstance/containerGroups. Groups get private addresses
	// in it. Unset, groups with ports get public addresses. AllowedSubnetIDs are
	// others that pods may choose. Optional.
	SubnetID         string
	AllowedSubnetIDs []string
	// NoPublicIP gives groups without a subnet a public address only if their pod
	// asks for one. Optional.
	NoPublicIP bool

	// Spot, Confidential and Zone are the kind and the availability zone of groups
	// whose pod names none. Spot groups can be neither confidential nor in a subnet
	// or zone. Optional.
	Spot, Confidential bool
	Zone               string

	// Identities are the resource IDs of user-assigned managed identities that
	// every group gets. AllowedIdentities are those that pods may choose; "*" is any
	// that the agent may assign. RegistryIdentities pull images, by registry; a
	// group gets the identity only if it has an image of that registry. Optional.
	Identities, AllowedIdentities []string
	RegistryIdentities            map[string]string

	// LogAnalytics is where the logs of all containers are sent. Optional.
	LogAnalytics *LogAnalytics

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

	// Version of the agent, for the User-Agent of its calls; optional.
	Version string

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

// LogAnalytics is a workspace of Azure Monitor.
type LogAnalytics struct {
	WorkspaceID string
	// Key is the workspace's key, KeyFile a file that holds it. The file wins, and is
	// read again for every group.
	Key, KeyFile string
	// ClusterResourceID, if set, files the logs under that cluster in Container
	// Insights. Optional.
	ClusterResourceID string
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
		{"ClusterUID", c.ClusterUID},
		{"NodeName", c.NodeName},
	} {
		if field.value == "" {
			problems = append(problems, fmt.Errorf("%s is not set", field.name))
		}
	}
	problems = append(problems, c.validateSignIn(), c.validateGroups())
	for _, field := range []struct{ name, value string }{{"ClusterUID", c.ClusterUID}, {"NodeName", c.NodeName}} {
		if len(field.value) > maxTagValue {
			problems = append(problems, fmt.Errorf("%s has %d characters, more than the %d of a tag", field.name, len(field.value), maxTagValue))
		}
	}
	if err := validateCloud(c.Cloud); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// validateSignIn wants one way to sign in, whole.
func (c *Config) validateSignIn() error {
	var problems []error
	ways := 0
	for _, set := range []bool{c.ClientSecret != "" || c.ClientSecretFile != "", c.FederatedTokenFile != "", c.ManagedIdentity} {
		if set {
			ways++
		}
	}
	switch {
	case ways == 0:
		problems = append(problems, errors.New("nothing to sign in with: set ClientSecret, ClientSecretFile, FederatedTokenFile or ManagedIdentity"))
	case ways > 1:
		problems = append(problems, errors.New("more than one way to sign in: set ClientSecret or ClientSecretFile, FederatedTokenFile, or ManagedIdentity"))
	}
	if !c.ManagedIdentity {
		for _, field := range []struct{ name, value string }{{"TenantID", c.TenantID}, {"ClientID", c.ClientID}} {
			if field.value == "" {
				problems = append(problems, fmt.Errorf("%s is not set", field.name))
			}
		}
	}
	if c.MetadataEndpoint != "" {
		if err := validateMetadata(c.MetadataEndpoint); err != nil {
			problems = append(problems, fmt.Errorf("MetadataEndpoint: %w", err))
		}
	}
	return errors.Join(problems...)
}

// validateGroups checks what every group gets.
func (c *Config) validateGroups() error {
	var problems []error
	if c.SubnetID != "" && !subnetRule.MatchString(c.SubnetID) {
		problems = append(problems, fmt.Errorf("SubnetID %q is not the resource ID of a subnet", c.SubnetID))
	}
	for _, id := range c.AllowedSubnetIDs {
		if !subnetRule.MatchString(id) {
			problems = append(problems, fmt.Errorf("AllowedSubnetIDs: %q is not the resource ID of a subnet", id))
		}
	}
	if c.Zone != "" && !burstable.IsZone(c.Zone) {
		problems = append(problems, fmt.Errorf("Zone %q is none of 1 to 9", c.Zone))
	}
	if c.Spot {
		for _, field := range []struct {
			name string
			set  bool
		}{{"SubnetID", c.SubnetID != ""}, {"Zone", c.Zone != ""}, {"Confidential", c.Confidential}} {
			if field.set {
				problems = append(problems, fmt.Errorf("Spot and %s exclude each other", field.name))
			}
		}
	}
	for _, id := range c.Identities {
		problems = append(problems, validateIdentity(id))
	}
	for _, id := range c.AllowedIdentities {
		if id != "*" {
			problems = append(problems, validateIdentity(id))
		}
	}
	for _, server := range slices.Sorted(maps.Keys(c.RegistryIdentities)) {
		problems = append(problems, validateIdentity(c.RegistryIdentities[server]))
	}
	if l := c.LogAnalytics; l != nil && (l.WorkspaceID == "" || l.Key == "" && l.KeyFile == "") {
		problems = append(problems, errors.New("LogAnalytics needs a workspace ID and its key"))
	}
	return errors.Join(problems...)
}

func validateIdentity(id string) error {
	if !burstable.IsManagedIdentity(id) {
		return fmt.Errorf("%q is not the resource ID of a user-assigned managed identity", id)
	}
	return nil
}

// validateMetadata: the metadata service has no TLS.
func validateMetadata(endpoint string) error {
	u, err := url.Parse(endpoint)
	// The parser's message may quote credentials inside the URL: not wrapped.
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return errors.New("must be http://host:port, without path, credentials or query")
	}
	return nil
}

// node is what the virtual node says of itself to those who judge pods.
func (c *Config) node() burstable.ACINode {
	return burstable.ACINode{
		Spot: c.Spot, Confidential: c.Confidential, Zone: c.Zone, NoPublicIP: c.NoPublicIP,
		SubnetID: c.SubnetID, Subnets: c.AllowedSubnetIDs, Identities: c.AllowedIdentities,
	}
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

// telemetry tells Azure who calls. The SDK cuts it at 24 characters.
func (c *Config) telemetry() policy.TelemetryOptions {
	return policy.TelemetryOptions{ApplicationID: "autoburst/" + cmp.Or(c.Version, "dev")}
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
