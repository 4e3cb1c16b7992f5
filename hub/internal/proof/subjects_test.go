package proof

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

func newKey(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pub, key
}

// past does what the hub's subjects do, with a log or, before there was one, without.
type past struct {
	w         *world
	now       time.Time
	note      func(context.Context, pgx.Tx, ...format.Entry) error
	customers *customer.Store
	facts     *facts.Store
}

func (w *world) past(note func(context.Context, pgx.Tx, ...format.Entry) error) *past {
	w.t.Helper()
	p := &past{w: w, now: time.Now().UTC().Truncate(time.Millisecond), note: note}
	l, err := audit.New(audit.Config{})
	if err == nil {
		p.customers, err = customer.New(customer.Config{DB: w.pool, Audit: l, Note: note, Now: func() time.Time { return p.now }})
	}
	if err == nil {
		p.facts, err = facts.New(facts.Config{Pool: w.pool, Audit: l, Note: note})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (p *past) must(err error) {
	p.w.t.Helper()
	if err != nil {
		p.w.t.Fatal(err)
	}
}

func (p *past) join(name string, key ed25519.PublicKey, replace bool) (site ident.SiteID) {
	p.w.t.Helper()
	p.must(pg.InTx(p.w.t.Context(), p.w.pool, func(tx pgx.Tx) error {
		j, err := fleet.JoinSite(p.w.t.Context(), tx, fleet.Join{Name: name, Key: key, ReplaceKey: replace, At: p.now, Note: p.note})
		site = j.Site
		return err
	}))
	return site
}

// hour stores a signed hour as ingest does.
func (p *past) hour(site ident.SiteID, key ed25519.PrivateKey, spool ident.SpoolID, hour uint32, seq uint64, root byte) {
	p.w.t.Helper()
	h := evidence.Hour{Site: site, Hour: hour, Spool: spool, FirstSeq: 1, LastSeq: seq - 1, Leaves: 3, Root: evidence.Hash{root}}
	payload := h.Bytes()
	begin := int64(hour) * evidence.HourMS
	head := evidence.Header{
		Kind: evidence.KindHour, Schema: evidence.SchemaFirst, Codec: evidence.CodecNone, Site: site, Key: ident.KeyIDOf(key.Public().(ed25519.PublicKey)), Spool: spool, Seq: seq, Prev: evidence.Hash{1},
		Payload: sha256.Sum256(payload), PayloadLen: uint32(len(payload)), Miners: 3, FirstMS: begin, LastMS: begin + evidence.HourMS - 1,
	}
	raw := head.Bytes()
	hash := head.Hash()
	signature := evidence.SignHeader(key, raw)
	p.must(pg.InTx(p.w.t.Context(), p.w.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(p.w.t.Context(), `
INSERT INTO batch (site_id, spool_id, seq, kind, disposition, link_state, miners, samples, first_at, last_at, received_at, key_id, header_hash, header, signature, payload)
VALUES ($1, $2, $3, 3, 1, 0, 3, 0, $4, $4, $4, $5, $6, $7, $8, $9)`, site, spool, int64(seq), p.now, head.Key[:], hash[:], raw, signature, payload); err != nil {
			return err
		}
		_, err := p.facts.Keep(p.w.t.Context(), tx, []facts.Signed{{
			Hour: h, Spool: spool, Seq: seq, Header: hash, Batch: format.HourBody{RawHeader: raw, Signature: signature, Payload: payload},
		}}, p.now)
		return err
	}))
}

// happen lets one thing of each kind happen, and returns how many entries of each kind that makes.
func (p *past) happen() map[format.EntryKind]int {
	t, ctx := p.w.t, p.w.t.Context()
	t.Helper()
	first, _ := newKey(t.(*testing.T))
	second, private := newKey(t.(*testing.T))
	p.join("north", first, false)
	p.join("north", first, false) // again changes nothing
	p.now = p.now.Add(time.Minute)
	site := p.join("north", second, true)
	by := access.Actor{ID: "test"}
	c, err := p.customers.AddCustomer(ctx, by, "Acme")
	p.must(err)
	terms := sla.DefaultTerms()
	terms.FeeMinor, terms.Currency, terms.RateMHs = 100, "EUR", 1000
	k, _, err := p.customers.AddContract(ctx, by, c.ID, "Hall 1", terms)
	p.must(err)
	p.now = p.now.Add(time.Minute)
	terms.FromMS = p.now.Add(24 * time.Hour).UnixMilli()
	_, _, err = p.customers.Amend(ctx, by, k.ID, func(sla.Terms) sla.Terms { return terms })
	p.must(err)
	begin := p.now.Add(48 * time.Hour).UnixMilli()
	x, err := p.customers.Excuse(ctx, by, customer.NewExcuse{Kind: sla.Maintenance, Site: site, FromMS: begin, ToMS: begin + 3_600_000})
	p.must(err)
	_, err = p.customers.EndExcuse(ctx, by, uuid.UUID(x.ID), begin+1_800_000)
	p.must(err)
	hour, spool := uint32(p.now.Unix()/3600-2), ident.NewSpoolID()
	p.hour(site, private, spool, hour, 10, 1)
	p.hour(site, private, spool, hour+1, 20, 2)
	return map[format.EntryKind]int{format.EntrySiteKey: 3, format.EntryTerms: 2, format.EntryExcuse: 2, format.EntryHour: 2}
}

func (w *world) kinds() map[format.EntryKind]int {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), `SELECT kind, count(*) FROM log_entry GROUP BY 1`)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[format.EntryKind]int{}
	var kind int16
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&kind, &n}, func() error {
		out[format.EntryKind(kind)] = n
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) wantKinds(want map[format.EntryKind]int) {
	w.t.Helper()
	got := w.kinds()
	for k, n := range want {
		if got[k] != n {
			w.t.Errorf("%d entries of kind %s, want %d", got[k], k, n)
		}
	}
}

// What subjects do is in the log with it, and fsck finds every row's entry and every entry's row.
func TestWhatHappensIsNoted(t *testing.T) {
	w := newWorld(t)
	w.run() // there was nothing to catch up with
	p := w.past(Note)
	want := p.happen()
	w.wantKinds(want)
	w.run()
	w.wantKinds(want) // and nothing is noted twice
	w.wantFsck(w.store, "")
	list, err := w.store.Entries(t.Context(), format.EntrySiteKey, 0, 10)
	if err != nil || len(list) != 3 {
		t.Fatal(len(list), err)
	}
	added, err1 := format.ParseSiteKeyBody(list[2].Entry.Body)
	retired, err2 := format.ParseSiteKeyBody(list[1].Entry.Body)
	last, err3 := format.ParseSiteKeyBody(list[0].Entry.Body)
	if err1 != nil || err2 != nil || err3 != nil || added.Event != format.KeyAdded || retired.Event != format.KeyRetired || retired.Public != added.Public || last.Event != format.KeyAdded || last.Replaces != added.Public {
		t.Errorf("a site's keys: %+v, %+v, %+v", added, retired, last)
	}
	if got, ok, err := w.store.FindSiteKey(t.Context(), format.SiteKeyBody{Site: last.Site, Event: format.KeyAdded, Public: last.Public}); err != nil || !ok || got.Index != list[0].Index {
		t.Errorf("a site's key is found at %d: %t, %v", got.Index, ok, err)
	}
	// A second root of one hour is the site's word too.
	hours := w.kinds()[format.EntryHour]
	b, err := format.ParseHourBody(w.newestOf(format.EntryHour).Entry.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, other := newKey(t)
	p.hour(b.Header.Site, other, b.Hour.Spool, b.Hour.Hour, 30, 99)
	w.wantKinds(map[format.EntryKind]int{format.EntryHour: hours + 1})
}

func (w *world) newestOf(kind format.EntryKind) Placed {
	w.t.Helper()
	list, err := w.store.Entries(w.t.Context(), kind, 0, 1)
	if err != nil || len(list) != 1 {
		w.t.Fatalf("%d entries: %v", len(list), err)
	}
	return list[0]
}

// A transaction that is undone leaves nothing in the log.
func TestWhatWasUndoneIsNotNoted(t *testing.T) {
	w := newWorld(t)
	tx, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, _ := newKey(t)
	if _, err := fleet.JoinSite(t.Context(), tx, fleet.Join{Name: "north", Key: key, At: time.Now(), Note: Note}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wantKinds(map[format.EntryKind]int{format.EntrySiteKey: 0})
}

// After an upgrade what is older than the log gets its entries, once, with the times that it was recorded at; what is noted meanwhile is not doubled.
func TestWhatIsOlderThanTheLogIsCaughtUp(t *testing.T) {
	w := newWorld(t)
	want := w.past(nil).happen()
	w.wantKinds(map[format.EntryKind]int{})
	w.run()
	want[format.EntryHubKey] = 1
	w.wantKinds(want)
	w.wantFsck(w.store, "")
	w.run()
	w.wantKinds(want)
	x := w.newestOf(format.EntryExcuse)
	var ms int64
	if err := w.pool.QueryRow(t.Context(), `SELECT max(floor(extract(epoch FROM recorded_at) * 1000))::bigint FROM excuse`).Scan(&ms); err != nil || x.Entry.AtMS != ms {
		t.Errorf("an excuse that was recorded at %d has an entry of %d: %v", ms, x.Entry.AtMS, err)
	}
	// The same again, from the beginning: a hub that ended in the middle does no harm.
	w.exec(`UPDATE log_state SET caught_up_at = NULL, catch_source = ''`)
	w.run()
	w.wantKinds(want)
	w.wantFsck(w.store, "")
}

// While hubs are upgraded one after the other, the older ones still record without a log. A day later that is caught up too.
func TestWhatAnOlderHubRecordsBesideTheLogIsCaughtUp(t *testing.T) {
	w := newWorld(t)
	w.run()
	want := w.past(nil).happen()
	w.run()
	w.wantKinds(map[format.EntryKind]int{format.EntryTerms: 0})
	w.store.c.Now = func() time.Time { return time.Now().Add(25 * time.Hour) }
	w.run()
	w.wantKinds(want)
	w.wantFsck(w.store, "")
	w.run()
	if st, err := w.store.state(t.Context(), w.pool); err != nil || st.source != catchDone {
		t.Errorf("catching up is at %q: %v", st.source, err)
	}
}

// Rows of subjects that were edited, put in or taken away without the log are found.
func TestEditedRowsAreFound(t *testing.T) {
	for name, c := range map[string]struct{ sql, want string }{
		"terms":              {`UPDATE contract_version SET terms = convert_to(replace(convert_from(terms, 'UTF8'), '"fee_minor":100', '"fee_minor":999'), 'UTF8')`, "its terms do not have its hash"},
		"an excuse":          {`UPDATE excuse SET to_ms = to_ms + 1`, "is not in the log as it is"},
		"a key":              {`UPDATE site_key SET public_key = decode(repeat('07', 32), 'hex') WHERE revoked_at IS NULL`, "is not in the log as it is"},
		"an hour":            {`UPDATE site_hour SET root = decode(repeat('07', 32), 'hex')`, "it is not what its batch says"},
		"an excuse is gone":  {`DELETE FROM excuse WHERE ends IS NOT NULL`, "records an excuse that is not in the database any more"},
		"terms are gone":     {`DELETE FROM contract_version WHERE version = 2`, "records terms that is not in the database any more"},
		"a batch is another": {`UPDATE batch SET signature = decode(repeat('07', 64), 'hex')`, "is not in the log as it is"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.run()
			w.past(Note).happen()
			w.run()
			w.exec(c.sql)
			w.wantFsck(w.store, c.want)
		})
	}
}
