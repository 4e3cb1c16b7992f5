package proof

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// cursor is a place among a source's rows.
type cursor struct {
	a [16]byte
	b int64
	c [16]byte
}

// first is before all rows.
func first() cursor { return cursor{b: -1 << 63} }

// record is a row of a subject, with the entries that the log has of it or must get.
type record struct {
	at      cursor
	name    string // for people
	entries []format.Entry
	// key tells that an entry is found by site, event and key alone: what a key replaced is known only when it happens.
	key bool
	bad string // what is wrong with the row itself
}

// source is a subject whose rows have entries in the log.
type source struct {
	name string
	sql  string
	scan func(pgx.CollectableRow) (record, error)
}

const (
	qKeysFrom = `
SELECT site_id, ('x' || encode(key_id, 'hex'))::bit(64)::bigint, public_key, added_at, revoked_at FROM site_key
WHERE (site_id, ('x' || encode(key_id, 'hex'))::bit(64)::bigint, site_id) > ($1::uuid, $2::bigint, $3::uuid)
ORDER BY site_id, ('x' || encode(key_id, 'hex'))::bit(64)::bigint LIMIT $4`
	qTermsFrom = `
SELECT contract_id, version, terms, hash, recorded_at FROM contract_version WHERE (contract_id, version::bigint, contract_id) > ($1::uuid, $2::bigint, $3::uuid)
ORDER BY contract_id, version LIMIT $4`
	qExcusesFrom = `
SELECT id, kind, site_id, miners, from_ms, to_ms, recorded_at, ends FROM excuse WHERE (id, 0::bigint, id) > ($1::uuid, $2::bigint, $3::uuid) ORDER BY id LIMIT $4`
	qStatementsFrom = `
SELECT contract_id, month, seq, bytes, hash, coalesce(supersedes, ''), public_key, signature, issued_at FROM statement
WHERE (contract_id, month * 1000000::bigint + seq, contract_id) > ($1::uuid, $2::bigint, $3::uuid) ORDER BY contract_id, month * 1000000::bigint + seq LIMIT $4`
	// The payload is made again from what it says: the batch's own may have been moved to the archive.
	qHoursFrom = `
SELECT h.site_id, h.hour, h.spool_id, h.hour_seq, h.root, h.leaves, h.first_seq, h.last_seq, h.received_at, coalesce(b.header, ''), coalesce(b.signature, '')
FROM site_hour h LEFT JOIN batch b ON b.site_id = h.site_id AND b.spool_id = h.hour_spool AND b.seq = h.hour_seq
WHERE (h.site_id, h.hour, h.spool_id) > ($1::uuid, greatest($2::bigint, -1)::integer, $3::uuid) ORDER BY h.site_id, h.hour, h.spool_id LIMIT $4`
)

// sources are all of them, in the order in which they are caught up: keys first, so that an hour comes after the key that signed it.
func sources() []source {
	return []source{
		{"keys", qKeysFrom, scanKeyRow}, {"terms", qTermsFrom, scanTermsRow}, {"excuses", qExcusesFrom, scanExcuseRow}, {"statements", qStatementsFrom, scanStatementRow},
		{"hours", qHoursFrom, scanHourRow},
	}
}

func scanKeyRow(row pgx.CollectableRow) (r record, err error) {
	var public []byte
	var added time.Time
	var revoked *time.Time
	if err := row.Scan(&r.at.a, &r.at.b, &public, &added, &revoked); err != nil {
		return r, err
	}
	r.at.c, r.key = r.at.a, true
	r.name = fmt.Sprintf("key %s of site %s", ident.KeyIDOf(public), ident.SiteID(r.at.a))
	b := format.SiteKeyBody{Site: r.at.a, Event: format.KeyAdded}
	copy(b.Public[:], public)
	r.entries = append(r.entries, b.Entry(added.UnixMilli()))
	if revoked != nil {
		b.Event = format.KeyRetired
		r.entries = append(r.entries, b.Entry(revoked.UnixMilli()))
	}
	return r, nil
}

func scanTermsRow(row pgx.CollectableRow) (r record, err error) {
	var version int32
	var terms, hash []byte
	var recorded time.Time
	if err := row.Scan(&r.at.a, &version, &terms, &hash, &recorded); err != nil {
		return r, err
	}
	r.at.b, r.at.c = int64(version), r.at.a
	r.name = fmt.Sprintf("version %d of contract %s", version, uuid.UUID(r.at.a))
	b := format.TermsBody{Contract: r.at.a, Version: uint32(version), Hash: sha256.Sum256(terms)}
	if string(hash) != string(b.Hash[:]) {
		r.bad = "its terms do not have its hash"
	}
	r.entries = []format.Entry{b.Entry(recorded.UnixMilli())}
	return r, nil
}

func scanExcuseRow(row pgx.CollectableRow) (r record, err error) {
	var x sla.Excuse
	var kind string
	var miners [][16]byte
	var recorded time.Time
	var ends *uuid.UUID
	if err := row.Scan(&x.ID, &kind, (*[16]byte)(&x.Site), &miners, &x.FromMS, &x.ToMS, &recorded, &ends); err != nil {
		return r, err
	}
	x.Kind, x.RecordedMS = sla.ExcuseKind(kind), recorded.UnixMilli()
	for _, m := range miners {
		x.Miners = append(x.Miners, m)
	}
	if ends != nil {
		x.Ends = ident.UUID(*ends)
	}
	r.at = cursor{a: x.ID, c: x.ID}
	r.name = fmt.Sprintf("excuse %s", x.ID)
	b := format.ExcuseBody{ID: x.ID, Hash: x.Hash()}
	r.entries = []format.Entry{b.Entry(x.RecordedMS)}
	return r, nil
}

func scanStatementRow(row pgx.CollectableRow) (r record, err error) {
	var b format.StatementBody
	var month, seq int32
	var bytes, hash, supersedes, public, signature []byte
	var issued time.Time
	if err := row.Scan(&b.Contract, &month, &seq, &bytes, &hash, &supersedes, &public, &signature, &issued); err != nil {
		return r, err
	}
	r.at = cursor{b.Contract, int64(month)*1_000_000 + int64(seq), b.Contract}
	b.Month, b.Seq, b.Hash = uint32(month), uint32(seq), sha256.Sum256(bytes)
	r.name = fmt.Sprintf("statement %x", hash)
	if string(hash) != string(b.Hash[:]) {
		r.bad = "its bytes do not have its hash"
	}
	copy(b.Supersedes[:], supersedes)
	copy(b.Public[:], public)
	copy(b.Signature[:], signature)
	if len(public) != ed25519.PublicKeySize || evidence.VerifyStatement(public, bytes, signature) != nil {
		r.bad = "its signature is not its key's"
	}
	r.entries = []format.Entry{b.Entry(issued.UnixMilli())}
	return r, nil
}

func scanHourRow(row pgx.CollectableRow) (r record, err error) {
	var h evidence.Hour
	var hour, leaves int32
	var seq, firstSeq, lastSeq int64
	var root, header, signature []byte
	var received time.Time
	if err := row.Scan((*[16]byte)(&h.Site), &hour, (*[16]byte)(&h.Spool), &seq, &root, &leaves, &firstSeq, &lastSeq, &received, &header, &signature); err != nil {
		return r, err
	}
	r.at = cursor{h.Site, int64(hour), h.Spool}
	h.Hour, h.Leaves, h.FirstSeq, h.LastSeq = uint32(hour), uint32(leaves), uint64(firstSeq), uint64(lastSeq)
	copy(h.Root[:], root)
	r.name = fmt.Sprintf("hour %s of site %s, spool %s", time.Unix(int64(hour)*3600, 0).UTC().Format("2006-01-02T15"), h.Site, h.Spool)
	if len(header) == 0 {
		r.bad = "its batch is not in the ledger"
		return r, nil
	}
	b := format.HourBody{RawHeader: header, Signature: signature, Payload: h.Bytes()}
	e := b.Entry(received.UnixMilli())
	if _, err := format.ParseEntry(e.Bytes()); err == nil {
		r.entries = []format.Entry{e}
	} else {
		r.bad = "it is not what its batch says: " + err.Error()
	}
	return r, nil
}

// page reads rows of a source after a place.
func (src *source) page(ctx context.Context, q querier, after cursor, limit int) ([]record, error) {
	rows, err := q.Query(ctx, src.sql, after.a, after.b, after.c, limit)
	if err != nil {
		return nil, fmt.Errorf("reading %s for the log: %w", src.name, err)
	}
	list, err := pgx.CollectRows(rows, src.scan)
	if err != nil {
		return nil, fmt.Errorf("reading %s for the log: %w", src.name, err)
	}
	return list, nil
}

const (
	qCaught    = `UPDATE log_state SET catch_source = $1, catch_a = $2, catch_b = $3, catch_c = $4 WHERE id = 1`
	qCaughtUp  = `UPDATE log_state SET caught_up_at = coalesce(caught_up_at, $1), catch_source = $2 WHERE id = 1`
	qKeysNoted = `SELECT substring(body FROM 1 FOR 49) FROM log_entry WHERE kind = 2 AND substring(body FROM 1 FOR 49) = ANY($1)`
)

// Bounds of catching up in one run.
const (
	catchPage  = 1000
	catchPages = 50
)

// Between passes, the place of catching up. While a fleet of hubs is upgraded, those of the version before still record without a log: a second pass, a day after the
// first, takes what they did.
const (
	catchAgain = "again"
	catchDone  = "done"
	againAfter = 24 * time.Hour
)

// catchUp notes what happened before there was a log, and beside it: after an upgrade. It goes on where the last run ended.
func (s *Store) catchUp(ctx context.Context, st *state) error {
	if st.source == catchDone || st.source == catchAgain && s.c.Now().Before(st.caughtUp.Add(againAfter)) {
		return nil
	}
	all, at := sources(), cursor{st.a, st.b, st.c}
	n := 0
	for n < len(all) && st.source != "" && all[n].name != st.source {
		n++
	}
	if st.source == "" || n == len(all) {
		n, at = 0, first()
	}
	for range catchPages {
		src := &all[n]
		got := 0
		if err := s.inTx(ctx, func(tx pgx.Tx) error {
			list, err := src.page(ctx, tx, at, catchPage)
			if err != nil {
				return err
			}
			got = len(list)
			entries, err := s.missing(ctx, tx, src, list)
			if err != nil {
				return err
			}
			if err := Note(ctx, tx, entries...); err != nil {
				return err
			}
			next, place := src.name, at
			if got > 0 {
				place = list[got-1].at
			}
			if got < catchPage && n+1 < len(all) {
				next, place = all[n+1].name, first()
			}
			at = place
			_, err = tx.Exec(ctx, qCaught, next, place.a, place.b, place.c)
			return err
		}); err != nil {
			return fmt.Errorf("noting what is older than the log: %w", err)
		}
		s.metrics.caughtUp.Add(float64(got))
		if got == catchPage {
			continue
		}
		if n++; n == len(all) {
			next := catchAgain
			if !st.caughtUp.IsZero() {
				next = catchDone
			}
			if _, err := s.jobs.Exec(ctx, qCaughtUp, s.c.Now().UTC(), next); err != nil {
				return fmt.Errorf("noting what is older than the log: %w", err)
			}
			return nil
		}
	}
	return nil
}

// missing returns the entries of records that may not be in the log. A row that is bad itself gets none: Fsck names it.
func (s *Store) missing(ctx context.Context, q querier, src *source, list []record) (entries []format.Entry, err error) {
	for i := range list {
		r := &list[i]
		if r.bad != "" {
			s.c.Log.ErrorContext(ctx, "a row that is older than the log is not in it", "what", r.name, "why", r.bad)
			continue
		}
		entries = append(entries, r.entries...)
	}
	if src.name != "keys" || len(entries) == 0 {
		return entries, nil
	}
	noted, err := keysNoted(ctx, q, entries)
	if err != nil {
		return nil, err
	}
	out := entries[:0]
	for _, e := range entries {
		if !noted[string(e.Body[:49])] {
			out = append(out, e)
		}
	}
	return out, nil
}

// keysNoted returns which events of keys are noted, by the beginning of their bodies.
func keysNoted(ctx context.Context, q querier, entries []format.Entry) (map[string]bool, error) {
	want := make([][]byte, len(entries))
	for i := range entries {
		want[i] = entries[i].Body[:49]
	}
	rows, err := q.Query(ctx, qKeysNoted, want)
	if err != nil {
		return nil, fmt.Errorf("looking for keys in the log: %w", err)
	}
	noted := map[string]bool{}
	var prefix []byte
	_, err = pgx.ForEachRow(rows, []any{&prefix}, func() error {
		noted[string(prefix)] = true
		return nil
	})
	return noted, errors.Join(err)
}
