package enrol

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/pkg/identity"
	enrolv1 "github.com/hashinsight/hashinsight/proto/enrol/v1"
)

func TestAHolderOfATokenBecomesTheSitesAgent(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	token := o.token(NewToken{SiteName: " north "})
	m.mustJoin(o.Server, token)
	b := m.bundle
	if b.SiteName != "north" || b.HubAddress != "hub.example:5443" || b.FallbackAddress != "hub.example:443" || len(b.CA) != 1 {
		t.Errorf("bundle %+v", b)
	}
	who, err := o.ca.Verify(t.Context(), b.Certificate)
	if err != nil || who.Site != b.Site || who.NotAfter.Sub(o.clock.now()) > 24*time.Hour {
		t.Errorf("the certificate counts as %+v, %v", who, err)
	}
	tunnel := b.Tunnel
	if tunnel == nil || tunnel.PublicKey != base64.StdEncoding.EncodeToString(m.wg.PublicKey().Bytes()) || !netip.MustParsePrefix("10.8.0.0/16").Contains(tunnel.Address.Addr()) ||
		tunnel.Address.Bits() != 32 || tunnel.Endpoint != "hub.example:51820" || tunnel.HubAddress != "10.8.0.1:5443" || tunnel.PresharedKey != identity.PSKID(m.psk) || len(m.psk) != 32 {
		t.Errorf("tunnel %+v", tunnel)
	}
	list, err := o.store.Tokens(t.Context(), TokenCursor{}, 10)
	if err != nil || len(list) != 1 || list[0].State != StateUsed || list[0].Site != b.Site || list[0].UsedFrom != "203.0.113.7" {
		t.Errorf("tokens %+v, %v", list, err)
	}
	for _, action := range []string{"enrol_token_created", "site_joined", "peer_added", "certificate_issued"} {
		if o.audited(action) != 1 {
			t.Errorf("%d entries %s", o.audited(action), action)
		}
	}
	if n := o.count(`SELECT count(*) FROM enrol_token t WHERE t::text LIKE '%' || $1 || '%'`, token.Reveal()[30:]); n != 0 {
		t.Error("the token's text is stored")
	}
}

func TestTheSameKeysGetTheSameAnswerAgain(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	token := o.token(NewToken{})
	m.mustJoin(o.Server, token)
	first := m.bundle
	psk := m.psk
	m.mustJoin(o.Server, token) // the answer was lost
	if m.bundle.Site != first.Site || m.bundle.Tunnel.Address != first.Tunnel.Address || !bytes.Equal(psk, m.psk) {
		t.Errorf("got %+v after %+v", m.bundle, first)
	}
	if n := o.count(`SELECT count(*) FROM peer_address`); n != 1 {
		t.Errorf("%d addresses were given", n)
	}
	wantReason(t, second(newMachine(t).join(o.Server, token)), identity.ReasonTokenUsed)
	o.clock.advance(time.Hour)
	wantReason(t, second(m.join(o.Server, token)), identity.ReasonTokenUsed) // it is no way to a certificate for ever
}

func TestAnOldTokenIsNoWayBackOnceTheSiteHasJoinedAnew(t *testing.T) {
	t.Run("a machine that was stolen, after the site was revoked and replaced", func(t *testing.T) {
		o, stolen, next := newOffice(t), newMachine(t), newMachine(t)
		token := o.token(NewToken{ValidFor: MaxValidity})
		stolen.mustJoin(o.Server, token)
		o.must(o.store.Revoke(t.Context(), stolen.bundle.Site, "stolen van", operator))
		next.mustJoin(o.Server, o.token(NewToken{ReplaceKey: true}))
		wantReason(t, second(stolen.join(o.Server, token)), identity.ReasonTokenUsed)
		if _, err := o.ca.Verify(t.Context(), next.bundle.Certificate); err != nil {
			t.Errorf("the site itself: %v", err)
		}
	})
	t.Run("a replaced machine that was not revoked", func(t *testing.T) {
		o, lost, next := newOffice(t), newMachine(t), newMachine(t)
		token := o.token(NewToken{ValidFor: MaxValidity})
		lost.mustJoin(o.Server, token)
		next.mustJoin(o.Server, o.token(NewToken{ReplaceKey: true}))
		wantReason(t, second(lost.join(o.Server, token)), identity.ReasonTokenUsed)
	})
}

func TestWhoIsCutOffHasNoOtherTokenLeft(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	m.mustJoin(o.Server, o.token(NewToken{}))
	open, approved, foreign := o.token(NewToken{}), o.token(NewToken{Approval: true}), o.token(NewToken{SiteName: "south"})
	if p, err := m.join(o.Server, approved); err != nil || p == nil {
		t.Fatalf("%v, pending %v", err, p)
	}
	o.must(o.store.Decide(t.Context(), approved.ID, m.fingerprint(), true, operator))
	o.must(o.store.Revoke(t.Context(), m.bundle.Site, "stolen van", operator))
	wantReason(t, second(m.join(o.Server, open)), identity.ReasonTokenRevoked)
	wantReason(t, second(m.join(o.Server, approved)), identity.ReasonTokenRevoked)
	newMachine(t).mustJoin(o.Server, foreign)
}

func TestCuttingOffASiteThatJoinsJustNow(t *testing.T) {
	o := newOffice(t)
	first := newMachine(t)
	first.mustJoin(o.Server, o.token(NewToken{}))
	site := first.bundle.Site
	for range 20 {
		m := newMachine(t)
		r := m.enrolRequest(o.Server, o.token(NewToken{ReplaceKey: true}))
		var wait sync.WaitGroup
		wait.Go(func() {
			if g, err := o.Enrol(m.ctx(), r); err == nil {
				m.take(g.GetGrant())
			} else if st, _ := status.FromError(err); reasonOf(st) != identity.ReasonTokenRevoked {
				t.Errorf("joining: %v", err)
			}
		})
		wait.Go(func() {
			if err := o.store.Revoke(t.Context(), site, "stolen van", operator); err != nil {
				t.Errorf("revoking: %v", err)
			}
		})
		wait.Wait()
		if m.bundle.Certificate != nil {
			if _, err := o.ca.Verify(t.Context(), m.bundle.Certificate); err == nil {
				t.Error("a site that was cut off is let in")
			}
		}
	}
}

func TestAskingAgainAndAgainMakesNoCertificates(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	token := o.token(NewToken{})
	for range 5 {
		m.mustJoin(o.Server, token)
		if _, err := o.ca.Verify(t.Context(), m.bundle.Certificate); err != nil {
			t.Fatal(err)
		}
	}
	if n := o.count(`SELECT count(*) FROM certificate WHERE kind = 'site'`); n != 1 {
		t.Errorf("%d certificates for one answer", n)
	}
}

func second[T any](_ T, err error) error { return err }

func TestFiftyRaceForOneTokenAndOneWins(t *testing.T) {
	o := newOffice(t)
	other := openOffice(t, o.db, o.clock, "10.8.0.0/16") // a second hub process
	token := o.token(NewToken{})
	var won atomic.Int32
	var racers sync.WaitGroup
	start := make(chan struct{})
	for i := range 50 {
		v := []*Server{o.Server, other.Server}[i%2]
		m := newMachine(t)
		m.from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 4000).String()
		r := m.enrolRequest(v, token)
		racers.Go(func() {
			<-start
			if _, err := v.Enrol(m.ctx(), r); err == nil {
				won.Add(1)
			} else {
				wantReason(t, err, identity.ReasonTokenUsed)
			}
		})
	}
	close(start)
	racers.Wait()
	if won.Load() != 1 || o.count(`SELECT count(*) FROM site`) != 1 || o.count(`SELECT count(*) FROM peer_address`) != 1 || o.count(`SELECT count(*) FROM certificate WHERE kind = 'site'`) != 1 {
		t.Errorf("%d of 50 won", won.Load())
	}
	if o.audited("enrol_denied") != 49 || o.audited("site_joined") != 1 {
		t.Errorf("%d denials are in the audit log", o.audited("enrol_denied"))
	}
}

func TestRefusalsSayWhy(t *testing.T) {
	o := newOffice(t)
	taken := newMachine(t)
	taken.mustJoin(o.Server, o.token(NewToken{SiteName: "taken"}))
	type attempt struct {
		name   string
		reason string
		change func(m *machine, r *enrolv1.EnrolRequest)
		token  func() identity.Token
	}
	fresh := func(n NewToken) func() identity.Token { return func() identity.Token { return o.token(n) } }
	plain := func(*machine, *enrolv1.EnrolRequest) {}
	for _, a := range []attempt{
		{"a token of another hub", identity.ReasonTokenUnknown, plain, func() identity.Token { return identity.NewToken("dev", o.ca.RootFingerprint()) }},
		{"a token of the other environment", identity.ReasonTokenUnknown, plain, func() identity.Token { return identity.NewToken("prod", o.ca.RootFingerprint()) }},
		{"a token with a changed secret", identity.ReasonTokenUnknown, func(_ *machine, r *enrolv1.EnrolRequest) {
			flip := "A"
			if strings.HasSuffix(r.Token, flip) {
				flip = "B"
			}
			r.Token = r.Token[:len(r.Token)-1] + flip
		}, fresh(NewToken{})},
		{"no token", identity.ReasonTokenUnknown, func(_ *machine, r *enrolv1.EnrolRequest) { r.Token = "" }, fresh(NewToken{})},
		{"a revoked token", identity.ReasonTokenRevoked, plain, func() identity.Token {
			token := o.token(NewToken{})
			o.must(o.store.RevokeToken(t.Context(), token.ID, operator))
			return token
		}},
		{"a wrong network", identity.ReasonTokenNetwork, plain, fresh(NewToken{Source: netip.MustParsePrefix("198.51.100.0/24")})},
		{"an old agent", identity.ReasonTooOld, func(_ *machine, r *enrolv1.EnrolRequest) { r.Protocol = 0 }, fresh(NewToken{})},
		{"a new agent", identity.ReasonTooNew, func(_ *machine, r *enrolv1.EnrolRequest) { r.Protocol = 2 }, fresh(NewToken{})},
		{"a weak TLS key", identity.ReasonKeyWeak, func(m *machine, r *enrolv1.EnrolRequest) {
			k, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
			o.must(err)
			m.tls = k
			m.sign()
			r.Request = m.request
			r.Wireguard = m.prove(m.begin(o.Server), m.wg, m.request)
		}, fresh(NewToken{})},
		{"a WireGuard key of low order", identity.ReasonKeyWeak, func(_ *machine, r *enrolv1.EnrolRequest) { r.Wireguard.PublicKey = make([]byte, 32) }, fresh(NewToken{})},
		{"a short WireGuard key", identity.ReasonKeyWeak, func(_ *machine, r *enrolv1.EnrolRequest) { r.Wireguard.PublicKey = []byte{1} }, fresh(NewToken{})},
		{"a WireGuard key without its private half", identity.ReasonProof, func(_ *machine, r *enrolv1.EnrolRequest) { r.Wireguard.PublicKey = taken.wg.PublicKey().Bytes() }, fresh(NewToken{})},
		{"a proof for another request", identity.ReasonProof, func(m *machine, r *enrolv1.EnrolRequest) { r.Request = newMachine(t).request }, fresh(NewToken{})},
		{"a request that is none", identity.ReasonProof, func(_ *machine, r *enrolv1.EnrolRequest) { r.Request = []byte("x") }, fresh(NewToken{})},
		{"a foreign challenge", identity.ReasonChallenge, func(_ *machine, r *enrolv1.EnrolRequest) { r.Wireguard.Challenge[3]++ }, fresh(NewToken{})},
		{"an evidence key of another site", identity.ReasonKeyTaken, func(m *machine, r *enrolv1.EnrolRequest) {
			m.evidence = taken.evidence
			m.sign()
			r.Request = m.request
			r.Wireguard = m.prove(m.begin(o.Server), m.wg, m.request)
		}, fresh(NewToken{})},
		{"a WireGuard key of another site", identity.ReasonKeyTaken, func(m *machine, r *enrolv1.EnrolRequest) {
			r.Wireguard = m.prove(m.begin(o.Server), taken.wg, m.request)
		}, fresh(NewToken{})},
		{"another key for a known site", identity.ReasonKeyOther, plain, fresh(NewToken{SiteName: "taken"})},
		{"an expired token", identity.ReasonTokenExpired, plain, func() identity.Token {
			token := o.token(NewToken{ValidFor: time.Minute})
			o.clock.advance(time.Minute)
			return token
		}},
	} {
		t.Run(a.name, func(t *testing.T) {
			o.t = t
			m := newMachine(t)
			token := a.token()
			r := m.enrolRequest(o.Server, token)
			a.change(m, r)
			sites, certs, addresses := o.count(`SELECT count(*) FROM site`), o.count(`SELECT count(*) FROM certificate`), o.count(`SELECT count(*) FROM peer_address`)
			_, err := o.Enrol(m.ctx(), r)
			wantReason(t, err, a.reason)
			if o.count(`SELECT count(*) FROM site`) != sites || o.count(`SELECT count(*) FROM certificate`) != certs || o.count(`SELECT count(*) FROM peer_address`) != addresses {
				t.Error("a refused caller left something behind")
			}
			o.clock.advance(time.Minute) // the address may try again
		})
	}
}

// A failed registration does not burn the token: headscale#3371.
func TestAFailedJoinLeavesTheTokenAsItWas(t *testing.T) {
	o, first, m := newOffice(t), newMachine(t), newMachine(t)
	first.mustJoin(o.Server, o.token(NewToken{SiteName: "first"}))
	token := o.token(NewToken{})
	key := m.wg
	m.wg = first.wg // a copied identity
	wantReason(t, second(m.join(o.Server, token)), identity.ReasonKeyTaken)
	m.wg = key
	m.mustJoin(o.Server, token)
}

func TestAddressesUsedUpIsSaidAndLeavesTheToken(t *testing.T) {
	db := newOffice(t).db
	o := openOffice(t, db, &clock{at: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)}, "10.9.0.0/29") // five sites
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		token := o.token(NewToken{SiteName: name})
		if _, err := newMachine(t).join(o.Server, token); err != nil {
			wantReason(t, err, identity.ReasonHubFull)
			if !strings.Contains(err.Error(), "WG_NETWORK") {
				t.Errorf("%v does not name the setting", err)
			}
			if n := o.count(`SELECT count(*) FROM enrol_token WHERE id = $1 AND used_at IS NULL`, token.ID); n != 1 {
				t.Error("the token is burnt")
			}
			return
		}
	}
	t.Error("a network of eight addresses holds eight sites")
}

func TestAPersonComparesFingerprints(t *testing.T) {
	o, m, thief := newOffice(t), newMachine(t), newMachine(t)
	token := o.token(NewToken{Approval: true})
	for range 2 {
		p, err := m.join(o.Server, token)
		if err != nil || p.GetFingerprint() != m.fingerprint() || p.GetRetryAfterMs() == 0 {
			t.Fatalf("pending %+v, %v, want %s", p, err, m.fingerprint())
		}
	}
	wantReason(t, second(thief.join(o.Server, token)), identity.ReasonTokenUsed)
	waiting, err := o.store.Waiting(t.Context())
	if err != nil || len(waiting) != 1 || waiting[0].Fingerprint != m.fingerprint() || waiting[0].ClaimedFrom != "203.0.113.7" || waiting[0].State != StateWaiting {
		t.Fatalf("waiting %+v, %v", waiting, err)
	}
	if err := o.store.Decide(t.Context(), token.ID, thief.fingerprint(), true, operator); apperr.Of(err).Code != "CONFLICT_001" {
		t.Errorf("another fingerprint was approved: %v", err)
	}
	o.must(o.store.Decide(t.Context(), token.ID, strings.ToUpper(strings.ReplaceAll(m.fingerprint(), "-", " ")), true, operator))
	wantReason(t, second(thief.join(o.Server, token)), identity.ReasonTokenUsed)
	m.mustJoin(o.Server, token)
	if err := o.store.Decide(t.Context(), token.ID, m.fingerprint(), false, operator); err == nil {
		t.Error("a decision can be made twice")
	}
	if o.audited("enrol_waits") != 1 || o.audited("enrol_approved") != 1 {
		t.Error("waiting and approval are not in the audit log")
	}

	token = o.token(NewToken{SiteName: "south", Approval: true})
	if p, err := thief.join(o.Server, token); err != nil || p == nil {
		t.Fatal(p, err)
	}
	o.must(o.store.Decide(t.Context(), token.ID, thief.fingerprint(), false, operator))
	wantReason(t, second(thief.join(o.Server, token)), identity.ReasonTokenRefused)
	wantReason(t, second(newMachine(t).join(o.Server, token)), identity.ReasonTokenRefused)
}

func TestARevokedSiteComesBackByAToken(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	token := o.token(NewToken{})
	m.mustJoin(o.Server, token)
	site, address := m.bundle.Site, m.bundle.Tunnel.Address
	o.must(o.store.Revoke(t.Context(), site, "stolen van", operator))
	if n := o.count(`SELECT count(*) FROM peer WHERE removed_at IS NULL`); n != 0 {
		t.Error("its tunnel is still there")
	}
	wantReason(t, second(o.Sync(m.ctx(m.bundle.Certificate...), &enrolv1.SyncRequest{Protocol: 1})), identity.ReasonCertRevoked)
	wantReason(t, second(o.Renew(m.ctx(m.bundle.Certificate...), &enrolv1.RenewRequest{Protocol: 1, Csr: m.csr(m.tls)})), identity.ReasonCertRevoked)
	wantReason(t, m.recover(o, m.tls), identity.ReasonCertRevoked)
	wantReason(t, second(m.join(o.Server, token)), identity.ReasonSiteRevoked) // the token that it joined with

	m.mustJoin(o.Server, o.token(NewToken{}))
	if m.bundle.Site != site || m.bundle.Tunnel.Address != address {
		t.Errorf("it came back as %s at %s, was %s at %s", m.bundle.Site, m.bundle.Tunnel.Address, site, address)
	}
	if _, err := o.ca.Verify(t.Context(), m.bundle.Certificate); err != nil {
		t.Errorf("and is not let in: %v", err)
	}
	if o.audited("site_cut_off") != 1 {
		t.Error("the revocation is not in the audit log")
	}
}

func TestALostMachineIsReplacedOnOrder(t *testing.T) {
	o, lost, next := newOffice(t), newMachine(t), newMachine(t)
	lost.mustJoin(o.Server, o.token(NewToken{}))
	wantReason(t, second(next.join(o.Server, o.token(NewToken{}))), identity.ReasonKeyOther)
	next.mustJoin(o.Server, o.token(NewToken{ReplaceKey: true}))
	if next.bundle.Site != lost.bundle.Site || next.bundle.Tunnel.Address != lost.bundle.Tunnel.Address {
		t.Errorf("the site is another one: %+v", next.bundle)
	}
	if n := o.count(`SELECT count(*) FROM site_key WHERE revoked_at IS NULL`); n != 1 {
		t.Errorf("%d evidence keys are valid", n)
	}
	wantReason(t, lost.recover(o, lost.tls), identity.ReasonKeyOther)
}

// csr asks for a certificate for a key.
func (m *machine) csr(key *ecdsa.PrivateKey) []byte {
	m.t.Helper()
	der, err := identity.NewCSR(key)
	if err != nil {
		m.t.Fatal(err)
	}
	return der
}

// recover asks for a certificate for a new key, with signatures by the given TLS key and the machine's evidence key.
func (m *machine) recover(o *office, by *ecdsa.PrivateKey) error {
	m.t.Helper()
	next, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	o.must(err)
	csr, challenge, old := m.csr(next), m.begin(o.Server).GetChallenge(), m.bundle.Certificate[0]
	message := identity.RecoverMessage(challenge, csr, old.Raw)
	sig, err := identity.SignRecovery(by, message)
	o.must(err)
	r, err := o.Recover(m.ctx(), &enrolv1.RecoverRequest{
		Protocol: 1, Challenge: challenge, Certificate: old.Raw, Csr: csr, EvidenceKey: m.evidence.Public().(ed25519.PublicKey), TlsSignature: sig,
		EvidenceSignature: ed25519.Sign(m.evidence, message),
	})
	if err != nil {
		return err
	}
	m.take(r.GetGrant())
	m.tls = next
	return nil
}

func TestASiteThatWasDarkRecoversACountedNumberOfTimes(t *testing.T) {
	o, m, stranger := newOffice(t), newMachine(t), newMachine(t)
	m.mustJoin(o.Server, o.token(NewToken{}))
	site := m.bundle.Site
	for n := range 3 {
		if _, err := o.ca.Verify(t.Context(), m.bundle.Certificate); err != nil { // in use
			t.Fatal(err)
		}
		o.clock.advance(25 * time.Hour)
		if _, err := o.ca.Verify(t.Context(), m.bundle.Certificate); err == nil {
			t.Fatal("the certificate has not run out")
		}
		wantReason(t, m.recover(o, stranger.tls), identity.ReasonProof)
		if err := m.recover(o, m.tls); err != nil {
			t.Fatalf("recovery %d: %v", n+1, err)
		}
		if m.bundle.Site != site {
			t.Fatal("the site is another one")
		}
		if _, err := o.ca.Verify(t.Context(), m.bundle.Certificate); err != nil {
			t.Fatalf("recovered certificate: %v", err)
		}
	}
	o.clock.advance(25 * time.Hour)
	wantReason(t, m.recover(o, m.tls), identity.ReasonRecoveriesUsed)
	o.must(o.ca.AllowRecovery(t.Context(), site, "operator"))
	if err := m.recover(o, m.tls); err != nil {
		t.Errorf("a person has allowed it: %v", err)
	}
}

func TestRenewalAndItsRules(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	m.mustJoin(o.Server, o.token(NewToken{}))
	next, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	o.must(err)
	call := func(key *ecdsa.PrivateKey, chain ...*x509.Certificate) error {
		r, err := o.Renew(m.ctx(chain...), &enrolv1.RenewRequest{Protocol: 1, Csr: m.csr(key)})
		if err == nil {
			m.take(r.GetGrant())
		}
		return err
	}
	old := m.bundle.Certificate
	wantReason(t, call(next), identity.ReasonCertMissing)
	wantReason(t, call(next, old...), identity.ReasonTooMany) // too early
	o.clock.advance(12 * time.Hour)
	gen := m.gen
	if err := call(next, old...); err != nil {
		t.Fatal(err)
	}
	if m.bundle.Certificate[0].SerialNumber.Cmp(old[0].SerialNumber) == 0 || !bytes.Equal(gen, m.gen) {
		t.Error("the certificate is the old one, or the generation changed with it")
	}
	if err := call(next, old...); err != nil { // the answer was lost
		t.Errorf("asked again: %v", err)
	}
	if _, err := o.ca.Verify(t.Context(), m.bundle.Certificate); err != nil {
		t.Fatal(err)
	}
	if _, err := o.ca.Verify(t.Context(), old); err == nil {
		t.Error("the old certificate still counts after the new one was used")
	}
}

func TestSyncTellsWhatHasChanged(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	m.mustJoin(o.Server, o.token(NewToken{}))
	sync := func(key *enrolv1.WireGuardKey) *enrolv1.SyncResponse {
		t.Helper()
		r, err := o.Sync(m.ctx(m.bundle.Certificate...), &enrolv1.SyncRequest{Protocol: 1, Generation: m.gen, Wireguard: key})
		o.must(err)
		return r
	}
	if r := sync(nil); r.GetGrant() != nil || len(r.GetOrders()) != 0 || r.GetNextMs() == 0 {
		t.Errorf("nothing has changed, and the hub says %+v", r)
	}
	tx, err := o.db.Begin(t.Context())
	o.must(err)
	_, err = o.peers.Rotate(t.Context(), tx, m.bundle.Site, "operator")
	o.must(err)
	o.must(tx.Commit(t.Context()))
	if r := sync(nil); !slices.Contains(r.GetOrders(), enrolv1.Order_ORDER_ROTATE_WIREGUARD) {
		t.Fatalf("the hub does not order to rotate: %+v", r)
	}
	next, err := ecdh.X25519().GenerateKey(rand.Reader)
	o.must(err)
	psk := m.psk
	for range 2 { // the first answer is lost
		r := sync(m.prove(m.begin(o.Server), next, nil))
		if r.GetGrant() == nil {
			t.Fatal("the new key gives no new grant")
		}
		if len(r.GetOrders()) != 0 {
			t.Errorf("orders %v stand", r.GetOrders())
		}
		b, err := identity.ParseBundle(r.GetGrant().GetBundle())
		o.must(err)
		if b.Tunnel.PublicKey != base64.StdEncoding.EncodeToString(next.PublicKey().Bytes()) || bytes.Equal(r.GetGrant().GetPresharedKey(), psk) ||
			b.Tunnel.PresharedKey != identity.PSKID(r.GetGrant().GetPresharedKey()) {
			t.Errorf("tunnel %+v", b.Tunnel)
		}
		if !b.Certificate[0].Equal(m.bundle.Certificate[0]) {
			t.Error("sync changes the certificate")
		}
	}
	bad := m.prove(m.begin(o.Server), next, nil)
	bad.Proof[0]++
	_, err = o.Sync(m.ctx(m.bundle.Certificate...), &enrolv1.SyncRequest{Protocol: 1, Wireguard: bad})
	wantReason(t, err, identity.ReasonProof)
}

func TestWrongTokensFromOneAddressAreSlowedDown(t *testing.T) {
	o, m, other := newOffice(t), newMachine(t), newMachine(t)
	other.from = "203.0.113.8:4000"
	wrong := identity.NewToken("dev", o.ca.RootFingerprint())
	r := m.enrolRequest(o.Server, wrong)
	for range throttleBurst {
		wantReason(t, second(o.Enrol(m.ctx(), r)), identity.ReasonTokenUnknown)
	}
	wantReason(t, second(o.Enrol(m.ctx(), r)), identity.ReasonTooMany)
	token := o.token(NewToken{})
	other.mustJoin(o.Server, token) // somebody else is not kept waiting
	o.clock.advance(throttleInterval)
	wantReason(t, second(o.Enrol(m.ctx(), r)), identity.ReasonTokenUnknown)
	wantReason(t, second(o.Enrol(m.ctx(), r)), identity.ReasonTooMany)
}

func TestStrangersAtASitesAddressDoNotKeepItOut(t *testing.T) {
	o, m, stranger, cut := newOffice(t), newMachine(t), newMachine(t), newMachine(t) // all behind one NAT
	m.mustJoin(o.Server, o.token(NewToken{}))
	cut.mustJoin(o.Server, o.token(NewToken{SiteName: "cut"}))
	o.must(o.store.Revoke(t.Context(), cut.bundle.Site, "a test", operator))
	wrong := stranger.enrolRequest(o.Server, identity.NewToken("dev", o.ca.RootFingerprint()))
	for range throttleBurst + 5 {
		_, _ = o.Enrol(stranger.ctx(), wrong)
	}
	for range 5 { // a program that is too old is slowed down as others are
		_, _ = o.Begin(stranger.ctx(), &enrolv1.BeginRequest{})
	}
	wantReason(t, second(o.Begin(stranger.ctx(), &enrolv1.BeginRequest{Protocol: 1})), identity.ReasonTooMany)
	if _, err := o.Sync(m.ctx(m.bundle.Certificate...), &enrolv1.SyncRequest{Protocol: 1}); err != nil {
		t.Errorf("a site at the same address: %v", err)
	}
	forged := *m.bundle.Certificate[0]
	forged.Signature = bytes.Repeat([]byte{1}, 70)
	later := openOffice(t, o.db, o.clock, "10.8.0.0/16").ca // which has read what is revoked
	for name, shown := range map[string]*x509.Certificate{"revoked": cut.bundle.Certificate[0], "forged": &forged} {
		if later.Stands([]*x509.Certificate{shown}) {
			t.Errorf("a %s certificate tells its bearer from strangers", name)
		}
	}
}

func TestAFloodOfOneAddressDoesNotFloodTheLog(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	var lines bytes.Buffer
	o.store.c.Log = slog.New(slog.NewTextHandler(&lines, nil))
	wrong := m.enrolRequest(o.Server, identity.NewToken("dev", o.ca.RootFingerprint()))
	for i := range 500 {
		if i%2 == 0 {
			_, _ = o.Enrol(m.ctx(), wrong)
		} else {
			_, _ = o.Begin(m.ctx(), &enrolv1.BeginRequest{}) // a protocol that nobody speaks
		}
	}
	if n := bytes.Count(lines.Bytes(), []byte("\n")); n > throttleBurst {
		t.Errorf("500 calls of a stranger made %d lines", n)
	}
}

func TestWhatAnAgentSaysOfItselfIsStoredWhateverItIs(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	token := o.token(NewToken{Approval: true})
	r := m.enrolRequest(o.Server, token)
	r.AgentVersion = "\x00\x1b[2J1.0 " + strings.Repeat("é", 100)
	if _, err := o.Enrol(m.ctx(), r); err != nil {
		t.Fatal(err)
	}
	list, err := o.store.Waiting(t.Context())
	o.must(err)
	if len(list) != 1 || !strings.HasPrefix(list[0].ClaimedVersion, "[2J1.0 é") || len(list[0].ClaimedVersion) > maxVersion {
		t.Errorf("stored as %+v", list)
	}
}

func TestASiteCannotMakeKeysForEver(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	m.mustJoin(o.Server, o.token(NewToken{}))
	rotate := func() error {
		next, err := ecdh.X25519().GenerateKey(rand.Reader)
		o.must(err)
		_, err = o.Sync(m.ctx(m.bundle.Certificate...), &enrolv1.SyncRequest{Protocol: 1, Wireguard: m.prove(m.begin(o.Server), next, nil)})
		return err
	}
	for range 9 { // the one that it joined with is the first
		o.must(rotate())
	}
	wantReason(t, rotate(), identity.ReasonTooMany)
	if n := o.count(`SELECT count(*) FROM peer_key`); n != 10 {
		t.Errorf("%d keys are kept", n)
	}
	o.clock.advance(time.Hour + time.Second)
	o.must(rotate())
}

func TestARecoveryByAReplacedCertificateIsAnAlarm(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	m.mustJoin(o.Server, o.token(NewToken{}))
	if _, err := o.ca.Verify(t.Context(), m.bundle.Certificate); err != nil {
		t.Fatal(err)
	}
	backup := *m // stolen
	o.clock.advance(25 * time.Hour)
	o.must(m.recover(o, m.tls))
	if _, err := o.ca.Verify(t.Context(), m.bundle.Certificate); err != nil {
		t.Fatal(err)
	}
	o.clock.advance(time.Hour)
	wantReason(t, backup.recover(o, backup.tls), identity.ReasonCertSuperseded)
	if n := o.audited("certificate_key_copied"); n != 1 {
		t.Errorf("%d alarms", n)
	}
	if _, err := o.ca.Verify(t.Context(), m.bundle.Certificate); err != nil {
		t.Errorf("the site itself: %v", err)
	}
}

func TestChallengesEndAndHoldAtEveryProcess(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	other := openOffice(t, o.db, o.clock, "10.8.0.0/16")
	r := m.enrolRequest(o.Server, o.token(NewToken{}))
	if _, err := other.Enrol(m.ctx(), r); err != nil {
		t.Errorf("another process of the hub: %v", err)
	}
	r = m.enrolRequest(o.Server, o.token(NewToken{SiteName: "south"}))
	o.clock.advance(challengeLife + time.Second)
	wantReason(t, second(o.Enrol(m.ctx(), r)), identity.ReasonChallenge)
}

func TestAnIPv4NetworkWrittenAsIPv6IsTheSame(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	m.mustJoin(o.Server, o.token(NewToken{Source: netip.MustParsePrefix("::ffff:203.0.113.0/120")}))
}

func TestTokensThatCannotBeMade(t *testing.T) {
	o := newOffice(t)
	for name, n := range map[string]NewToken{
		"no name": {SiteName: " "}, "a console's control characters": {SiteName: "a\x1b[2Jb"}, "a NUL": {SiteName: "a\x00b"}, "no text": {SiteName: "a\xff"}, "long name": {SiteName: strings.Repeat("x", 101)}, "too long": {SiteName: "a", ValidFor: 25 * time.Hour},
		"too short": {SiteName: "a", ValidFor: time.Second}, "no network": {SiteName: "a", Source: netip.MustParsePrefix("10.0.0.1/8")},
	} {
		if _, _, err := o.store.CreateToken(t.Context(), n, operator); apperr.Of(err).Code != "VALID_001" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := o.db.Exec(t.Context(), `INSERT INTO enrol_token (id, hash, site_name, approval, replace_key, created_at, created_by, expires_at)
		SELECT 'x' || i, decode(repeat('00', 32), 'hex'), 'x', false, false, $1, '', $1::timestamptz + interval '1 hour' FROM generate_series(1, $2) i`, o.clock.now(), maxOpen); err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.store.CreateToken(t.Context(), NewToken{SiteName: "a"}, operator); apperr.Of(err).Code != "CONFLICT_001" {
		t.Errorf("one more than may wait: %v", err)
	}
	o.clock.advance(keepClosed + 2*time.Hour)
	o.token(NewToken{})
	if n := o.count(`SELECT count(*) FROM enrol_token`); n != 1 {
		t.Errorf("%d tokens are kept for ever", n)
	}
	if err := o.store.RevokeToken(t.Context(), "nothing", operator); apperr.Of(err).Code != "NOTFOUND_001" {
		t.Errorf("revoking what is not there: %v", err)
	}
}
