package proof_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/facts/factstest"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/proof"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/hub/internal/verify"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// The months of these tests are short: contracts begin in their last hours.
var december = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

// world is a hub's database with what it proves, the log beside it, and a chain that remembers what was anchored.
type world struct {
	*factstest.World
	t          *testing.T
	audit      *audit.Log
	customers  *customer.Store
	statements *statement.Store
	log        *proof.Store
	build      *proof.Builder
	evidence   ed25519.PrivateKey
	key        ed25519.PrivateKey // of checkpoints
	by         access.Actor
	acme       uuid.UUID
	address    [20]byte
	anchored   []recorded
	anchors    bool
}

// recorded is an anchor as the chain would tell of it.
type recorded struct {
	checkpoint []byte
	anchor     format.Anchor
	event      format.Event
}

func newWorld(t *testing.T, now time.Time) *world {
	t.Helper()
	w := &world{t: t, World: factstest.New(t, pgtest.New(t), now), by: access.Actor{ID: "test"}, address: [20]byte{7}, anchors: true}
	w.Register = func(ctx context.Context, tx pgx.Tx, site ident.SiteID, name string, key ed25519.PublicKey, at time.Time) error {
		return fleet.RegisterSite(ctx, tx, fleet.Registration{Site: site, Name: name, Key: key, At: at, Note: proof.Note})
	}
	var err error
	_, w.evidence, err = ed25519.GenerateKey(nil)
	w.Must(err)
	_, w.key, err = ed25519.GenerateKey(nil)
	w.Must(err)
	f, err := fleet.New(fleet.Config{Pool: w.Pool})
	w.Must(err)
	siteKey := func(ctx context.Context, site ident.SiteID, id ident.KeyID) (ed25519.PublicKey, error) {
		k, err := f.Key(ctx, site, id)
		return k.Public, err
	}
	w.audit, err = audit.New(audit.Config{Pool: w.Pool, Now: w.Now})
	w.Must(err)
	w.customers, err = customer.New(customer.Config{DB: w.Pool, Audit: w.audit, Now: w.Now, Changed: statement.Changed(w.Now), Closed: statement.Closed, Note: proof.Note})
	w.Must(err)
	w.Facts, err = facts.New(facts.Config{Pool: w.Pool, Audit: w.audit, Password: factstest.Password, Keys: siteKey, Now: w.Now, Note: proof.Note})
	w.Must(err)
	w.statements, err = statement.New(statement.Config{
		Pool: w.Pool, Customers: w.customers, Facts: w.Facts, Audit: w.audit, Key: func() ed25519.PrivateKey { return w.evidence }, SiteKey: siteKey, Now: w.Now, Note: proof.Note,
	})
	w.Must(err)
	w.log, err = proof.New(proof.Config{
		Pool: w.Pool, Dir: filepath.Join(t.TempDir(), "log"), Key: func() ed25519.PrivateKey { return w.key }, Evidence: func() ed25519.PrivateKey { return w.evidence }, Now: w.Now,
	})
	w.Must(err)
	w.build, err = proof.NewBuilder(proof.BuilderConfig{
		Log: w.log, Pool: w.Pool, Statements: w.statements, Facts: w.Facts, Key: w.logKey, SiteKey: siteKey, Covering: w.covering,
	})
	w.Must(err)
	u, err := w.customers.AddCustomer(t.Context(), w.by, "Acme")
	w.Must(err)
	w.acme = u.ID
	return w
}

func (w *world) logKey() ed25519.PublicKey { return w.key.Public().(ed25519.PublicKey) }

func (w *world) covering(_ context.Context, index uint64) (c proof.Covered, ok bool, err error) {
	for _, r := range w.anchored {
		if r.event.Size > index {
			return proof.Covered{Checkpoint: r.checkpoint, Anchor: r.anchor}, true, nil
		}
	}
	return c, false, nil
}

// Event implements format.Chain: the chain gives what was anchored, in final blocks.
func (w *world) Event(_ context.Context, a format.Anchor) (format.Event, error) {
	for _, r := range w.anchored {
		if r.anchor == a {
			return r.event, nil
		}
	}
	return format.Event{}, format.ErrNoEvent
}

// sequence does what the log's job does.
func (w *world) sequence() {
	w.t.Helper()
	w.Must(w.log.Run(w.t.Context()))
}

// anchor does what the anchor's job does, with a chain that takes everything at once.
func (w *world) anchor() {
	w.t.Helper()
	w.sequence()
	c, err := w.log.Checkpoint(w.t.Context())
	w.Must(err)
	n := uint64(len(w.anchored) + 1)
	r := recorded{checkpoint: c.Note, anchor: format.Anchor{ChainID: 31337, Contract: w.address, Seq: n, Block: 100 * n, Tx: sha256.Sum256(c.Note)}}
	r.event = format.Event{Seq: n, Hour: uint64(w.Now().Unix() / 3600), Root: c.Root, Size: c.Size, BlockTime: w.Now().Unix() + 2, BlockNumber: r.anchor.Block, TxHash: r.anchor.Tx, Finalized: true}
	if len(w.anchored) > 0 {
		r.event.PrevRoot = w.anchored[len(w.anchored)-1].event.Root
	}
	w.anchored = append(w.anchored, r)
}

// check is what somebody who brings the contract's address and the hub's keys finds.
func (w *world) check(b []byte) format.Report {
	return format.Check(w.t.Context(), bytes.NewReader(b), format.Trust{Contract: &w.address, Chain: w, LogKey: w.logKey(), HubKey: w.evidence.Public().(ed25519.PublicKey)}, verify.NewSLA())
}

// want checks a file's verdict.
func (w *world) want(v format.Verdict, b []byte) format.Report {
	w.t.Helper()
	r := w.check(b)
	if got := r.Verdict(); got != v {
		w.t.Errorf("%s: %s, want %s: %+v", r.Kind, got, v, r.Steps)
	}
	return r
}

func (w *world) contract(name string, from time.Time) uuid.UUID {
	w.t.Helper()
	t := sla.DefaultTerms()
	t.FromMS, t.RateMHs, t.FeeMinor, t.Currency = from.UnixMilli(), factstest.Contracted, 100_000, "EUR"
	c, _, err := w.customers.AddContract(w.t.Context(), w.by, w.acme, name, t)
	w.Must(err)
	return c.ID
}

func (w *world) assign(contract uuid.UUID, s *factstest.Site, miner int, from, to time.Time) {
	w.t.Helper()
	a := customer.NewAssignment{Site: s.ID, Miner: s.Miners[miner], FromMS: from.UnixMilli()}
	if !to.IsZero() {
		a.ToMS = to.UnixMilli()
	}
	_, err := w.customers.Assign(w.t.Context(), w.by, contract, []customer.NewAssignment{a})
	w.Must(err)
}

// issue closes November and returns the contract's statement.
func (w *world) issue(contract uuid.UUID) evidence.Hash {
	w.t.Helper()
	w.Set(december.Add(72*time.Hour + time.Minute))
	w.Must(w.Facts.Judge(w.t.Context(), w.Now()))
	w.Must(w.statements.Update(w.t.Context(), w.Now()))
	w.Must(w.statements.Close(w.t.Context(), w.Now()))
	list, err := w.statements.Statements(w.t.Context(), statement.Scope{}, statement.Filter{Contract: contract, Limit: 10})
	w.Must(err)
	if len(list) != 1 {
		w.t.Fatalf("%d statements", len(list))
	}
	return list[0].Hash
}

// month is a contract's November with everything a bundle can hold: miners that come and go, one that another contract has, one whose leaf is missing, an excuse, and an
// hour in dispute.
type month struct {
	*world
	site     *factstest.Site
	contract uuid.UUID
	from     time.Time
	hash     evidence.Hash
}

func newMonth(t *testing.T) *month {
	t.Helper()
	from := december.Add(-8 * time.Hour)
	w := newWorld(t, from.Add(-48*time.Hour))
	m := &month{world: w, site: w.Site("North", 6), from: from}
	w.anchor() // long before, of terms and keys alone
	m.contract = w.contract("Hosting", from)
	other := w.contract("Another", from)
	for i := range 3 {
		w.assign(m.contract, m.site, i, from, time.Time{})
	}
	w.assign(m.contract, m.site, 3, from.Add(100*time.Minute), from.Add(5*time.Hour))
	w.assign(other, m.site, 3, from.Add(5*time.Hour), time.Time{})
	w.assign(other, m.site, 4, from, time.Time{})
	_, err := w.customers.Excuse(t.Context(), w.by, customer.NewExcuse{
		Kind: sla.Maintenance, Site: m.site.ID, FromMS: from.Add(3 * time.Hour).UnixMilli(), ToMS: from.Add(4 * time.Hour).UnixMilli(), Note: "transformer",
	})
	w.Must(err)
	for i := range 8 {
		at := from.Add(time.Duration(i) * time.Hour)
		w.Set(at.Add(time.Hour + time.Minute))
		samples, signed := m.site.Hour(at, func(miner int, _ time.Time) factstest.Does {
			if miner == 1 && i == 2 {
				return factstest.Absent
			}
			return factstest.Hashes
		})
		if i == 7 { // the site signs what its batches do not give
			h := signed.Hour
			h.Root[0] ^= 1
			signed = m.site.SignHour(h)
		}
		m.site.Deliver(samples, signed)
	}
	m.hash = w.issue(m.contract)
	return m
}

// bundle writes a statement's bundle.
func (m *month) bundle() ([]byte, error) {
	u, err := m.build.Bundle(m.t.Context(), statement.Scope{}, m.hash)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = u.Write(m.t.Context(), &b)
	return b.Bytes(), err
}

func (m *month) hourProof(miner, hour int) ([]byte, error) {
	return m.build.Hour(m.t.Context(), statement.Scope{}, statement.Miner{Site: m.site.ID, Miner: m.site.Miners[miner]}, uint32(m.from.Unix()/3600)+uint32(hour), ident.SpoolID{})
}

// files makes one file of each kind.
func (m *month) files() map[string]func() ([]byte, error) {
	return map[string]func() ([]byte, error){
		"miner-hour": func() ([]byte, error) { return m.hourProof(0, 1) },
		"statement":  func() ([]byte, error) { return m.build.Statement(m.t.Context(), statement.Scope{}, m.hash) },
		"bundle":     m.bundle,
	}
}

func TestWhatTheHubHasIsProven(t *testing.T) {
	m := newMonth(t)
	for name, file := range m.files() {
		if _, err := file(); apperr.Of(err).Code != "CONFLICT_001" {
			t.Errorf("a %s of what has no place in the log yet: %v", name, err)
		}
	}
	m.sequence()
	for _, file := range m.files() {
		b, err := file()
		m.Must(err)
		r := m.want(format.NotFinal, b)
		if r.AnchorState != format.AnchorNone {
			t.Errorf("anchor state %d before there is an anchor that covers it", r.AnchorState)
		}
	}
	m.anchor()
	for name, file := range m.files() {
		b, err := file()
		m.Must(err)
		r := m.want(format.Proven, b)
		if r.Anchor != m.anchored[1].anchor {
			t.Errorf("%s: anchor %+v, want the first that covers it", name, r.Anchor)
		}
		if sla := slices.ContainsFunc(r.Steps, func(s format.Step) bool { return s.ID == format.StepSLA && s.State == format.OK }); sla != (name == "bundle") {
			t.Errorf("%s: the statement was computed again: %t", name, sla)
		}
		t.Logf("%s: %d bytes", name, len(b))
	}
	b, err := m.hourProof(0, 1)
	m.Must(err)
	if r := m.check(b); r.Leaf == nil || r.Leaf.Miner != m.site.Miners[0] || r.Leaf.Slots[5].Hashes == 0 {
		t.Errorf("the miner-hour is of %+v", r.Leaf)
	}
	if b, err = m.build.Statement(t.Context(), statement.Scope{}, m.hash); err != nil || m.check(b).StatementHash != m.hash {
		t.Errorf("another statement: %v", err)
	}
	// What the bundle holds of each hour: full leaves of who was assigned then, neighbours of who has none, and nobody of the disputed hour.
	b, err = m.bundle()
	m.Must(err)
	d, err := format.Open(bytes.NewReader(b))
	m.Must(err)
	p, err := d.StatementProof()
	m.Must(err)
	st, err := format.ParseStatement(p.Statement)
	m.Must(err)
	in, err := d.Inputs(st)
	m.Must(err)
	if len(in.Terms) != 1 || len(in.Assignments) != 4 || len(in.Excuses) != 1 || len(in.SiteKeys) != 1 || in.Hours != 8 {
		t.Fatalf("%d terms, %d assignments, %d excuses, %d keys, %d hours", len(in.Terms), len(in.Assignments), len(in.Excuses), len(in.SiteKeys), in.Hours)
	}
	for i, want := range []struct{ full, disputed int }{{3, 0}, {4, 0}, {3, 0}, {4, 0}, {4, 0}, {3, 0}, {3, 0}, {0, 3}} {
		var h format.BundleHour
		m.Must(d.NextHour(&h, 100))
		full := 0
		for _, e := range h.Entries {
			if !e.Bare {
				full++
			}
		}
		if full != want.full || len(h.Miners) != want.disputed {
			t.Errorf("hour %d: %d leaves and %d disputed miners, want %+v", i, full, len(h.Miners), want)
		}
	}
	m.Must(d.End())
}

// A hub without a chain says so in its files, and they are never final.
func TestAHubThatDoesNotAnchorSaysSo(t *testing.T) {
	m := newMonth(t)
	m.sequence()
	var err error
	c := m.builderConfig()
	c.Covering = nil
	m.build, err = proof.NewBuilder(c)
	m.Must(err)
	for _, file := range m.files() {
		b, err := file()
		m.Must(err)
		if r := m.want(format.NotFinal, b); r.AnchorState != format.AnchorNever {
			t.Errorf("anchor state %d", r.AnchorState)
		}
	}
}

func (w *world) builderConfig() proof.BuilderConfig {
	return proof.BuilderConfig{
		Log: w.log, Pool: w.Pool, Statements: w.statements, Facts: w.Facts, Key: w.logKey, Covering: w.covering,
		SiteKey: func(ctx context.Context, site ident.SiteID, id ident.KeyID) (ed25519.PublicKey, error) {
			f, err := fleet.New(fleet.Config{Pool: w.Pool})
			if err != nil {
				return nil, err
			}
			k, err := f.Key(ctx, site, id)
			return k.Public, err
		},
	}
}

// What is not signed, not agreed or somebody else's gives no file, and an error that says why.
func TestNoProofOfWhatIsNot(t *testing.T) {
	m := newMonth(t)
	m.anchor()
	hour := uint32(m.from.Unix() / 3600)
	theirs, err := m.customers.AddCustomer(t.Context(), m.by, "Umbra")
	m.Must(err)
	own, other := statement.Scope{Customer: m.acme}, statement.Scope{Customer: theirs.ID}
	nobody := statement.Miner{Site: m.site.ID, Miner: ident.NewMinerID()}
	mine := statement.Miner{Site: m.site.ID, Miner: m.site.Miners[0]}
	free := statement.Miner{Site: m.site.ID, Miner: m.site.Miners[5]} // of no contract
	late := statement.Miner{Site: m.site.ID, Miner: m.site.Miners[3]} // from the second hour on
	absent := statement.Miner{Site: m.site.ID, Miner: m.site.Miners[1]}
	for name, c := range map[string]struct {
		scope statement.Scope
		miner statement.Miner
		hour  uint32
		chain ident.SpoolID
		code  apperr.Code
	}{
		"its own":                       {own, mine, hour, ident.SpoolID{}, ""},
		"its own, of a chain":           {own, mine, hour, m.site.Spool, ""},
		"of another chain":              {own, mine, hour, ident.NewSpoolID(), "NOTFOUND_001"},
		"another customer's":            {other, mine, hour, ident.SpoolID{}, "NOTFOUND_001"},
		"before it belonged to them":    {own, late, hour, ident.SpoolID{}, "NOTFOUND_001"},
		"as soon as it belongs to them": {own, late, hour + 1, ident.SpoolID{}, ""},
		"nobody's, for a customer":      {own, free, hour, ident.SpoolID{}, "NOTFOUND_001"},
		"nobody's, for the operator":    {statement.Scope{}, free, hour, ident.SpoolID{}, ""},
		"a miner that does not exist":   {statement.Scope{}, nobody, hour, ident.SpoolID{}, "NOTFOUND_001"},
		"not polled in that hour":       {own, absent, hour + 2, ident.SpoolID{}, "NOTFOUND_001"},
		"in dispute":                    {own, mine, hour + 7, ident.SpoolID{}, "CONFLICT_001"},
		"an hour that nobody signed":    {statement.Scope{}, mine, hour + 20, ident.SpoolID{}, "NOTFOUND_001"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := m.build.Hour(t.Context(), c.scope, c.miner, c.hour, c.chain)
			if err == nil {
				m.want(format.Proven, b)
			}
			if apperr.Of(err).Code != c.code && (err != nil || c.code != "") {
				t.Errorf("%v, want code %q", err, c.code)
			}
		})
	}
	for _, hash := range []evidence.Hash{m.hash, {1}} {
		if _, err := m.build.Statement(t.Context(), other, hash); apperr.Of(err).Code != "NOTFOUND_001" {
			t.Errorf("the proof of %x: %v", hash[:4], err)
		}
		if _, err := m.build.Bundle(t.Context(), other, hash); apperr.Of(err).Code != "NOTFOUND_001" {
			t.Errorf("the bundle of %x: %v", hash[:4], err)
		}
		if _, err := m.build.Logged(t.Context(), other, hash); apperr.Of(err).Code != "NOTFOUND_001" {
			t.Errorf("the state of %x: %v", hash[:4], err)
		}
	}
	l, err := m.build.Logged(t.Context(), own, m.hash)
	if err != nil || !l.Placed || l.Size <= l.Index {
		t.Errorf("%+v, %v", l, err)
	}
}

// past changes the database past triggers and foreign keys, as somebody with the database's password can.
func (w *world) past(sql string, args ...any) {
	w.t.Helper()
	w.Must(pg.InTx(w.t.Context(), w.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(w.t.Context(), `SET LOCAL session_replication_role = replica`); err != nil {
			return err
		}
		tag, err := tx.Exec(w.t.Context(), sql, args...)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("no row was changed by %s", sql)
		}
		return err
	}))
}

// Rows that somebody has changed give no file that is proven: the builder refuses them, or the check does.
func TestAChangedRowIsNeverProven(t *testing.T) {
	m := newMonth(t)
	m.anchor()
	hour := int32(m.from.Unix()/3600) + 1
	page := func() {
		t.Helper()
		var packed []byte
		m.Must(m.Pool.QueryRow(t.Context(), `SELECT payload FROM leaf_page WHERE site_id = $1 AND hour = $2`, m.site.ID, hour).Scan(&packed))
		dec, err := zstd.NewReader(nil)
		m.Must(err)
		defer dec.Close()
		raw, err := dec.DecodeAll(packed, nil)
		m.Must(err)
		for at := 0; at < len(raw); at += evidence.LeafSize {
			l, err := evidence.ParseLeaf(raw[at : at+evidence.LeafSize])
			m.Must(err)
			if l.Miner == m.site.Miners[0] {
				l.Slots[3].Hashes ^= 1
				b, err := l.AppendBinary(nil)
				m.Must(err)
				copy(raw[at:], b)
			}
		}
		enc, err := zstd.NewWriter(nil)
		m.Must(err)
		m.past(`UPDATE leaf_page SET payload = $3 WHERE site_id = $1 AND hour = $2`, m.site.ID, hour, enc.EncodeAll(raw, nil))
	}
	sql := func(sql string, args ...any) func() { return func() { t.Helper(); m.past(sql, args...) } }
	flip := func(table, column string, at int, where string, args ...any) func() {
		return sql(fmt.Sprintf(`UPDATE %s SET %s = set_byte(%[2]s, %d, get_byte(%[2]s, %[3]d) # 1) WHERE %[4]s`, table, column, at, where), args...)
	}
	all := []string{"miner-hour", "statement", "bundle"}
	hours, statements, bundles := []string{"miner-hour", "bundle"}, []string{"statement", "bundle"}, []string{"bundle"}
	ofHour := fmt.Sprintf("site_id = '%s' AND hour = %d", m.site.ID, hour)
	ofBatch := fmt.Sprintf("(site_id, spool_id, seq) = (SELECT site_id, hour_spool, hour_seq FROM site_hour WHERE %s)", ofHour)
	hash := hex.EncodeToString(m.hash[:])
	at := bytes.Index(m.statement(), []byte(`"met":`)) + len(`"met":`)
	for name, c := range map[string]struct {
		do, undo func()
		refused  []string
	}{
		"a leaf":                    {page, page, hours},
		"an hour's root":            {flip("site_hour", "root", 5, ofHour), nil, hours},
		"an hour's state":           {sql(`UPDATE site_hour SET state = 3 - state WHERE ` + ofHour), nil, []string{"miner-hour"}}, // the bundle follows the statement
		"how many leaves it has":    {sql(`UPDATE site_hour SET leaves = leaves # 1 WHERE ` + ofHour), nil, hours},
		"which batch signs it":      {flip("site_hour", "header_hash", 0, ofHour), nil, hours},
		"a batch's header":          {flip("batch", "header", 40, ofBatch), nil, hours},
		"a batch's signature":       {flip("batch", "signature", 3, ofBatch), nil, hours},
		"a site's key":              {flip("site_key", "public_key", 3, "site_id = $1", m.site.ID), nil, hours},
		"a statement's bytes":       {flip("statement", "bytes", at, "hash = decode($1, 'hex')", hash), nil, statements},
		"a statement's signature":   {flip("statement", "signature", 9, "hash = decode($1, 'hex')", hash), nil, statements},
		"a statement's key":         {flip("statement", "public_key", 9, "hash = decode($1, 'hex')", hash), nil, statements},
		"a statement's number":      {sql(`UPDATE statement SET seq = 3 - seq WHERE hash = decode($1, 'hex')`, hash), nil, statements},
		"an excuse":                 {sql(`UPDATE excuse SET to_ms = to_ms + (CASE WHEN to_ms % 2 = 0 THEN 1 ELSE -1 END)`), nil, bundles},
		"when it was recorded":      {sql(`UPDATE excuse SET recorded_at = recorded_at + (CASE WHEN extract(milliseconds FROM recorded_at)::int % 2 = 0 THEN 1 ELSE -1 END) * interval '1 ms'`), nil, bundles},
		"an assignment":             {sql(`UPDATE contract_miner SET rate_mhs = rate_mhs # 1 WHERE contract_id = $1`, m.contract), nil, bundles},
		"terms":                     {sql(`UPDATE contract_version SET from_ms = from_ms # 1 WHERE contract_id = $1`, m.contract), nil, nil}, // the canonical bytes stand beside it
		"terms' bytes":              {sql(`UPDATE contract_version SET terms = convert_to(CASE WHEN strpos(convert_from(terms, 'UTF8'), '"fee_minor":100000') > 0 THEN replace(convert_from(terms, 'UTF8'), '"fee_minor":100000', '"fee_minor":100001') ELSE replace(convert_from(terms, 'UTF8'), '"fee_minor":100001', '"fee_minor":100000') END, 'UTF8') WHERE contract_id = $1`, m.contract), nil, bundles},
		"log entries' times":        {sql(`UPDATE log_entry SET noted_ms = noted_ms # 1`), nil, all},
		"the bodies of log entries": {flip("log_entry", "body", 30, "true"), nil, all},
		"places in the log":         {sql(`UPDATE log_entry SET idx = 1000000 - idx`), nil, all},
	} {
		t.Run(name, func(t *testing.T) {
			c.do()
			refused := map[string]error{}
			for kind, file := range m.files() {
				b, err := file()
				if err == nil {
					if r := m.check(b); r.Verdict() == format.Proven {
						continue
					}
					err = errors.New("the check refuses it")
				}
				refused[kind] = err
			}
			for _, kind := range c.refused {
				if refused[kind] == nil {
					t.Errorf("the %s is proven", kind)
				} else {
					t.Logf("%s: %v", kind, refused[kind])
				}
			}
			if c.undo == nil {
				c.undo = c.do
			}
			c.undo()
			for kind, file := range m.files() {
				b, err := file()
				m.Must(err)
				if r := m.check(b); r.Verdict() != format.Proven {
					t.Fatalf("put back, the %s is %s", kind, r.Verdict())
				}
			}
		})
	}
}

// statement returns the bytes of the month's statement.
func (m *month) statement() []byte {
	m.t.Helper()
	i, err := m.statements.Statement(m.t.Context(), statement.Scope{}, m.hash)
	m.Must(err)
	return i.Bytes
}

// A proof of a miner-hour goes into a mail: at most 4 kB, for a site of 10,000 miners and a log of 2^25 entries, which a thousand sites fill in four years.
func TestAMinerHourIsShort(t *testing.T) {
	m := newMonth(t)
	m.anchor()
	b, err := m.hourProof(0, 1)
	m.Must(err)
	d, err := format.Open(bytes.NewReader(b))
	m.Must(err)
	p, err := d.HourProof()
	m.Must(err)
	p.LeafPath = make([]evidence.Hash, 14) // 2^14 > 10,000
	p.Hour.Path, p.SiteKey.Path = make([]evidence.Hash, 25), make([]evidence.Hash, 25)
	c, err := format.OpenCheckpoint(p.Checkpoint, m.logKey())
	m.Must(err)
	c.Size = 1 << 25
	p.Checkpoint = c.Sign(m.key)
	b, err = p.AppendBinary(nil)
	if err != nil || len(b) > 4096 {
		t.Errorf("%d bytes, want at most 4096: %v", len(b), err)
	}
	t.Logf("%d bytes", len(b))
}

// A client that goes away in the middle, or a row that is changed while a bundle is written, ends it with an error: half a bundle is refused.
func TestHalfABundleIsNone(t *testing.T) {
	m := newMonth(t)
	m.anchor()
	u, err := m.build.Bundle(t.Context(), statement.Scope{}, m.hash)
	m.Must(err)
	if err := u.Write(t.Context(), gone{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("to a client that is gone: %v", err)
	}
	m.Exec(`DELETE FROM leaf_page WHERE hour = $1`, int32(m.from.Unix()/3600)+4)
	var b bytes.Buffer
	if err := u.Write(t.Context(), &b); err == nil {
		t.Error("a bundle without an hour's leaves was written")
	}
	m.want(format.False, b.Bytes())
}

type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
