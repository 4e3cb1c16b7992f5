package pki_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

func wantConflict(t *testing.T, err error, text string) {
	t.Helper()
	var coded *apperr.Error
	if !errors.As(err, &coded) || coded.Code != "CONFLICT_001" || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want a conflict that speaks of %q", err, text)
	}
}

// connects reports whether a site with this bundle and certificate is served.
func (w *world) connects(addr string, e *enrolled, roots []*x509.Certificate) error {
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	cfg := clientTLS(e.site, identity.Bundle{Certificate: e.chain, CA: roots}, w.clock)
	cfg.RootCAs = pool
	return call(w.t, addr, cfg)
}

func TestRollOverToANewRoot(t *testing.T) {
	w := newWorld(t)
	other, err := pki.Open(t.Context(), pki.Config{DB: w.db, Password: password, Names: []string{"127.0.0.1"}, Now: w.clock.now, Poll: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	watch(t, other)
	addr := serve(t, other) // a second process: the command line rolls over, the hub follows
	follow := func(state pki.State, n int) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; {
			st, err := other.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			for _, a := range st.Authorities {
				if a.State == state {
					got++
				}
			}
			if got == n {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the other process does not follow: %+v", st.Authorities)
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	north, dark := w.join("north"), w.join("dark")
	w.want(north.chain)
	w.want(dark.chain)
	old := w.a.Roots()
	wantConflict(t, w.a.Activate(t.Context(), "test", false), "no roll-over")
	wantConflict(t, w.a.Finish(t.Context(), "test", false), "nothing is to be retired")

	w.clock.advance(time.Second)
	if err := w.a.Rotate(t.Context(), pki.Rotation{By: "test"}); err != nil {
		t.Fatal(err)
	}
	wantConflict(t, w.a.Rotate(t.Context(), pki.Rotation{By: "test"}), "under way")
	both := w.a.Roots()
	if len(both) != 2 || !both[0].Equal(old[0]) || w.a.RootFingerprint() != sha256.Sum256(old[0].Raw) {
		t.Fatalf("the bundle has %d roots", len(both))
	}
	follow(pki.StateNext, 1)
	if err := errors.Join(w.connects(addr, north, old), w.connects(addr, north, both)); err != nil {
		t.Fatalf("before the new root issues: %v", err)
	}
	wantConflict(t, w.a.Activate(t.Context(), "test", false), "2 sites")
	// Sites may fetch what is new before half of their certificate's life is over.
	w.clock.advance(time.Minute)
	chain, err := w.a.Renew(t.Context(), north.chain[0], csrOf(t, north.tls))
	if err != nil {
		t.Fatal(err)
	}
	north.chain = chain
	wantConflict(t, w.a.Activate(t.Context(), "test", false), "2 sites") // it has not come with it yet
	w.want(north.chain)
	wantConflict(t, w.a.Activate(t.Context(), "test", false), "dark")
	w.clock.advance(25 * time.Hour) // the dark site's certificate has run out: it is not waited for
	chain, err = w.recover(north)
	if err != nil {
		t.Fatal(err)
	}
	north.chain = chain
	w.want(north.chain)
	if err := w.a.Activate(t.Context(), "test", false); err != nil {
		t.Fatal(err)
	}
	follow(pki.StateRetiring, 1)
	if now := w.a.Roots(); len(now) != 2 || now[0].Equal(old[0]) {
		t.Fatal("the new root is not the first")
	}
	if err := w.connects(addr, north, both); err != nil {
		t.Fatalf("a site that knows both roots: %v", err)
	}
	// A site that was dark all the time knows only the old root: the cross certificate leads it back.
	if chain, err = w.recover(dark); err != nil {
		t.Fatal(err)
	}
	dark.chain = chain
	if err := w.connects(addr, dark, old); err != nil {
		t.Fatalf("a site that knows only the old root: %v", err)
	}
	if err := w.connects(addr, dark, w.a.Roots()[:1]); err != nil {
		t.Fatalf("a site that knows only the new root: %v", err)
	}
	wantConflict(t, w.a.Finish(t.Context(), "test", false), "1 certificates")
	stale := north.chain
	w.clock.advance(12 * time.Hour)
	if north.chain, err = w.a.Renew(t.Context(), north.chain[0], csrOf(t, north.tls)); err != nil {
		t.Fatal(err)
	}
	w.want(north.chain)
	if err := w.a.Finish(t.Context(), "test", false); err != nil {
		t.Fatal(err)
	}
	follow(pki.StateRetired, 1)
	if now := w.a.Roots(); len(now) != 1 || now[0].Equal(old[0]) {
		t.Error("the old root is still in the bundle")
	}
	wantReason(t, w.verify(stale), identity.ReasonCertUnknown)
	if err := w.connects(addr, north, w.a.Roots()); err != nil {
		t.Error(err)
	}
}

// A database of the hub before this one: its CA goes on as root and issuer, sites notice nothing, and it can be rolled over.
func TestTheCAOfAnEarlierHub(t *testing.T) {
	w := newWorld(t)
	w.earlier()
	c := newSite(t)
	b := c.register(t, w.a, "north")
	if len(b.Certificate) != 1 || len(b.CA) != 1 || b.Certificate[0].CheckSignatureFrom(b.CA[0]) != nil {
		t.Fatalf("a chain of %d under %d roots: the earlier hub would not take it", len(b.Certificate), len(b.CA))
	}
	north := &enrolled{site: c, id: b.Site, chain: b.Certificate}
	addr := serve(t, w.a)
	if err := w.connects(addr, north, b.CA); err != nil {
		t.Fatal(err)
	}
	// A row as the earlier hub wrote it.
	if _, err := w.db.Exec(t.Context(), `UPDATE certificate SET issuer = NULL, first_used_at = NULL WHERE kind = 'site'`); err != nil {
		t.Fatal(err)
	}
	w.want(north.chain)
	_, err := pki.Init(t.Context(), pki.Config{DB: w.db, Password: password, Now: w.clock.now}, pki.Offline{Passphrase: []byte("a long passphrase")}, "test")
	wantConflict(t, err, "ca rotate")
	wantConflict(t, w.a.RotateIntermediate(t.Context(), pki.Rotation{}), "no intermediate")

	if err := w.a.Rotate(t.Context(), pki.Rotation{By: "test"}); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(time.Second)
	again := c.register(t, w.a, "north")
	if len(again.CA) != 2 {
		t.Fatalf("the bundle has %d roots", len(again.CA))
	}
	north.chain = again.Certificate
	w.want(north.chain)
	if err := w.a.Activate(t.Context(), "test", false); err != nil {
		t.Fatal(err)
	}
	if err := w.connects(addr, north, again.CA); err != nil {
		t.Fatal(err)
	}
	if err := w.connects(addr, north, b.CA); err == nil {
		t.Error("the test proves nothing: the old root alone still leads to the hub")
	}
	w.clock.advance(time.Second)
	last := c.register(t, w.a, "north")
	if len(last.Certificate) != 2 {
		t.Error("the new root does not issue")
	}
	wantConflict(t, w.a.Finish(t.Context(), "test", false), "still count")
	if err := w.a.Finish(t.Context(), "test", true); err != nil {
		t.Fatal(err)
	}
	wantReason(t, w.verify(north.chain), identity.ReasonCertUnknown)
	w.want(last.Certificate)
}

// earlier gives the database the CA of the hub before this one.
func (w *world) earlier() {
	w.t.Helper()
	if err := pki.MakeEarlierCA(w.t.Context(), w.db, password, w.clock.now()); err != nil {
		w.t.Fatal(err)
	}
	w.a = authority(w.t, w.db, w.clock)
}

func TestTheRootsKeyOffline(t *testing.T) {
	db, c := pgtest.New(t), newClock()
	config := pki.Config{DB: db, Password: password, Names: []string{"127.0.0.1"}, Now: c.now}
	pass := []byte("correct horse battery staple")
	var file []byte
	to := pki.Offline{Passphrase: pass, Put: func(b []byte) error { file = b; return nil }}
	failing := pki.Offline{Passphrase: pass, Put: func([]byte) error { return errors.New("disk full") }}

	// What cannot be written is not made.
	if _, err := pki.Init(t.Context(), config, failing, "test"); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Fatalf("got %v", err)
	}
	if _, err := pki.Init(t.Context(), config, pki.Offline{Passphrase: []byte("short"), Put: to.Put}, "test"); err == nil || file != nil {
		t.Fatalf("a short passphrase: %v", err)
	}
	a, err := pki.Init(t.Context(), config, to, "test")
	if err != nil {
		t.Fatal(err)
	}
	st, err := a.Status(t.Context())
	if err != nil || st.Authorities[0].RootKey != "offline" || len(st.Warnings) > 0 {
		t.Fatalf("%+v, %v", st, err)
	}
	_, err = pki.Init(t.Context(), config, to, "test")
	wantConflict(t, err, "already")
	wantConflict(t, a.RotateIntermediate(t.Context(), pki.Rotation{}), "--root-in")
	if err := a.RotateIntermediate(t.Context(), pki.Rotation{OldRoot: file, Passphrase: []byte("another passphrase")}); err == nil || !strings.Contains(err.Error(), "passphrase is wrong") {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if err := a.RotateIntermediate(t.Context(), pki.Rotation{OldRoot: append(bytes.Clone(file[:len(file)/2]), "x"...), Passphrase: pass}); err == nil {
		t.Error("half a file is taken")
	}
	w := &world{t: t, db: db, clock: c, a: a}
	north := w.join("north")
	w.want(north.chain)
	before := a.Roots()
	if err := a.RotateIntermediate(t.Context(), pki.Rotation{OldRoot: file, Passphrase: pass}); err != nil {
		t.Fatal(err)
	}
	if now := a.Roots(); len(now) != 1 || !now[0].Equal(before[0]) {
		t.Error("a new intermediate changed the roots")
	}
	w.want(north.chain) // of the one before
	south := w.join("south")
	if south.chain[1].Equal(north.chain[1]) {
		t.Error("the intermediate is the same")
	}
	w.want(south.chain)
	if err := errors.Join(w.connects(serve(t, a), north, before), w.connects(serve(t, a), south, before)); err != nil {
		t.Error(err)
	}
	// What the retiring one issued can still be revoked in its own list.
	if err := a.Revoke(t.Context(), north.chain[0], "test", "test"); err != nil {
		t.Fatal(err)
	}
	wantReason(t, w.verify(north.chain), identity.ReasonCertRevoked)

	// The key that lies in the database goes out of it.
	other := newWorld(t)
	st, err = other.a.Status(t.Context())
	if err != nil || st.Authorities[0].RootKey != "database" || len(st.Warnings) != 1 {
		t.Fatalf("%+v, %v", st, err)
	}
	config.DB = other.db
	if other.a, err = pki.Init(t.Context(), config, to, "test"); err != nil {
		t.Fatal(err)
	}
	if st, err = other.a.Status(t.Context()); err != nil || st.Authorities[0].RootKey != "offline" {
		t.Fatalf("%+v, %v", st, err)
	}
	// Another root's file does not pass for this one's.
	if err := a.RotateIntermediate(t.Context(), pki.Rotation{OldRoot: file, Passphrase: pass}); err == nil || !strings.Contains(err.Error(), "another root") {
		t.Errorf("another root's file: %v", err)
	}
	if err := other.a.Rotate(t.Context(), pki.Rotation{OldRoot: file, Passphrase: pass, To: &to}); err != nil {
		t.Fatal(err)
	}
	st, err = other.a.Status(t.Context())
	if err != nil || len(st.Authorities) != 2 || !st.Authorities[1].Cross || st.Authorities[1].RootKey != "offline" {
		t.Errorf("%+v, %v", st, err)
	}
	if err := other.a.Cancel(t.Context(), "test"); err != nil {
		t.Error(err)
	}

	// Standard tools read the file.
	openssl := opensslPath(t)
	path := filepath.Join(t.TempDir(), "root")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(openssl, "pkey", "-in", path, "-passin", "pass:"+string(pass), "-noout", "-text").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "P-256") {
		t.Errorf("openssl pkey: %v %s", err, out)
	}
	if out, err := exec.Command(openssl, "pkey", "-in", path, "-passin", "pass:wrong", "-noout").CombinedOutput(); err == nil {
		t.Errorf("openssl opens it with a wrong passphrase: %s", out)
	}
}

// Whoever can write the database can neither exchange a root nor bring one back.
func TestRootsAreSealed(t *testing.T) {
	w := newWorld(t)
	other := newWorld(t)
	var sealed, public []byte
	read := func(from *world) {
		t.Helper()
		if err := from.db.QueryRow(t.Context(), `SELECT sealed, public FROM hub_secret WHERE name = 'authorities'`).Scan(&sealed, &public); err != nil {
			t.Fatal(err)
		}
	}
	write := func(b []byte) {
		t.Helper()
		if _, err := w.db.Exec(t.Context(), `UPDATE hub_secret SET sealed = $1 WHERE name = 'authorities'`, b); err != nil {
			t.Fatal(err)
		}
	}
	read(w)
	if bytes.Contains(sealed, w.a.Roots()[0].Raw) {
		t.Error("the row is not sealed")
	}
	tampered := bytes.Clone(sealed)
	tampered[len(tampered)/2] ^= 1
	write(tampered)
	if _, err := pki.Open(t.Context(), pki.Config{DB: w.db, Password: password, Now: w.clock.now}); err == nil {
		t.Error("a row that was tampered with is taken")
	}
	read(other)
	write(sealed)
	if _, err := w.db.Exec(t.Context(), `UPDATE hub_secret SET sealed = (SELECT sealed FROM hub_secret WHERE name = 'evidence') WHERE name = 'authorities'`); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Open(t.Context(), pki.Config{DB: w.db, Password: password, Now: w.clock.now}); err == nil {
		t.Error("one secret is taken for another")
	}
	err := w.a.Rotate(t.Context(), pki.Rotation{})
	if err == nil || errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("rolling over on a row that does not open: %v", err)
	}
}
