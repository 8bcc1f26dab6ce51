package eci

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/autoburst/autoburst/providers/quota"
)

// Config is what a [Provider] needs to know of the account and the network.
type Config struct {
	// Region is the region of the groups, such as "cn-hangzhou". Required.
	Region string
	// Zone is the zone of the VSwitches, for the node's topology label. Empty
	// where they lie in several zones.
	Zone string
	// VSwitchIDs are the VSwitches in which groups get their addresses, 1 to 10
	// of one VPC. With several, ECI takes the first that has stock.
	VSwitchIDs []string
	// SecurityGroupID is the security group of the groups' addresses, in the
	// VPC of the VSwitches. Required.
	SecurityGroupID string
	// Credentials tells who calls. It is asked for each call, so that keys can
	// be changed without a restart. Required.
	Credentials CredentialSource

	// ClusterUID and NodeName are the owner that every group of this provider
	// bears as tags. At most 128 characters each. Required.
	ClusterUID, NodeName string

	// Version of the agent, for the User-Agent of its calls; optional.
	Version string

	// AccountID is the Alibaba Cloud account, by which agents that share its
	// request quotas find each other. Empty is the ID of the access key. It is
	// needed only where such agents have different keys.
	AccountID string
	// ResourceGroupID is the resource group of the groups; empty is the
	// account's default.
	ResourceGroupID string
	// RAMRole is the RAM role that the groups' containers may assume; empty is
	// none.
	RAMRole string

	// PodAnnotations are what a pod has that does not bear the annotation itself:
	// settings of ECI by the names that ACK documents for pods, such as
	// k8s.aliyun.com/eci-spot-strategy.
	PodAnnotations map[string]string
	// ForbiddenAnnotations are those that no pod may bear.
	ForbiddenAnnotations []string
	// AllowedRAMRoles, AllowedSecurityGroups and AllowedVSwitches are what pods may choose
	// by annotation beside what the agent's own settings name; "*" is all that the account
	// may use.
	AllowedRAMRoles, AllowedSecurityGroups, AllowedVSwitches []string
	// BandwidthInBytes reads kubernetes.io/ingress-bandwidth and egress-bandwidth as ACK
	// does, in bytes in a second, and not as Kubernetes does, in bits.
	BandwidthInBytes bool
	// Waived are fields that every pod may run without; see
	// [burstable.WaiveAnnotation].
	Waived []string

	// Refused, if set, is told of a key that the cloud does not accept, so that a
	// source which keeps keys asks for another.
	Refused func(Credentials)
	// temporary is whether the keys last for a session, so that they tell no account.
	temporary bool

	// Endpoint is the host, or host:port, of the API; empty is the region's
	// public one, eci.REGION.aliyuncs.com. It is always spoken to over TLS.
	Endpoint string
	// RootCAs verify the endpoint; nil is the system's set.
	RootCAs *x509.CertPool
	// Timeout bounds one call of the API; zero is 15 seconds. It begins when the
	// quota has allowed the call.
	Timeout time.Duration
	// SettleTime is for how long a pod whose ClientToken is spent must be found without
	// a group before its next offer goes under another token. Zero is 10 s; negative
	// trusts the first look.
	SettleTime time.Duration
	// Quota is the account's request quota, made of [Config.Plan]; nil is one with
	// the documented quotas, all for this provider.
	Quota *quota.Account
}

const (
	defaultTimeout = 15 * time.Second
	// maxVSwitches, maxTagKey and maxTagValue are limits of CreateContainerGroup
	// (api.alibabacloud.com, Eci 2018-08-08).
	maxVSwitches = 10
	maxTagValue  = 128
)

// ConfigFromEnv reads the settings of the environment:
//
//	ECI_REGION          region, required
//	ECI_VSWITCH         VSwitch IDs, separated by commas, required
//	ECI_SECURITY_GROUP  security group ID, required
//	ECI_ACCESS_KEY      access key ID, or
//	ECI_ACCESS_KEY_FILE the file that holds it; read again for each call
//	ECI_SECRET_KEY      access key secret, or
//	ECI_SECRET_KEY_FILE the file that holds it
//	ECI_SECURITY_TOKEN  token of a temporary key, or
//	ECI_SECURITY_TOKEN_FILE
//	ECI_POD_ANNOTATIONS
//	                    a JSON object: settings of pods that do not bear the annotation
//	ECI_FORBIDDEN_ANNOTATIONS
//	                    annotations that no pod may bear, separated by commas; without it
//	                    [burstable.ECIClosedByDefault], and none with the value none
//	ECI_ALLOWED_RAM_ROLES, ECI_ALLOWED_SECURITY_GROUPS, ECI_ALLOWED_VSWITCHES
//	                    what pods may choose beside the agent's own settings, separated by
//	                    commas; * is any
//	ECI_BANDWIDTH_UNIT  Bits, as Kubernetes has it, or Bytes, as ACK has: what the
//	                    annotations for the traffic of pods are read as
//	ALIBABA_CLOUD_ROLE_ARN, ALIBABA_CLOUD_OIDC_PROVIDER_ARN, ALIBABA_CLOUD_OIDC_TOKEN_FILE
//	                    without an access key: a role for the token of a service account
//	ALIBABA_CLOUD_ECS_METADATA
//	                    without these: the RAM role of the instance
//	ECI_STS_ENDPOINT, ECI_METADATA_ENDPOINT
//	                    host or host:port of what gives keys for these roles
//	ECI_ZONE            zone of the VSwitches
//	ECI_RESOURCE_GROUP  resource group ID
//	ECI_ACCOUNT_ID      account that agents with different keys share
//	ECI_RAM_ROLE        RAM role of the containers
//	ECI_ENDPOINT        host or host:port of the API
//	ECI_CA_FILE         PEM certificates that verify the endpoint
//
// Every variable in the way is named in the error. ClusterUID and NodeName are
// left to the caller.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	var errs []error
	required := func(name, what string) string {
		v := strings.TrimSpace(getenv(name))
		if v == "" {
			errs = append(errs, fmt.Errorf("%s is not set: set it to %s", name, what))
		}
		return v
	}
	cfg := Config{
		Region:          required("ECI_REGION", "the region of the container groups, such as cn-hangzhou"),
		SecurityGroupID: required("ECI_SECURITY_GROUP", "the ID of a security group of the VSwitch's VPC (sg-…)"),
		Zone:            strings.TrimSpace(getenv("ECI_ZONE")),
		AccountID:       strings.TrimSpace(getenv("ECI_ACCOUNT_ID")),
		ResourceGroupID: strings.TrimSpace(getenv("ECI_RESOURCE_GROUP")),
		RAMRole:         strings.TrimSpace(getenv("ECI_RAM_ROLE")),
		Endpoint:        strings.TrimSpace(getenv("ECI_ENDPOINT")),
	}
	if cfg.Region != "" && !regionName.MatchString(cfg.Region) {
		errs = append(errs, fmt.Errorf("ECI_REGION is %q: a region has lower case letters, digits and hyphens only", cfg.Region))
	}
	for id := range strings.SplitSeq(required("ECI_VSWITCH", "the ID of a VSwitch (vsw-…), or up to 10, separated by commas"), ",") {
		if id = strings.TrimSpace(id); id != "" {
			cfg.VSwitchIDs = append(cfg.VSwitchIDs, id)
		}
	}
	if n := len(cfg.VSwitchIDs); n > maxVSwitches {
		errs = append(errs, fmt.Errorf("ECI_VSWITCH names %d VSwitches: at most %d are allowed", n, maxVSwitches))
	}
	if err := checkEndpoint(cfg.Endpoint); err != nil {
		errs = append(errs, fmt.Errorf("ECI_ENDPOINT is %q: %w", cfg.Endpoint, err))
	}
	if file := getenv("ECI_CA_FILE"); file != "" {
		pool, err := readCAs(file)
		if err != nil {
			errs = append(errs, fmt.Errorf("ECI_CA_FILE: %w", err))
		}
		cfg.RootCAs = pool
	}
	if err := cfg.podSettings(getenv); err != nil {
		errs = append(errs, err)
	}
	if err := cfg.credentials(getenv); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, fmt.Errorf("settings of Alibaba Cloud ECI: %w", err)
	}
	return cfg, nil
}

var regionName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// checkEndpoint takes "", a host or host:port. A URL is refused rather than
// understood, since http:// must not look as if it were served.
func checkEndpoint(s string) error {
	if s == "" {
		return nil
	}
	host := s
	if strings.Contains(s, ":") {
		var err error
		if host, _, err = net.SplitHostPort(s); err != nil {
			return errors.New("write HOST or HOST:PORT, without a scheme or path")
		}
	}
	if host == "" || strings.ContainsAny(s, "/?#@ ") {
		return errors.New("write HOST or HOST:PORT, without a scheme or path")
	}
	return nil
}

func readCAs(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", file)
	}
	return pool, nil
}

// validate checks what New relies on.
func (c *Config) validate() error {
	var errs []error
	if !regionName.MatchString(c.Region) {
		errs = append(errs, fmt.Errorf("Region is %q: it must be a region's name", c.Region))
	}
	if n := len(c.VSwitchIDs); n == 0 || n > maxVSwitches {
		errs = append(errs, fmt.Errorf("VSwitchIDs has %d entries: it must have 1 to %d", n, maxVSwitches))
	}
	if c.SecurityGroupID == "" {
		errs = append(errs, errors.New("SecurityGroupID is empty"))
	}
	if c.Credentials == nil {
		errs = append(errs, errors.New("Credentials is nil"))
	}
	for _, v := range []struct{ name, value string }{{"ClusterUID", c.ClusterUID}, {"NodeName", c.NodeName}} {
		if v.value == "" || len(v.value) > maxTagValue {
			errs = append(errs, fmt.Errorf("%s is %q: it must have 1 to %d characters, since it becomes the value of a tag", v.name, v.value, maxTagValue))
		}
	}
	if err := c.checkPodSettings(); err != nil {
		errs = append(errs, err)
	}
	if err := checkEndpoint(c.Endpoint); err != nil {
		errs = append(errs, fmt.Errorf("Endpoint is %q: %w", c.Endpoint, err))
	}
	return errors.Join(errs...)
}
