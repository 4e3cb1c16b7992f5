package ingest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Dispositions of a stored batch.
const (
	dispositionStored      int16 = 1
	dispositionQuarantined int16 = 2
)

// qInsert stores the batches that are new. The link to the batch before is judged from that one's row, or is given where that one stands in the
// same statement.
const qInsert = `
INSERT INTO batch (site_id, spool_id, seq, kind, disposition, link_state, miners, samples, first_at, last_at, received_at, key_id, header_hash, header,
	signature, payload, skewed)
SELECT u.site_id, u.spool_id, u.seq, u.kind, u.disposition,
	CASE WHEN u.link_state > 0 THEN u.link_state WHEN p.header_hash IS NULL THEN 0 WHEN p.header_hash = substring(u.header FROM 65 FOR 32) THEN 1 ELSE 2 END,
	u.miners, u.samples, u.first_at, u.last_at, $16::timestamptz, u.key_id, u.header_hash, u.header, u.signature, u.payload, u.skewed
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::smallint[], $5::smallint[], $6::smallint[], $7::integer[], $8::integer[], $9::timestamptz[],
	$10::timestamptz[], $11::bytea[], $12::bytea[], $13::bytea[], $14::bytea[], $15::bytea[], $17::boolean[])
	u (site_id, spool_id, seq, kind, disposition, link_state, miners, samples, first_at, last_at, key_id, header_hash, header, signature, payload, skewed)
LEFT JOIN batch p ON p.site_id = u.site_id AND p.spool_id = u.spool_id AND p.seq = u.seq - 1
ON CONFLICT DO NOTHING
RETURNING site_id, spool_id, seq, link_state`

const qStored = `
SELECT b.site_id, b.spool_id, b.seq, b.disposition, b.received_at, b.header_hash, b.header, b.signature, coalesce(d.reason, '')
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) u (site_id, spool_id, seq)
JOIN batch b ON b.site_id = u.site_id AND b.spool_id = u.spool_id AND b.seq = u.seq
LEFT JOIN dead_letter d ON d.site_id = u.site_id AND d.spool_id = u.spool_id AND d.seq = u.seq`

const qFork = `
INSERT INTO batch_fork (site_id, spool_id, seq, hash_b, header_a, signature_a, header_b, signature_b, found_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`

// qForkRoom counts the proofs kept of a spool's forks and of a site's. There are never many: that is what it is for.
const qForkRoom = `SELECT count(*) FILTER (WHERE spool_id = $2), count(*) FROM batch_fork WHERE site_id = $1`

// sitesForks is how many spools of a site may be full of forks.
const sitesForks = 10

const qDeadRoom = `SELECT coalesce(sum(length(payload) + $2::bigint), 0)::bigint FROM dead_letter WHERE site_id = $1`

// deadOverhead is what a letter takes beside its payload, in bytes: header, signature, reason. It bounds the number of empty ones.
const deadOverhead = 500

const qDead = `
INSERT INTO dead_letter (site_id, spool_id, seq, header, signature, payload, reason, received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`

const qGap = `
INSERT INTO batch_gap (site_id, spool_id, first_seq, last_seq, first_at, last_at, miners, samples, reason, last_hash, gap_spool, gap_seq, received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`

const qTotals = `
INSERT INTO batch_total AS t (site_id, spool_id, batches, samples, quarantined, newest_seq, forks_not_kept, last_received_at)
SELECT u.site_id, u.spool_id, u.batches, u.samples, u.quarantined, u.newest_seq, u.forks, $8::timestamptz
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
	u (site_id, spool_id, batches, samples, quarantined, newest_seq, forks)
ON CONFLICT (site_id, spool_id) DO UPDATE SET batches = t.batches + excluded.batches, samples = t.samples + excluded.samples,
	quarantined = t.quarantined + excluded.quarantined, newest_seq = greatest(t.newest_seq, excluded.newest_seq),
	forks_not_kept = t.forks_not_kept + excluded.forks_not_kept,
	last_received_at = greatest(t.last_received_at, excluded.last_received_at)
RETURNING site_id, spool_id, newest_seq`

// written is what one transaction did to the ledger.
type written struct {
	answers  []answer // of the group, by index
	fresh    []*item  // stored for the first time
	links    map[batchKey]int16
	newest   map[batchKey]int64 // newest stored sequence number of each spool (seq 0 in the key)
	forks    []*item            // of which a proof was stored
	disputes []facts.Dispute    // of signed hours, that were kept
	unkept   map[batchKey]int64 // forks for which there was no room, of each spool (seq 0 in the key)
}

// batchColumns are the parameters of qInsert.
type batchColumns struct {
	sites, spools                         []pgtype.UUID
	seqs                                  []int64
	kinds, dispositions, links            []int16
	miners, samples                       []int32
	first, last                           []time.Time
	keys, hashes, headers, sigs, payloads [][]byte
	skewed                                []bool
}

func (c *batchColumns) add(i *item, link int16) {
	h := &i.header
	c.sites, c.spools, c.seqs = append(c.sites, uuidOf(h.Site)), append(c.spools, uuidOf(h.Spool)), append(c.seqs, int64(h.Seq))
	disposition, payload := dispositionStored, i.payload
	if i.poison != "" {
		disposition, payload = dispositionQuarantined, nil
	}
	c.kinds, c.dispositions, c.links = append(c.kinds, int16(h.Kind)), append(c.dispositions, disposition), append(c.links, link)
	c.miners, c.samples = append(c.miners, clamp32(h.Miners)), append(c.samples, clamp32(h.Samples))
	c.first, c.last = append(c.first, timeOf(h.FirstMS)), append(c.last, timeOf(h.LastMS))
	c.keys, c.hashes = append(c.keys, h.Key[:]), append(c.hashes, i.hash[:])
	c.headers, c.sigs, c.payloads = append(c.headers, i.raw), append(c.sigs, i.signature), append(c.payloads, payload)
	c.skewed = append(c.skewed, i.skewed)
}

// writeLedger stores the new batches of a group, whose names are unique, and finds out about the others.
func (s *Server) writeLedger(ctx context.Context, tx pgx.Tx, group []*item, at time.Time) (*written, error) {
	w := &written{answers: make([]answer, len(group)), links: map[batchKey]int16{}, newest: map[batchKey]int64{}, unkept: map[batchKey]int64{}}
	index := make(map[batchKey]int, len(group))
	for n, i := range group {
		index[i.key()] = n
	}
	order := slices.Clone(group) // by key, so that two transactions cannot block each other for good
	slices.SortFunc(order, func(a, b *item) int { return a.key().compare(b.key()) })
	full, err := s.deadLettersFull(ctx, tx, order)
	if err != nil {
		return nil, err
	}
	var c batchColumns
	for _, i := range order {
		if i.poison != "" && full[i.header.Site] {
			w.answers[index[i.key()]] = answer{result: resultNoRoom, reason: fmt.Sprintf("%s; and the site's quarantine is full: look at what lies there, at the hub, and empty it", i.poison)}
			continue
		}
		c.add(i, linkWithin(i, group, index))
	}
	rows, err := tx.Query(ctx, qInsert, c.sites, c.spools, c.seqs, c.kinds, c.dispositions, c.links, c.miners, c.samples, c.first, c.last, c.keys, c.hashes,
		c.headers, c.sigs, c.payloads, at, c.skewed)
	if err != nil {
		return nil, fmt.Errorf("storing batches: %w", err)
	}
	var k batchKey
	var seq int64
	var link int16
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&k.site), (*[16]byte)(&k.spool), &seq, &link}, func() error {
		k.seq = uint64(seq)
		n, ok := index[k]
		if !ok {
			return fmt.Errorf("the database returned batch %d, which was not written", seq)
		}
		w.links[k] = link
		w.fresh = append(w.fresh, group[n])
		w.answers[n] = answer{result: resultStored, at: at}
		if group[n].poison != "" {
			w.answers[n] = answer{result: resultQuarantined, at: at, reason: group[n].poison}
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("storing batches: %w", err)
	}
	if err := s.writeKinds(ctx, tx, w, at); err != nil {
		return nil, err
	}
	return w, s.judgeStored(ctx, tx, w, group, index, at)
}

// linkWithin judges the link of i to a batch of the same statement, which is stored in the same moment or known under the same name.
func linkWithin(i *item, group []*item, index map[batchKey]int) int16 {
	if i.header.Seq == 1 {
		return linkOK
	}
	k := i.key()
	k.seq--
	n, ok := index[k]
	switch {
	case !ok:
		return linkPending
	case group[n].hash == i.header.Prev:
		return linkOK
	default:
		return linkBroken
	}
}

// writeKinds stores what new batches mean beyond their row: quarantine, gaps and signed hours.
func (s *Server) writeKinds(ctx context.Context, tx pgx.Tx, w *written, at time.Time) (err error) {
	var hours []facts.Signed
	for _, i := range w.fresh {
		h := &i.header
		if i.poison != "" {
			if _, err := tx.Exec(ctx, qDead, uuidOf(h.Site), uuidOf(h.Spool), int64(h.Seq), i.raw, i.signature, i.payload, clip(i.poison, 1000), at); err != nil {
				return fmt.Errorf("storing a batch in quarantine: %w", err)
			}
		}
		if err := i.writeGap(ctx, tx, at); err != nil {
			return err
		}
		if i.hour != nil {
			hours = append(hours, i.signed())
		}
	}
	w.disputes, err = s.c.Facts.Keep(ctx, tx, hours, at)
	return err
}

// signed is the hour that i signs.
func (i *item) signed() facts.Signed {
	return facts.Signed{
		Hour: *i.hour, Spool: i.header.Spool, Seq: i.header.Seq, Header: i.hash, Batch: proof.HourBody{RawHeader: i.raw, Signature: i.signature, Payload: i.payload},
	}
}

// writeGap stores the gap that i declares, if it does.
func (i *item) writeGap(ctx context.Context, tx pgx.Tx, at time.Time) error {
	h, g := &i.header, i.gap
	if g == nil {
		return nil
	}
	if _, err := tx.Exec(ctx, qGap, uuidOf(h.Site), uuidOf(g.Spool), int64(g.FirstSeq), int64(g.LastSeq), timeOf(g.FirstMS), timeOf(g.LastMS),
		int64(g.Miners), int64(min(g.Samples, math.MaxInt64)), int16(g.Reason), g.LastHash[:], uuidOf(h.Spool), int64(h.Seq), at); err != nil {
		return fmt.Errorf("storing a gap record: %w", err)
	}
	return nil
}

// judgeStored answers the batches of a group whose names were stored before: the same again is acknowledged again, another one is a fork, whose proof is kept.
func (s *Server) judgeStored(ctx context.Context, tx pgx.Tx, w *written, group []*item, index map[batchKey]int, at time.Time) error {
	var c batchColumns
	for n, i := range group {
		if w.answers[n].result == "" {
			c.add(i, 0)
		}
	}
	if len(c.seqs) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, qStored, c.sites, c.spools, c.seqs)
	if err != nil {
		return fmt.Errorf("comparing batches with stored ones: %w", err)
	}
	type fork struct {
		item              *item
		header, signature []byte
	}
	var forks []fork
	var k batchKey
	var seq int64
	var disposition int16
	var received time.Time
	var hash, header, signature []byte
	var reason string
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&k.site), (*[16]byte)(&k.spool), &seq, &disposition, &received, &hash, &header, &signature, &reason}, func() error {
		k.seq = uint64(seq)
		n := index[k]
		i := group[n]
		switch {
		case evidence.Hash(hash) != i.hash:
			forks = append(forks, fork{i, slices.Clone(header), slices.Clone(signature)})
			w.answers[n] = answer{result: resultFork, reason: fmt.Sprintf("another batch %d of this spool is stored: two agents sign with one key, or a copy of a spool is in use; the proof is kept", seq)}
		case disposition == dispositionQuarantined:
			w.answers[n] = answer{result: resultQuarantined, at: received, reason: reason, duplicate: true}
		default:
			w.answers[n] = answer{result: resultStored, at: received, duplicate: true}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("comparing batches with stored ones: %w", err)
	}
	for n, i := range group {
		if w.answers[n].result == "" {
			return fmt.Errorf("batch %d of spool %s was neither stored nor found", i.header.Seq, i.header.Spool)
		}
	}
	var relink []batchKey
	for _, f := range forks {
		h := &f.item.header
		full, err := s.forksFull(ctx, tx, h)
		if err != nil {
			return err
		}
		if full {
			w.unkept[batchKey{h.Site, h.Spool, 0}]++
			w.answers[index[f.item.key()]].reason = fmt.Sprintf("another batch %d of this spool is stored: two agents sign with one key, or a copy of a spool is in use; "+
				"so many proofs of that are kept that this one is only counted", h.Seq)
		} else {
			tag, err := tx.Exec(ctx, qFork, uuidOf(h.Site), uuidOf(h.Spool), int64(h.Seq), f.item.hash[:], f.header, f.signature, f.item.raw, f.item.signature, at)
			if err != nil {
				return fmt.Errorf("storing the proof of a fork: %w", err)
			}
			if tag.RowsAffected() > 0 { // agents try a refused batch again once a day
				w.forks = append(w.forks, f.item)
			}
		}
		// Its successor in this group was linked to a batch that is not the stored one.
		relink = append(relink, batchKey{h.Site, h.Spool, h.Seq + 1})
	}
	_, err = judgeLinks(ctx, tx, relink, []int16{linkPending, linkOK, linkBroken})
	return err
}

// forksFull reports whether enough proofs are kept of the forks of a spool, or of all spools of its site. Two transactions at once may pass the
// bound by as many as they hold.
func (s *Server) forksFull(ctx context.Context, tx pgx.Tx, h *evidence.Header) (bool, error) {
	var spool, site int64
	if err := tx.QueryRow(ctx, qForkRoom, uuidOf(h.Site), uuidOf(h.Spool)).Scan(&spool, &site); err != nil {
		return false, fmt.Errorf("counting proofs of forks: %w", err)
	}
	most := int64(s.c.MaxForks)
	if spool < most && site < sitesForks*most {
		return false, nil
	}
	s.metrics.bounds.WithLabelValues("forks").Inc()
	return true, nil
}

func (s *Server) deadLettersFull(ctx context.Context, tx pgx.Tx, group []*item) (map[[16]byte]bool, error) {
	used := map[[16]byte]int64{}
	full := map[[16]byte]bool{}
	for _, i := range group {
		if i.poison == "" {
			continue
		}
		site := [16]byte(i.header.Site)
		if _, ok := used[site]; !ok {
			var n int64
			if err := tx.QueryRow(ctx, qDeadRoom, uuidOf(site), deadOverhead).Scan(&n); err != nil {
				return nil, fmt.Errorf("measuring a quarantine: %w", err)
			}
			used[site] = n
		}
		if used[site] += int64(len(i.payload)) + deadOverhead; used[site] > s.c.MaxDeadBytes {
			full[site] = true
			s.metrics.bounds.WithLabelValues("quarantine").Inc()
		}
	}
	return full, nil
}

// writeTotals keeps the running totals. It comes last in the transaction, because transactions of one spool wait for each other here.
func (s *Server) writeTotals(ctx context.Context, tx pgx.Tx, w *written, at time.Time) error {
	type total struct{ batches, samples, quarantined, newest, forks int64 }
	totals := map[batchKey]*total{}
	for _, i := range w.fresh {
		k := batchKey{i.header.Site, i.header.Spool, 0}
		t := totals[k]
		if t == nil {
			t = &total{}
			totals[k] = t
		}
		t.batches++
		t.newest = max(t.newest, int64(i.header.Seq))
		if i.poison != "" {
			t.quarantined++
		} else {
			t.samples += int64(i.header.Samples)
		}
	}
	for k, n := range w.unkept {
		if totals[k] == nil {
			totals[k] = &total{}
		}
		totals[k].forks = n
	}
	if len(totals) == 0 {
		return nil
	}
	keys := make([]batchKey, 0, len(totals))
	for k := range totals {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, batchKey.compare)
	var sites, spools []pgtype.UUID
	var c [5][]int64
	for _, k := range keys {
		t := totals[k]
		sites, spools = append(sites, uuidOf(k.site)), append(spools, uuidOf(k.spool))
		for n, v := range []int64{t.batches, t.samples, t.quarantined, t.newest, t.forks} {
			c[n] = append(c[n], v)
		}
	}
	rows, err := tx.Query(ctx, qTotals, sites, spools, c[0], c[1], c[2], c[3], c[4], at)
	if err != nil {
		return fmt.Errorf("adding up batches: %w", err)
	}
	var k batchKey
	var newest int64
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&k.site), (*[16]byte)(&k.spool), &newest}, func() error {
		w.newest[k] = newest
		return nil
	}); err != nil {
		return fmt.Errorf("adding up batches: %w", err)
	}
	return nil
}

func (k batchKey) compare(o batchKey) int {
	if c := slices.Compare(k.site[:], o.site[:]); c != 0 {
		return c
	}
	if c := slices.Compare(k.spool[:], o.spool[:]); c != 0 {
		return c
	}
	switch {
	case k.seq < o.seq:
		return -1
	case k.seq > o.seq:
		return 1
	}
	return 0
}

func uuidOf(id [16]byte) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

func clamp32(u uint32) int32 { return int32(min(u, math.MaxInt32)) }

// timeOf is a header's time as far as the database can hold it: the years 1970 to 9999. The header itself is kept as it is.
func timeOf(ms int64) time.Time { return time.UnixMilli(min(max(ms, 0), 253402300799999)).UTC() }
