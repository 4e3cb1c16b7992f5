// Package webtls is the certificates' side of the web API: the server's certificate from files that are read again when they
// change, and the question whether a client's certificate counts: issued by a CA that may name clients, within its time, for
// clients, with an allowed subject, and not revoked, by a list or by OCSP. It knows neither keys nor permissions: package api asks it on every
// request, resumed sessions and certificates forwarded by a proxy included, and package access maps the identity to a key.
// hubd builds it.
package webtls

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// OCSP modes.
const (
	OCSPOff  = "off"
	OCSPSoft = "soft" // a responder that does not answer stops nobody, and is an alert
	OCSPHard = "hard" // nobody passes whose responder does not answer
)

const (
	passFor       = 3 * time.Second // longest that an answer is believed without looking again
	passEntries   = 1024
	filesEvery    = 5 * time.Second // between two looks at the files
	handshakeWait = 5 * time.Second
	maxChain      = 5
)

// Why a client's certificate does not count; labels of the metric. A handshake fails only for ReasonUntrusted: anybody else is told
// why in the answer to the request.
const (
	ReasonUntrusted = "untrusted"   // not of a CA that may name clients, or not for clients
	ReasonTime      = "time"        // expired, or not yet valid
	ReasonSubject   = "subject"     // no allowed pattern
	ReasonRevoked   = "revoked"     // by a list, OCSP or the hub
	ReasonRefused   = "refused"     // by the hub's own CA, whose text says why
	ReasonUnknown   = "unavailable" // whether it is revoked cannot be found out
)

// Error says why a client's certificate does not count.
type Error struct {
	Reason string
	Text   string
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

func refusal(reason, format string, args ...any) error {
	return &Error{Reason: reason, Text: fmt.Sprintf(format, args...)}
}

// Identity is who a certificate names.
type Identity struct {
	// Name is uri: and the first URI among the certificate's names, or else dn: and its subject.
	Name string
	// Key is the API key that a certificate of the hub's own CA was made for; zero for others.
	Key      [16]byte
	Subject  string
	NotAfter time.Time
}

// Config describes a TLS.
type Config struct {
	Cert, Key    string   // files of the server's certificate with its chain, and its key; both empty: no TLS of our own
	VerifyClient bool     // ask clients for a certificate
	CAs          []string // files with the CAs that may name clients
	// Own is asked about certificates that none of CAs issued: the hub's own CA for API clients. It names the API key that a
	// certificate stands for, or refuses with an *Error. Nil: only CAs count.
	Own        func(ctx context.Context, chain []*x509.Certificate) (key [16]byte, err error)
	Patterns   []Pattern    // a client's subject must match one; empty: any
	CRLs       []string     // files or http(s) URLs of revocation lists; each must be there and current, or its CA's clients are refused
	OCSP       string       // OCSPOff, OCSPSoft or OCSPHard, for certificates that name a responder; "" means OCSPOff
	Client     *http.Client // for lists and OCSP; nil means one with time-outs that follows no redirect
	Now        func() time.Time
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// TLS is the web API's TLS. It is safe for concurrent use.
type TLS struct {
	c       Config
	now     func() time.Time
	log     *slog.Logger
	client  *http.Client
	metrics *metrics

	mu     sync.Mutex
	files  *loaded
	stamps []stamp
	passed map[[32]byte]pass // certificates that counted a moment ago
	crls   map[string]*revocations
	ocsp   map[string]*answer
}

type pass struct {
	who Identity
	at  time.Time
}

// New reads the files once, so that what is missing or malformed is found before the hub listens.
func New(ctx context.Context, c Config) (*TLS, error) {
	t := &TLS{
		c: c, now: c.Now, log: c.Log, client: c.Client, metrics: newMetrics(),
		passed: make(map[[32]byte]pass), crls: make(map[string]*revocations), ocsp: make(map[string]*answer),
	}
	if t.now == nil {
		t.now = time.Now
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if t.client == nil {
		t.client = &http.Client{Timeout: fetchTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if (c.Cert == "") != (c.Key == "") {
		return nil, errors.New("webtls: a certificate and its key go together")
	}
	if c.VerifyClient && len(c.CAs) == 0 && c.Own == nil {
		return nil, errors.New("webtls: to verify clients a CA is needed")
	}
	paths := append(append([]string{}, c.CAs...), c.Cert, c.Key)
	t.stamps = stampOf(paths...)
	l, err := t.read()
	if err != nil {
		return nil, err
	}
	t.take(l)
	t.refreshCRLs(ctx)
	if c.Registerer != nil {
		if err := c.Registerer.Register(t.metrics); err != nil {
			return nil, fmt.Errorf("webtls metrics: %w", err)
		}
	}
	return t, nil
}

// Run looks for changed files and new revocation lists until ctx ends.
func (t *TLS) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(filesEvery):
		}
		t.refresh(ctx)
		t.refreshCRLs(ctx)
	}
}

// Reload reads files and lists again now.
func (t *TLS) Reload(ctx context.Context) {
	t.refresh(ctx)
	t.refreshCRLs(ctx)
}

// Verifies reports whether clients' certificates are looked at.
func (t *TLS) Verifies() bool { return t.c.VerifyClient }

func (t *TLS) current() *loaded {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.files
}

// Server returns the settings of the web listener; nil without a certificate of our own.
//
// A client is asked for a certificate and may come without: package api decides where one is needed. crypto/tls itself verifies
// nothing, because a client whose handshake fails does not learn why; and VerifyConnection, unlike VerifyPeerCertificate, is called
// for resumed sessions too.
func (t *TLS) Server() *tls.Config {
	if t.c.Cert == "" {
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if pair := t.current().pair; pair != nil {
				return pair, nil
			}
			return nil, errors.New("there is no server certificate")
		},
		ClientAuth: t.clientAuth(),
		Time:       t.now,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if !t.c.VerifyClient || len(cs.PeerCertificates) == 0 {
				return nil
			}
			ctx, cancel := context.WithTimeout(context.Background(), handshakeWait)
			defer cancel()
			_, err := t.Verify(ctx, cs.PeerCertificates)
			var refused *Error
			if errors.As(err, &refused) && refused.Reason != ReasonUntrusted {
				return nil // the answer to the request says why
			}
			return err
		},
	}
}

func (t *TLS) clientAuth() tls.ClientAuthType {
	if t.c.VerifyClient {
		return tls.RequestClientCert
	}
	return tls.NoClientCert
}

// Verify decides whether a client's certificate counts now; the leaf comes first. A refusal is an *Error.
func (t *TLS) Verify(ctx context.Context, chain []*x509.Certificate) (Identity, error) {
	who, err := t.verify(ctx, chain)
	var refused *Error
	if errors.As(err, &refused) {
		t.metrics.refused.WithLabelValues(refused.Reason).Inc()
	}
	return who, err
}

func (t *TLS) verify(ctx context.Context, chain []*x509.Certificate) (Identity, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return Identity{}, refusal(ReasonUntrusted, "a client's chain has 1 to %d certificates, this one has %d", maxChain, len(chain))
	}
	leaf, now := chain[0], t.now()
	sum := sha256.Sum256(leaf.Raw)
	t.mu.Lock()
	p, ok := t.passed[sum]
	t.mu.Unlock()
	if ok && now.Sub(p.at) < passFor && !now.Before(p.at) && !now.After(leaf.NotAfter) {
		return p.who, nil
	}
	who, err := t.look(ctx, chain, now)
	if err != nil {
		return Identity{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.passed) >= passEntries {
		clear(t.passed)
	}
	t.passed[sum] = pass{who, now}
	return who, nil
}

func (t *TLS) look(ctx context.Context, chain []*x509.Certificate, now time.Time) (Identity, error) {
	leaf := chain[0]
	files := t.current()
	between := files.between.Clone()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	o := x509.VerifyOptions{Roots: files.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	ways, err := leaf.Verify(o)
	ours := err != nil && t.c.Own != nil
	if err != nil && (now.Before(leaf.NotBefore) || now.After(leaf.NotAfter)) {
		// Who had a certificate that counted is told that it has run out.
		o.CurrentTime = leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
		if _, terr := leaf.Verify(o); terr == nil {
			return Identity{}, refusal(ReasonTime, "the client certificate is valid from %s to %s, and it is %s here",
				leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		}
	}
	if err != nil && !ours {
		return Identity{}, refusal(ReasonUntrusted, "the client certificate was not issued, for clients, by a CA that this hub trusts for that")
	}
	who := Identity{Name: "dn:" + leaf.Subject.String(), Subject: leaf.Subject.String(), NotAfter: leaf.NotAfter}
	if len(leaf.URIs) > 0 {
		who.Name = "uri:" + leaf.URIs[0].String()
	}
	if ours {
		if who.Key, err = t.c.Own(ctx, chain); err != nil {
			return Identity{}, fmt.Errorf("check a client certificate: %w", err)
		}
	}
	if !allowed(t.c.Patterns, leaf) {
		return Identity{}, refusal(ReasonSubject, "the client certificate's subject is not one of those allowed here")
	}
	if ours {
		return who, nil
	}
	// One way to a root is enough, if nothing on it is revoked.
	var last error
	for _, way := range ways {
		if last = t.checkWay(ctx, way, now); last == nil {
			return who, nil
		}
	}
	return Identity{}, last
}

func (t *TLS) checkWay(ctx context.Context, way []*x509.Certificate, now time.Time) error {
	for i, c := range way {
		if i+1 == len(way) {
			return nil // a root is revoked by taking it out of the file
		}
		if err := t.checkLists(c, way[i+1], now); err != nil {
			return err
		}
		if i == 0 {
			if err := t.checkOCSP(ctx, c, way[i+1], now); err != nil {
				return err
			}
		}
	}
	return nil
}

// metrics are the web API's certificates'; one collector, so that they come and go together.
type metrics struct {
	refused  *prometheus.CounterVec
	reloads  *prometheus.CounterVec
	lists    *prometheus.CounterVec
	ocsp     *prometheus.CounterVec
	notAfter prometheus.Gauge
	listAge  *prometheus.GaugeVec
}

func newMetrics() *metrics {
	return &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_client_certificates_refused_total", Help: "Client certificates of the web API that did not count, by reason.",
		}, []string{"reason"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_web_certificate_reloads_total", Help: "Times the files of the web API's certificates changed, by whether they could be read.",
		}, []string{"outcome"}),
		lists: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_web_crl_reads_total", Help: "Times a revocation list of client certificates was read, by outcome.",
		}, []string{"outcome"}),
		ocsp: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_web_ocsp_total", Help: "Questions to OCSP responders about client certificates, by answer.",
		}, []string{"answer"}),
		notAfter: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_web_certificate_not_after_seconds", Help: "Unix time when the web API's server certificate expires; 0 without one.",
		}),
		listAge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hashinsight_web_crl_next_update_seconds", Help: "Unix time until which a configured revocation list is current, by its place in MTLS_CRL from 1.",
		}, []string{"list"}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.refused, m.reloads, m.lists, m.ocsp, m.notAfter, m.listAge}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}
