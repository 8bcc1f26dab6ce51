package eci

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// Credentials are one key of the account.
type Credentials struct {
	AccessKeyID, AccessKeySecret string
	// SecurityToken belongs to a temporary key; empty for a lasting one.
	SecurityToken string
}

// String hides the key, so that it cannot get into a log by accident.
func (Credentials) String() string { return "(hidden)" }

// GoString hides the key from %#v.
func (Credentials) GoString() string { return "eci.Credentials(hidden)" }

// CredentialSource returns the key to use now. It is called for each call of
// the API, by many goroutines. Its errors must not hold secrets.
type CredentialSource func() (Credentials, error)

// StaticCredentials always returns c.
func StaticCredentials(c Credentials) CredentialSource {
	return func() (Credentials, error) { return c, nil }
}

// setting is a value of the environment, or of a file that the environment
// names.
type setting struct{ name, value, file string }

func (s setting) set() bool { return s.value != "" || s.file != "" }

// read returns the value. A file is read each time: a Secret volume changes
// under the running process, and the file is small.
func (s setting) read() (string, error) {
	if s.file == "" {
		return s.value, nil
	}
	b, err := os.ReadFile(s.file)
	if err != nil {
		return "", fmt.Errorf("%s_FILE: %w", s.name, err)
	}
	v := strings.TrimSpace(string(b))
	if v == "" {
		return "", fmt.Errorf("%s_FILE: the file %s is empty", s.name, s.file)
	}
	return v, nil
}

// credentials finds out who the agent is, in the order of the vendor's SDK: an access
// key, a role for the token of a service account, the role of the instance.
func (c *Config) credentials(getenv func(string) string) error {
	env := func(name string) string { return strings.TrimSpace(getenv(name)) }
	keys := false
	for _, name := range []string{"ECI_ACCESS_KEY", "ECI_SECRET_KEY", "ECI_SECURITY_TOKEN"} {
		keys = keys || env(name) != "" || env(name+"_FILE") != ""
	}
	role := map[string]string{}
	for _, name := range oidcVariables {
		if v := env(name); v != "" {
			role[name] = v
		}
	}
	instanceRole := env("ALIBABA_CLOUD_ECS_METADATA")
	switch {
	case keys || len(role) == 0 && instanceRole == "":
		source, err := credentialsFromEnv(getenv)
		c.Credentials = source
		return err
	case len(role) > 0:
		return c.assume(role, env)
	}
	endpoint := cmp.Or(env("ECI_METADATA_ENDPOINT"), metadataHost)
	if err := checkEndpoint(endpoint); err != nil {
		return fmt.Errorf("ECI_METADATA_ENDPOINT is %q: %w", endpoint, err)
	}
	c.session((&instance{
		client: sessionClient(&http.Transport{Proxy: nil, IdleConnTimeout: time.Second}), endpoint: endpoint, role: instanceRole,
	}).ask)
	return nil
}

// oidcVariables are those that ACK's pod identity webhook sets (RRSA).
var oidcVariables = []string{"ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_OIDC_TOKEN_FILE"}

// assume has the agent act by a role that its service account may assume.
func (c *Config) assume(role map[string]string, env func(string) string) error {
	var errs []error
	for _, name := range oidcVariables {
		if role[name] == "" {
			errs = append(errs, fmt.Errorf("%s is not set: a role by the token of a service account (RRSA) needs %s", name, strings.Join(oidcVariables, ", ")))
		}
	}
	prefix := "sts."
	if strings.EqualFold(env("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED"), "true") {
		prefix = "sts-vpc."
	}
	endpoint := cmp.Or(env("ECI_STS_ENDPOINT"), prefix+cmp.Or(env("ALIBABA_CLOUD_STS_REGION"), c.Region)+".aliyuncs.com")
	if err := checkEndpoint(endpoint); err != nil {
		errs = append(errs, fmt.Errorf("ECI_STS_ENDPOINT is %q: %w", endpoint, err))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.session((&oidc{
		client: sessionClient(&http.Transport{
			Proxy: http.ProxyFromEnvironment, IdleConnTimeout: time.Second,
			TLSClientConfig: &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12},
		}),
		endpoint: endpoint, as: cmp.Or(env("ALIBABA_CLOUD_ROLE_SESSION_NAME"), "autoburst"),
		roleARN: role[oidcVariables[0]], providerARN: role[oidcVariables[1]], tokenFile: role[oidcVariables[2]],
	}).ask)
	if c.AccountID == "" {
		if parts := strings.Split(role[oidcVariables[0]], ":"); len(parts) > 3 { // acs:ram::ACCOUNT:role/NAME
			c.AccountID = parts[3]
		}
	}
	return nil
}

func (c *Config) session(ask func(context.Context) (Credentials, time.Time, error)) {
	s := &session{now: time.Now, ask: ask}
	c.Credentials, c.Refused, c.temporary = s.credentials, s.refused, true
}

func credentialsFromEnv(getenv func(string) string) (CredentialSource, error) {
	get := func(name string) setting {
		return setting{name: name, value: strings.TrimSpace(getenv(name)), file: getenv(name + "_FILE")}
	}
	id, secret, token := get("ECI_ACCESS_KEY"), get("ECI_SECRET_KEY"), get("ECI_SECURITY_TOKEN")
	var errs []error
	if !id.set() {
		errs = append(errs, errors.New("ECI_ACCESS_KEY is not set: set it to the ID of an access key, or ECI_ACCESS_KEY_FILE to a file that holds it; without a key, set ALIBABA_CLOUD_ECS_METADATA to the RAM role of the instance, or "+strings.Join(oidcVariables, ", ")+" for RRSA"))
	}
	if !secret.set() {
		errs = append(errs, errors.New("ECI_SECRET_KEY is not set: set it to the secret of the access key, or ECI_SECRET_KEY_FILE to a file that holds it"))
	}
	for _, s := range []setting{id, secret, token} {
		if s.value != "" && s.file != "" {
			errs = append(errs, fmt.Errorf("%s and %s_FILE are both set: set one of them", s.name, s.name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return func() (Credentials, error) {
		var c Credentials
		var err error
		if c.AccessKeyID, err = id.read(); err != nil {
			return Credentials{}, err
		}
		if c.AccessKeySecret, err = secret.read(); err != nil {
			return Credentials{}, err
		}
		if token.set() {
			if c.SecurityToken, err = token.read(); err != nil {
				return Credentials{}, err
			}
		}
		return c, nil
	}, nil
}
