package eci

import (
	"errors"
	"fmt"
	"os"
	"strings"
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

func credentialsFromEnv(getenv func(string) string) (CredentialSource, error) {
	get := func(name string) setting {
		return setting{name: name, value: strings.TrimSpace(getenv(name)), file: getenv(name + "_FILE")}
	}
	id, secret, token := get("ECI_ACCESS_KEY"), get("ECI_SECRET_KEY"), get("ECI_SECURITY_TOKEN")
	var errs []error
	if !id.set() {
		errs = append(errs, errors.New("ECI_ACCESS_KEY is not set: set it to the ID of an access key, or ECI_ACCESS_KEY_FILE to a file that holds it"))
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
