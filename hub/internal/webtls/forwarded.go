package webtls

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// ChainHeader holds the certificates above a forwarded one (RFC 9440).
const ChainHeader = "Client-Cert-Chain"

// Forwarded reads the certificate that a proxy saw at its client from a header, in the form of RFC 9440 (:base64:) or as URL-encoded PEM, as
// nginx's $ssl_client_escaped_cert; and the chain above it where the header is RFC 9440's own. Whether the request came from a proxy that may
// say so is the caller's to know. Without the header there is none.
func Forwarded(h http.Header, name string) ([]*x509.Certificate, error) {
	values := h.Values(name)
	if len(values) == 0 || len(values) == 1 && strings.TrimSpace(values[0]) == "" {
		return nil, nil
	}
	if len(values) > 1 {
		return nil, errors.New("more than one certificate was forwarded")
	}
	text := strings.TrimSpace(values[0])
	if !strings.HasPrefix(text, ":") {
		plain, err := url.PathUnescape(text)
		if err != nil {
			return nil, errors.New("the forwarded certificate is neither URL-encoded PEM nor of RFC 9440")
		}
		block, rest := pem.Decode([]byte(plain))
		if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
			return nil, errors.New("the forwarded certificate is not one certificate in PEM")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("the forwarded certificate cannot be read")
		}
		return []*x509.Certificate{c}, nil
	}
	items := []string{text}
	if strings.EqualFold(name, "Client-Cert") {
		for _, v := range h.Values(ChainHeader) {
			items = append(items, strings.Split(v, ",")...)
		}
	}
	if len(items) > maxChain {
		return nil, errors.New("the forwarded chain is too long")
	}
	var chain []*x509.Certificate
	for _, item := range items {
		item = strings.TrimSpace(item)
		inner, ok := strings.CutPrefix(item, ":")
		inner, closed := strings.CutSuffix(inner, ":")
		der, err := base64.StdEncoding.DecodeString(inner)
		if !ok || !closed || err != nil {
			return nil, errors.New("the forwarded certificate is not of the form of RFC 9440")
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, errors.New("the forwarded certificate cannot be read")
		}
		chain = append(chain, c)
	}
	return chain, nil
}
