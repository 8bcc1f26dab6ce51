package aci

import (
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// FederatedCredential says which tokens of another issuer an application may sign
// in with, such as those of a cluster's ServiceAccounts.
type FederatedCredential struct {
	Issuer, Subject string
	// Audiences are the accepted audiences; nil is TokenExchange.
	Audiences []string
	// Keys are the issuer's public keys. The service reads them from the issuer.
	Keys []crypto.PublicKey
}

// TokenExchange is the audience that federated credentials have by default.
const TokenExchange = "api://AzureADTokenExchange"

// assertionType is the only kind of assertion (RFC 7523).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// checkAssertion compares a token of another issuer with the application's federated
// credentials. Codes are those of the Microsoft Entra error code reference.
func (a *authority) checkAssertion(app Application, kind, assertion string) (entraError, bool) {
	refuse := func(code int, format string, args ...any) (entraError, bool) {
		return entraError{http.StatusUnauthorized, "invalid_client", code, fmt.Sprintf(format, args...)}, false
	}
	if kind != assertionType {
		return entraError{http.StatusBadRequest, "invalid_request", 900144,
			"The request body must contain the following parameter: 'client_assertion_type'."}, false
	}
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(assertion, &claims); err != nil {
		return refuse(50027, "JWT token is invalid or malformed.")
	}
	of := slices.DeleteFunc(slices.Clone(app.Federated), func(f FederatedCredential) bool { return f.Issuer != claims.Issuer })
	if len(of) == 0 {
		return refuse(700211, "No matching federated identity record found for presented assertion issuer '%s'.", claims.Issuer)
	}
	of = slices.DeleteFunc(of, func(f FederatedCredential) bool { return f.Subject != claims.Subject })
	if len(of) == 0 {
		return refuse(700213, "No matching federated identity record found for presented assertion subject '%s'.", claims.Subject)
	}
	of = slices.DeleteFunc(of, func(f FederatedCredential) bool {
		audiences := f.Audiences
		if len(audiences) == 0 {
			audiences = []string{TokenExchange}
		}
		return !slices.ContainsFunc(claims.Audience, func(given string) bool { return slices.Contains(audiences, given) })
	})
	if len(of) == 0 {
		return refuse(700212, "No matching federated identity record found for presented assertion audience '%v'.", claims.Audience)
	}
	var keys jwt.VerificationKeySet
	for _, f := range of {
		for _, key := range f.Keys {
			keys.Keys = append(keys.Keys, key)
		}
	}
	_, err := jwt.ParseWithClaims(assertion, &claims, func(*jwt.Token) (any, error) { return keys, nil },
		jwt.WithValidMethods([]string{"RS256", "ES256"}), jwt.WithTimeFunc(a.clock.Now), jwt.WithExpirationRequired())
	switch {
	case errors.Is(err, jwt.ErrTokenExpired), errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return refuse(700024, "Client assertion is not within its valid time range.")
	case err != nil:
		return refuse(700027, "Client assertion failed signature validation.")
	}
	return entraError{}, true
}
