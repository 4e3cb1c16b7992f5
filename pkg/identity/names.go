package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Names in certificates are SAN URIs. A certificate has exactly one of them; common names mean nothing.
const uriScheme = "hsi"

// SiteURI is the name of a site: hsi://site/<uuid>.
func SiteURI(id ident.SiteID) *url.URL {
	return &url.URL{Scheme: uriScheme, Host: "site", Path: "/" + id.String()}
}

// HubURI is the name of the hub: hsi://hub. Every hub has a CA of its own, so it needs no more.
func HubURI() *url.URL { return &url.URL{Scheme: uriScheme, Host: "hub"} }

// ClientURI is the name of a program or person that calls the API, by the id of the API key whose permissions it has: hsi://client/<uuid>.
func ClientURI(key uuid.UUID) *url.URL {
	return &url.URL{Scheme: uriScheme, Host: "client", Path: "/" + key.String()}
}

// ClientOf returns the id of the API key that an API client's certificate stands for. It says nothing about who signed the certificate.
func ClientOf(c *x509.Certificate) (uuid.UUID, error) {
	u, err := onlyURI(c)
	if err != nil {
		return uuid.UUID{}, err
	}
	text, ok := strings.CutPrefix(u.String(), uriScheme+"://client/")
	if !ok {
		return uuid.UUID{}, fmt.Errorf("certificate of %.80q is not an API client's", u)
	}
	key, err := uuid.Parse(text)
	if err != nil || key.String() != text { // one text for one key
		return uuid.UUID{}, fmt.Errorf("certificate of %.80q names no key", u)
	}
	return key, nil
}

// SiteOf returns the site that a certificate names. It says nothing about who signed the certificate.
func SiteOf(c *x509.Certificate) (ident.SiteID, error) {
	u, err := onlyURI(c)
	if err != nil {
		return ident.SiteID{}, err
	}
	text, ok := strings.CutPrefix(u.String(), uriScheme+"://site/")
	if !ok {
		return ident.SiteID{}, fmt.Errorf("certificate of %.80q is not a site's", u)
	}
	return ident.ParseSiteID(text)
}

// CheckHub returns an error unless the certificate names the hub. It says nothing about who signed the certificate.
func CheckHub(c *x509.Certificate) error {
	u, err := onlyURI(c)
	if err != nil {
		return err
	}
	if u.String() != HubURI().String() {
		return fmt.Errorf("certificate of %.80q is not the hub's", u)
	}
	return nil
}

func onlyURI(c *x509.Certificate) (*url.URL, error) {
	if c == nil {
		return nil, errors.New("no certificate")
	}
	if len(c.URIs) != 1 {
		return nil, fmt.Errorf("certificate has %d URI names, want one", len(c.URIs))
	}
	return c.URIs[0], nil
}
