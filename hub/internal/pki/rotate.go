package pki

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
)

// Offline says where a root's private key goes: into a file for keeping offline, and not into the database.
type Offline struct {
	Passphrase []byte
	// Put stores the file for good; only then the key is dropped here.
	Put func(file []byte) error
}

func (o *Offline) put(root *x509.Certificate, key crypto.Signer) error {
	file, err := encodeRoot(root, key, o.Passphrase)
	if err != nil {
		return err
	}
	if err := o.Put(file); err != nil {
		return fmt.Errorf("writing the root's file: %w", err)
	}
	return nil
}

// Init takes the root's private key offline. On a database without a CA it makes root and intermediate, and the root's key is never stored there; else
// it moves the key that lies sealed in the database into the file.
func Init(ctx context.Context, c Config, to Offline, by string) (*Authority, error) {
	a, err := New(c)
	if err != nil {
		return nil, err
	}
	made := false
	_, err = a.readAuthorities(ctx, a.db, qGetSecret)
	if errors.Is(err, pgx.ErrNoRows) {
		var first *issuer
		if first, err = a.firstIssuer(ctx); err != nil {
			return nil, err
		}
		if !first.single() {
			if err := to.put(first.root, first.rootKey); err != nil {
				return nil, err
			}
			first.rootKey, made = nil, true
		}
		var s *authorities
		if s, err = a.addAuthorities(ctx, first); err == nil && made && s.active().id != first.id {
			return nil, errConflict("another hub process made the certificate authority at the same moment: the file that was written is of no use, remove it and run the command again")
		}
	}
	if err != nil {
		return nil, err
	}
	if err := a.Load(ctx); err != nil {
		return nil, err
	}
	if made {
		return a, a.inTx(ctx, func(tx pgx.Tx) error {
			return a.audit(ctx, tx, audit.Security, "ca_made", by, map[string]any{"root_key": "offline"})
		})
	}
	return a, a.change(ctx, "ca_root_offline", by, nil, func(_ context.Context, _ pgx.Tx, s *authorities) error {
		i := s.active()
		switch {
		case i.single():
			return errConflict("the certificate authority of an earlier hub issues with its root, whose key must stay: roll over to one that need not, with ca rotate --root-out FILE")
		case i.rootKey == nil:
			return errConflict("the root's private key is not in the database: it lies offline already")
		}
		if err := to.put(i.root, i.rootKey); err != nil {
			return err
		}
		i.rootKey = nil
		return nil
	})
}

// Rotation says how to roll over.
type Rotation struct {
	To         *Offline // where the new root's key goes; nil keeps it sealed in the database
	OldRoot    []byte   // the active root's file where its key lies offline; without it there is no cross certificate
	Passphrase []byte   // of OldRoot
	By         string
}

// rootKey is the private key of the active root, from the database or the file that was given; nil if it is in neither.
func (r Rotation) rootKey(active *issuer) (crypto.Signer, error) {
	switch {
	case active.single():
		return nil, nil // it may sign no intermediate
	case active.rootKey != nil:
		return active.rootKey, nil
	case len(r.OldRoot) == 0:
		return nil, nil
	}
	root, key, err := decodeRoot(r.OldRoot, r.Passphrase)
	if err != nil {
		return nil, err
	}
	if !root.Equal(active.root) {
		return nil, errRootFile("it is that of another root (%s) than the active one (%s)", root.Subject.CommonName, active.root.Subject.CommonName)
	}
	return key, nil
}

// Rotate begins a roll-over: a new root with its intermediate, which sites learn with their next certificate while the present one goes on issuing.
// Where the present root's key is at hand, it certifies the new intermediate too, so that sites dark during the whole roll-over find their way back.
func (a *Authority) Rotate(ctx context.Context, r Rotation) error {
	return a.change(ctx, "ca_rotate_begun", r.By, nil, func(_ context.Context, _ pgx.Tx, s *authorities) error {
		if s.find(StateNext) != nil {
			return errConflict("a roll-over is under way: go on with ca rotate --activate, or end it with ca rotate --cancel")
		}
		for _, i := range s.trusted() {
			if i.state == StateRetiring && !i.root.Equal(s.active().root) {
				return errConflict("the roll-over before is not finished: finish it with ca rotate --finish")
			}
		}
		key, err := r.rootKey(s.active())
		if err != nil {
			return err
		}
		next, err := newIssuer(a.now(), false)
		if err != nil {
			return err
		}
		if key != nil {
			cross, err := signIntermediate(s.active().root, key, next.cert.PublicKey, next.cert, a.now())
			if err != nil {
				return err
			}
			next.cross = []*x509.Certificate{cross}
		}
		if r.To != nil {
			if err := r.To.put(next.root, next.rootKey); err != nil {
				return err
			}
			next.rootKey = nil
		}
		s.all = append(s.all, next)
		return nil
	})
}

// RotateIntermediate replaces the key that issues, under the same root; sites need not learn anything.
func (a *Authority) RotateIntermediate(ctx context.Context, r Rotation) error {
	return a.change(ctx, "ca_intermediate_rotated", r.By, nil, func(_ context.Context, _ pgx.Tx, s *authorities) error {
		old := s.active()
		if old.single() {
			return errConflict("the certificate authority of an earlier hub has no intermediate: roll over with ca rotate")
		}
		key, err := r.rootKey(old)
		if err != nil {
			return err
		}
		if key == nil {
			return errConflict("the root's key lies offline: give its file with --root-in")
		}
		fresh, err := newIntermediate(old.root, key, a.now().UTC())
		if err != nil {
			return err
		}
		fresh.state, fresh.activatedAt, fresh.rootKey = StateActive, a.now().UTC(), old.rootKey
		old.state, old.rootKey = StateRetiring, nil
		s.all = append(s.all, fresh)
		return nil
	})
}

const (
	qNotReady = `
SELECT s.name FROM site s
WHERE EXISTS (SELECT FROM certificate c WHERE c.site_id = s.id AND c.not_after > $1 AND c.revoked_at IS NULL AND c.superseded_at IS NULL)
	AND NOT EXISTS (SELECT FROM certificate c WHERE c.site_id = s.id AND c.issued_at > $2 AND c.first_used_at IS NOT NULL)
ORDER BY s.name LIMIT 1000`
	qLiveOf = `
SELECT count(*) FROM certificate
WHERE (issuer = $1 OR $2 AND issuer IS NULL) AND kind <> 'hub' AND not_after > $3 AND revoked_at IS NULL AND superseded_at IS NULL`
)

// notReady names sites that do not know a root yet: they have a certificate that counts, and have used none since the root was made.
func (a *Authority) notReady(ctx context.Context, q rowsQueryer, i *issuer) ([]string, error) {
	rows, err := q.Query(ctx, qNotReady, a.now(), i.createdAt)
	if err != nil {
		return nil, fmt.Errorf("looking for sites that do not know the new root: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("looking for sites that do not know the new root: %w", err)
	}
	return names, nil
}

type rowsQueryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// live counts certificates of sites and clients that an issuer signed and that count.
func (a *Authority) live(ctx context.Context, q rowsQueryer, i *issuer) (n int, err error) {
	if err := q.QueryRow(ctx, qLiveOf, i.id[:], i.single(), a.now()).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting certificates: %w", err)
	}
	return n, nil
}

// Activate makes the new root issue, the hub's own certificate included. Sites that do not know it yet would be cut off, so while there are any, this
// is refused unless forced.
func (a *Authority) Activate(ctx context.Context, by string, force bool) error {
	return a.change(ctx, "ca_rotate_activated", by, map[string]any{"forced": force}, func(ctx context.Context, tx pgx.Tx, s *authorities) error {
		next := s.find(StateNext)
		if next == nil {
			return errConflict("no roll-over is under way: begin one with ca rotate")
		}
		late, err := a.notReady(ctx, tx, next)
		if err != nil {
			return err
		}
		if len(late) > 0 && !force {
			return errConflict("%d sites do not know the new root yet and would refuse this hub (%s): agents learn it with their next certificate, within a day; "+
				"sites that are registered by hand need a new bundle (site register); --force goes on without them", len(late), strings.Join(late[:min(5, len(late))], ", "))
		}
		s.active().state = StateRetiring
		next.state, next.activatedAt = StateActive, a.now().UTC()
		return nil
	})
}

// Cancel ends a roll-over that was begun and not activated.
func (a *Authority) Cancel(ctx context.Context, by string) error {
	return a.change(ctx, "ca_rotate_cancelled", by, nil, func(_ context.Context, _ pgx.Tx, s *authorities) error {
		n := len(s.all)
		s.all = slices.DeleteFunc(s.all, func(i *issuer) bool { return i.state == StateNext })
		if len(s.all) == n {
			return errConflict("no roll-over is under way that could be cancelled")
		}
		return nil
	})
}

const keepRetired = 10 // issuers that are no longer trusted, for the record

// Finish retires what no longer issues: its root leaves the bundles, and what it signed is refused. While it signed certificates that count, this is
// refused unless forced.
func (a *Authority) Finish(ctx context.Context, by string, force bool) error {
	return a.change(ctx, "ca_rotate_finished", by, map[string]any{"forced": force}, func(ctx context.Context, tx pgx.Tx, s *authorities) error {
		ended := 0
		for _, i := range s.all {
			if i.state != StateRetiring {
				continue
			}
			n, err := a.live(ctx, tx, i)
			if err != nil {
				return err
			}
			if n > 0 && !force {
				return errConflict("%d certificates under %s still count: agents renew within a day, others need a new certificate; --force refuses them from now on", n, i.root.Subject.CommonName)
			}
			i.state, i.key, i.rootKey = StateRetired, nil, nil
			ended++
		}
		if ended == 0 {
			return errConflict("nothing is to be retired: ca rotate --activate comes first")
		}
		for retired := 0; ; retired = 0 {
			oldest := -1
			for n, i := range s.all {
				if i.state == StateRetired {
					if retired++; oldest < 0 || i.createdAt.Before(s.all[oldest].createdAt) {
						oldest = n
					}
				}
			}
			if retired <= keepRetired {
				return nil
			}
			s.all = slices.Delete(s.all, oldest, oldest+1)
		}
	})
}

// Status is the state of the certificate authority.
type Status struct {
	Authorities []AuthorityStatus `json:"authorities"` // the active one first
	Revoked     int               `json:"revoked"`     // certificates that have not expired
	NotReady    []string          `json:"sites_not_ready,omitempty"`
	Clients     []ClientStatus    `json:"clients"`
	Warnings    []string          `json:"warnings"`
}

// AuthorityStatus is a root with its issuing certificate.
type AuthorityStatus struct {
	Issuer         string    `json:"issuer"` // names its revocation list, /pki/ISSUER.crl
	State          State     `json:"state"`
	Root           string    `json:"root"`
	Fingerprint    string    `json:"root_sha256"`
	RootNotAfter   time.Time `json:"root_not_after"`
	IssuerNotAfter time.Time `json:"issuer_not_after"`
	RootKey        string    `json:"root_key"` // offline, database, or issuing: it is the issuing key
	Cross          bool      `json:"cross_certified"`
	CreatedAt      time.Time `json:"created_at"`
	Live           int       `json:"certificates"` // of sites and clients, that count
}

// ClientStatus is an API client's certificate.
type ClientStatus struct {
	Serial   string    `json:"serial"`
	Name     string    `json:"name"`
	Key      string    `json:"key_id"`
	NotAfter time.Time `json:"not_after"`
	Revoked  bool      `json:"revoked"`
}

const qClients = `
SELECT encode(serial, 'hex'), coalesce(name, ''), key_id::text, not_after, revoked_at IS NOT NULL FROM certificate
WHERE kind = 'client' AND not_after > $1 ORDER BY not_after LIMIT 1000`

// warnBefore is how long before its end the intermediate is spoken of.
const warnBefore = 180 * 24 * time.Hour

// Status tells how the certificate authority stands; dev hubs may keep the root's key in the database, others are warned.
func (a *Authority) Status(ctx context.Context) (Status, error) {
	set := a.set.Load()
	st := Status{Revoked: a.revoked.len(), Clients: []ClientStatus{}, Warnings: []string{}}
	for _, i := range set.all {
		as := AuthorityStatus{
			Issuer: i.id.String(), State: i.state, Root: i.root.Subject.CommonName, Fingerprint: fingerprint(i.root), RootNotAfter: i.root.NotAfter, IssuerNotAfter: i.cert.NotAfter,
			RootKey: "offline", Cross: len(i.cross) > 0, CreatedAt: i.createdAt,
		}
		switch {
		case i.state == StateRetired:
			as.RootKey = "none"
		case i.single():
			as.RootKey = "issuing"
		case i.rootKey != nil:
			as.RootKey = "database"
		}
		var err error
		if as.Live, err = a.live(ctx, a.db, i); err != nil {
			return st, err
		}
		st.Authorities = append(st.Authorities, as)
	}
	active := set.active()
	switch st.Authorities[0].RootKey {
	case "database":
		st.Warnings = append(st.Warnings, "the root's private key lies sealed in the database: take it offline with ca init --root-out FILE")
	case "issuing":
		st.Warnings = append(st.Warnings, "the root of an earlier hub issues with its own key: roll over to a root that can lie offline, with ca rotate --root-out FILE")
	}
	if left := active.cert.NotAfter.Sub(a.now()); left < warnBefore {
		st.Warnings = append(st.Warnings, fmt.Sprintf("what issues certificates ends on %s: replace it with ca rotate --intermediate, or ca rotate for the root too", active.cert.NotAfter.UTC().Format(time.DateOnly)))
	}
	if next := set.find(StateNext); next != nil {
		var err error
		if st.NotReady, err = a.notReady(ctx, a.db, next); err != nil {
			return st, err
		}
	}
	rows, err := a.db.Query(ctx, qClients, a.now())
	if err != nil {
		return st, fmt.Errorf("listing clients' certificates: %w", err)
	}
	clients, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ClientStatus])
	if err != nil {
		return st, fmt.Errorf("listing clients' certificates: %w", err)
	}
	st.Clients = append(st.Clients, clients...)
	return st, nil
}
