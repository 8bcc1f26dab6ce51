package installation

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Explain says of an error of the API server's, or on the way to it, what it is and
// what to do, in one line. Other errors are as they are.
func Explain(err error) error {
	var u *url.Error
	server := "the API server"
	if errors.As(err, &u) {
		if parsed, perr := url.Parse(u.URL); perr == nil && parsed.Host != "" {
			server = "the API server " + parsed.Scheme + "://" + parsed.Host
		}
	}
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status) && apierrors.IsUnauthorized(err):
		return explained{"the API server does not know you: the credentials of the kubeconfig's user have expired or are wrong; log in again, or see kubectl auth whoami", err}
	case errors.As(err, &status) || u == nil:
		return err
	}
	return reach(server, err, u)
}

// Reach says why an API server does not answer.
func Reach(server string, err error) error {
	var u *url.Error
	if !errors.As(err, &u) {
		return Explain(err)
	}
	return reach("the API server "+server, err, u)
}

func reach(server string, err error, u *url.Error) error {
	var expired x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var dns *net.DNSError
	const look = "see kubectl config view --minify"
	switch {
	case errors.As(err, &expired) && expired.Reason == x509.Expired:
		return explained{fmt.Sprintf("the certificate of %s has expired or is not valid yet (%s); renew it, or set the clock of this machine", strings.TrimPrefix(server, "the "), expired.Detail), err}
	case errors.As(err, &unknown):
		return explained{fmt.Sprintf("the certificate of %s is signed by an authority that the kubeconfig does not name; %s", server, look), err}
	case errors.As(err, &name):
		return explained{fmt.Sprintf("the certificate of %s is for another name: %v; %s", server, name, look), err}
	case strings.Contains(err.Error(), "tls: expired certificate"), strings.Contains(err.Error(), "tls: bad certificate"):
		return explained{fmt.Sprintf("%s refuses the client certificate of the kubeconfig, which has expired or is of another cluster; %s", server, look), err}
	case errors.Is(err, syscall.ECONNREFUSED):
		return explained{fmt.Sprintf("%s refuses connections; is it running, and is this the right context? %s", server, look), err}
	case errors.As(err, &dns):
		return explained{fmt.Sprintf("%s is not found: %s; %s", server, dns.Error(), look), err}
	case u.Timeout():
		return explained{fmt.Sprintf("%s does not answer in time; %s", server, look), err}
	}
	return explained{fmt.Sprintf("%s cannot be reached: %v; %s", server, u.Err, look), err}
}

// explained is an error in other words.
type explained struct {
	text string
	err  error
}

func (e explained) Error() string { return e.text }
func (e explained) Unwrap() error { return e.err }
