package pki

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// notifyChannel carries word of revocations and changed roots to every hub process.
const notifyChannel = "hashinsight_pki"

// Times and bounds of the set of revocations.
const (
	reloadEvery  = 10 * time.Minute // whole, whatever was noticed: what an earlier hub revoked is found by it
	watchTimeout = 3 * time.Second  // for one comparison with the database
	maxRevoked   = 1_000_000        // unexpired ones; about 200 MB
)

// revocation is a revoked certificate that has not expired.
type revocation struct {
	kind     string
	site     ident.SiteID // of kind site
	issuer   issuerID     // zero for the CA of an earlier hub
	why      string
	whole    bool // the site itself was revoked
	at       time.Time
	notAfter time.Time
}

// revocations is the set of them in memory, for checks that must not cost a query.
type revocations struct {
	mu      sync.RWMutex
	entries map[serial]revocation
	version uint64    // grows with each change
	since   string    // snapshot: transactions from this one on may hold news
	seen    time.Time // when it last agreed with the database
	whole   time.Time // when it was last read whole
	news    []revocation
}

func (r *revocations) get(s serial) (revocation, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.entries[s]
	return e, ok
}

func (r *revocations) has(s serial) bool {
	_, ok := r.get(s)
	return ok
}

func (r *revocations) len() int {
	n, _, _ := r.state()
	return n
}

// age is how long ago the set last agreed with the database; 0 before it was first read.
func (r *revocations) age(now time.Time) time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.seen.IsZero() {
		return 0
	}
	return max(0, now.Sub(r.seen))
}

// state says how current the set is.
func (r *revocations) state() (entries int, version uint64, seen time.Time) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.entries), r.version, r.seen
}

// of lists the revocations of one issuer.
func (r *revocations) of(i *issuer) (list map[serial]revocation, version uint64, seen time.Time) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list = map[serial]revocation{}
	for s, e := range r.entries {
		if e.issuer == i.id || e.issuer == (issuerID{}) && i.single() {
			list[s] = e
		}
	}
	return list, r.version, r.seen
}

// merge adds what was read; whole says that it is everything there is.
func (r *revocations) merge(read map[serial]revocation, since string, now time.Time, whole bool) (added int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s, e := range read {
		if _, known := r.entries[s]; !known {
			added++
			if !r.seen.IsZero() { // at the first reading nobody is connected yet
				r.news = append(r.news, e)
			}
		}
	}
	if whole {
		if len(read) != len(r.entries) || added > 0 {
			r.version++
		}
		r.entries, r.whole = read, now
	} else if added > 0 {
		maps.Copy(r.entries, read)
		r.version++
	}
	r.since, r.seen = since, now
	return added
}

// take returns the revocations that nobody was told of yet.
func (r *revocations) take() []revocation {
	r.mu.Lock()
	defer r.mu.Unlock()
	news := r.news
	r.news = nil
	return news
}

const (
	qSnapshot = `
SELECT pg_snapshot_xmin(pg_current_snapshot())::text, (SELECT public FROM hub_secret WHERE name = 'authorities'),
	EXISTS (SELECT FROM certificate WHERE revoked_xid >= $1::text::xid8)`
	qRevokedColumns = `
SELECT c.serial, c.kind, c.site_id, c.issuer, coalesce(c.revoked_why, ''), s.revoked_at IS NOT NULL, c.revoked_at, c.not_after
FROM certificate c LEFT JOIN site_certificate s ON s.site_id = c.site_id `
	qAllRevoked = qRevokedColumns + `WHERE c.revoked_at IS NOT NULL AND c.not_after > $1 LIMIT $2`
	qNewRevoked = qRevokedColumns + `WHERE c.revoked_xid >= $3::text::xid8 AND c.not_after > $1 LIMIT $2`
)

// reload reads all revocations.
func (a *Authority) reload(ctx context.Context) error { return a.compare(ctx, true) }

// compare makes memory agree with the database: roots and revocations, all of them or those since the last time. A transaction that the snapshot of the
// last time did not see has a number from its lower end on, so nothing is missed, whatever the order of commits.
func (a *Authority) compare(ctx context.Context, whole bool) error {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	now := a.now()
	a.revoked.mu.RLock()
	last := a.revoked.since
	whole = whole || last == "" || now.Sub(a.revoked.whole) >= reloadEvery || now.Before(a.revoked.whole)
	a.revoked.mu.RUnlock()
	if last == "" {
		last = "0"
	}
	var since string
	var generation []byte
	var news bool
	if err := a.db.QueryRow(ctx, qSnapshot, last).Scan(&since, &generation, &news); err != nil {
		return fmt.Errorf("reading what is revoked: %w", err)
	}
	if s := a.set.Load(); s != nil && string(generation) != string(generationBytes(s.generation)) {
		fresh, err := a.readAuthorities(ctx, a.db, qGetSecret)
		if err != nil {
			return err
		}
		a.adopt(ctx, fresh)
	}
	if !whole && !news {
		a.revoked.merge(nil, since, now, false)
		return nil
	}
	q, args := qNewRevoked, []any{now, maxRevoked, last}
	if whole {
		q, args = qAllRevoked, args[:2]
	}
	rows, err := a.db.Query(ctx, q, args...)
	if err != nil {
		return fmt.Errorf("reading what is revoked: %w", err)
	}
	read := map[serial]revocation{}
	var number, issued []byte
	var site *[16]byte
	var e revocation
	if _, err := pgx.ForEachRow(rows, []any{&number, &e.kind, &site, &issued, &e.why, &e.whole, &e.at, &e.notAfter}, func() error {
		if len(number) != len(serial{}) || len(issued) != 0 && len(issued) != len(issuerID{}) {
			a.log.ErrorContext(ctx, "a revoked certificate's row is malformed and passed over", "serial", fmt.Sprintf("%.40x", number))
			return nil // one such row must not keep the others back
		}
		e.site, e.issuer = ident.SiteID{}, issuerID{}
		if site != nil {
			e.site = ident.SiteID(*site)
		}
		copy(e.issuer[:], issued)
		read[serial(number)] = e
		return nil
	}); err != nil {
		return fmt.Errorf("reading what is revoked: %w", err)
	}
	if len(read) >= maxRevoked {
		a.log.ErrorContext(ctx, "more certificates are revoked than this process remembers: later ones are found at each call only", "known", len(read))
	}
	a.metrics.revoked.Add(float64(a.revoked.merge(read, since, now, whole)))
	return nil
}

// Ended is a revocation as Watch tells of it.
type Ended struct {
	Site ident.SiteID
	Why  string
	// Whole says that the site was revoked. Else one of its certificates was, which need not be the one that it uses.
	Whole bool
}

// Watch tells of every site of which a certificate is revoked, once, until ctx ends: at once by the database's notice, and by asking every few seconds for
// what a lost notice kept back. It also takes over new roots. It returns nil at the end of ctx.
func (a *Authority) Watch(ctx context.Context, revoked func(Ended)) error {
	var listening sync.WaitGroup
	notices := make(chan struct{}, 1)
	if !a.c.PollOnly {
		listening.Go(func() { a.listen(ctx, notices) })
	}
	defer listening.Wait()
	poll := time.NewTicker(a.c.Poll)
	defer poll.Stop()
	failing := false
	for {
		by := "poll"
		select {
		case <-ctx.Done():
			return nil
		case <-notices:
			by = "notice"
		case <-poll.C:
		}
		err := a.compare(ctx, false)
		a.tell(ctx, revoked)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			a.metrics.watch.WithLabelValues("failed").Inc()
			if !failing {
				a.log.WarnContext(ctx, "revocations cannot be read: sites revoked meanwhile go on until the database answers", "err", err)
			}
		default:
			a.metrics.watch.WithLabelValues(by).Inc()
		}
		failing = err != nil
	}
}

// tell passes on what is new, each site once.
func (a *Authority) tell(ctx context.Context, revoked func(Ended)) {
	told := map[ident.SiteID]bool{}
	for _, e := range slices.Backward(a.revoked.take()) {
		if e.kind != "site" || told[e.site] {
			continue
		}
		told[e.site] = true
		a.log.InfoContext(ctx, "site's certificate revoked", "site", e.site, "why", e.why, "whole", e.whole)
		revoked(Ended{Site: e.site, Why: e.why, Whole: e.whole})
	}
}

// listenRetry is the pause before listening again on a connection that broke.
const listenRetry = 2 * time.Second

// listen turns the database's notices into one token. It holds a connection of its own: one of a pool would be gone for good.
func (a *Authority) listen(ctx context.Context, notices chan<- struct{}) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		listened, err := a.listenOnce(ctx, notices)
		if ctx.Err() != nil {
			return
		}
		if listened || !failing {
			a.log.WarnContext(ctx, "no notices of revocations for now: they are asked for instead", "err", err)
		}
		failing = true
		pause.Reset(listenRetry)
	}
}

func (a *Authority) listenOnce(ctx context.Context, notices chan<- struct{}) (listened bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, a.db.Config().ConnConfig.Copy())
	if err != nil {
		return false, err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(stop) // it has failed, or nobody needs it any more
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+notifyChannel); err != nil {
		return false, err
	}
	for { // the first token: what was missed while not listening
		select {
		case notices <- struct{}{}:
		default: // one is waiting, and says the same
		}
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return true, err
		}
	}
}
