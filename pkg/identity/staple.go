package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// ErrHubRevoked means that the hub's own CA says that this certificate of the hub was revoked: its key is in wrong hands.
var ErrHubRevoked = errors.New("certificate was revoked")

// stapleSkew is how far the clocks of site and hub may be apart before an OCSP answer is taken for an old one.
const stapleSkew = 10 * time.Minute

// checkStaple reads the OCSP answer that a hub shows with its certificate. revoked is true only when the issuer, or a responder that the issuer made for
// this, says so; err tells why the answer is no proof that the certificate is good.
func checkStaple(staple []byte, leaf, issuer *x509.Certificate, now time.Time) (revoked bool, err error) {
	if len(staple) == 0 {
		return false, errors.New("the hub shows no OCSP answer")
	}
	res, err := ocsp.ParseResponseForCert(staple, leaf, issuer)
	if err != nil {
		return false, fmt.Errorf("the hub's OCSP answer: %w", err)
	}
	// The package checks who signed the responder's certificate and not what for: any site's certificate would do.
	if c := res.Certificate; c != nil && !c.Equal(issuer) {
		if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || now.Before(c.NotBefore.Add(-stapleSkew)) || now.After(c.NotAfter.Add(stapleSkew)) {
			return false, errors.New("the hub's OCSP answer is signed by a certificate that is not made for it")
		}
	}
	switch {
	case res.Status == ocsp.Revoked: // for good, however old
		return true, nil
	case res.Status != ocsp.Good:
		return false, errors.New("the hub's OCSP answer does not know its certificate")
	case now.Before(res.ThisUpdate.Add(-stapleSkew)), now.After(res.NextUpdate.Add(stapleSkew)):
		return false, fmt.Errorf("the hub's OCSP answer holds from %s to %s", res.ThisUpdate.UTC().Format(time.RFC3339), res.NextUpdate.UTC().Format(time.RFC3339))
	}
	return false, nil
}
