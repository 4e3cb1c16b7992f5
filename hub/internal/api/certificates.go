package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Certificate is one that the hub's certificate authority issued.
type Certificate struct {
	Serial       string `json:"serial" doc:"32 hexadecimal digits"`
	Kind         string `json:"kind" enum:"site,hub,client"`
	State        string `json:"state" enum:"valid,pending,superseded,revoked,expired" doc:"pending: valid, and not used yet; superseded: a newer one of the site has been used"`
	SiteID       string `json:"site_id,omitempty" format:"uuid"`
	SiteName     string `json:"site_name,omitempty"`
	Name         string `json:"name,omitempty" doc:"Of an API client"`
	KeyID        string `json:"key_id,omitempty" format:"uuid" doc:"The API key whose permissions an API client's certificate has"`
	IssuedAt     Time   `json:"issued_at"`
	NotAfter     Time   `json:"not_after"`
	FirstUsedAt  *Time  `json:"first_used_at,omitempty" doc:"Of a site's"`
	SupersededAt *Time  `json:"superseded_at,omitempty"`
	RevokedAt    *Time  `json:"revoked_at,omitempty"`
	RevokedWhy   string `json:"revoked_why,omitempty"`
}

// CARoot is a root of the certificate authority.
type CARoot struct {
	State          string `json:"state" enum:"next,active,retiring,retired" doc:"next: sites learn it, nothing is issued with it yet; retiring: what it issued still counts"`
	Name           string `json:"name"`
	SHA256         string `json:"sha256" doc:"Fingerprint, hexadecimal"`
	NotAfter       Time   `json:"not_after"`
	Issuer         string `json:"issuer" doc:"Its revocation list is /pki/ISSUER.crl"`
	IssuerNotAfter Time   `json:"issuer_not_after"`
	RootKey        string `json:"root_key" enum:"offline,database,issuing,none" doc:"Where the root's private key lies"`
	Certificates   int    `json:"certificates" doc:"Of sites and clients, that count"`
}

// CertificateList is one page of certificates, and the roots.
type CertificateList struct {
	Roots    []CARoot      `json:"roots" nullable:"false" doc:"The active one first"`
	Revoked  int           `json:"revoked" doc:"Certificates that are revoked and have not expired"`
	NotReady []string      `json:"sites_not_ready" nullable:"false" doc:"Names of sites that do not know the next root yet"`
	Warnings []string      `json:"warnings" nullable:"false"`
	Items    []Certificate `json:"items" nullable:"false" doc:"The newest first"`
	Next     string        `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

type certificatesInput struct {
	Kind   string `query:"kind" enum:"site,hub,client"`
	Site   string `query:"site" format:"uuid" doc:"Only certificates of this site"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
	Cursor string `query:"cursor" maxLength:"20" doc:"next of the page before"`
}

type certificatesOutput struct{ Body CertificateList }

func (s *Server) certificateRoutes() {
	register(s, audience(access.CertificatesRead), huma.Operation{
		OperationID: "list-certificates", Method: http.MethodGet, Path: "/api/certificates", Tags: []string{"certificates"},
		Summary: "Certificates of sites, hub processes and API clients, and the roots",
		Errors:  []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, s.listCertificates)
}

func (s *Server) listCertificates(ctx context.Context, in *certificatesInput) (*certificatesOutput, error) {
	if s.pki == nil {
		return nil, apperr.E(apperr.Unavailable, "API_004", "this hub process does not hold the hub's keys")
	}
	f := pki.Filter{Kind: in.Kind, Limit: in.Limit}
	if in.Site != "" {
		id, err := ident.ParseSiteID(in.Site)
		if err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "site: %w", err)
		}
		f.Site = &id
	}
	if in.Cursor != "" {
		var err error
		if f.Before, err = strconv.ParseInt(in.Cursor, 10, 64); err != nil || f.Before <= 0 {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "cursor: want next of the page before")
		}
	}
	st, err := s.pki.Status(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.pki.List(ctx, f)
	if err != nil {
		return nil, err
	}
	out := CertificateList{Roots: []CARoot{}, Revoked: st.Revoked, NotReady: append([]string{}, st.NotReady...), Warnings: st.Warnings, Items: []Certificate{}}
	for _, a := range st.Authorities {
		out.Roots = append(out.Roots, CARoot{
			State: string(a.State), Name: a.Root, SHA256: a.Fingerprint, NotAfter: Time{a.RootNotAfter}, Issuer: a.Issuer, IssuerNotAfter: Time{a.IssuerNotAfter}, RootKey: a.RootKey, Certificates: a.Live,
		})
	}
	for _, c := range list {
		out.Items = append(out.Items, certificateOf(c, s.now()))
	}
	if len(list) == in.Limit {
		out.Next = strconv.FormatInt(list[len(list)-1].Seq, 10)
	}
	return &certificatesOutput{out}, nil
}

func certificateOf(c pki.Certificate, now time.Time) Certificate {
	v := Certificate{
		Serial: c.Serial, Kind: c.Kind, State: "valid", SiteName: c.SiteName, Name: c.Name, IssuedAt: Time{c.IssuedAt}, NotAfter: Time{c.NotAfter},
		FirstUsedAt: timeOrNil(c.FirstUsedAt), SupersededAt: timeOrNil(c.SupersededAt), RevokedAt: timeOrNil(c.RevokedAt), RevokedWhy: c.RevokedWhy,
	}
	if c.Site != nil {
		v.SiteID = ident.SiteID(*c.Site).String()
	}
	if c.Key != nil {
		v.KeyID = c.Key.String()
	}
	switch {
	case c.RevokedAt != nil:
		v.State = "revoked"
	case now.After(c.NotAfter):
		v.State = "expired"
	case c.SupersededAt != nil:
		v.State = "superseded"
	case c.Kind == "site" && c.FirstUsedAt == nil:
		v.State = "pending"
	}
	return v
}

func timeOrNil(t *time.Time) *Time {
	if t == nil {
		return nil
	}
	return &Time{*t}
}
